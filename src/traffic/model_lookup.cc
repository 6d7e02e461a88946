#include "traffic/model_lookup.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <utility>

#include "traffic/answer.h"

namespace penstock::traffic {
namespace {

namespace json = boost::json;

constexpr size_t kMaxBodyBytes = 1 << 20;
const http::CallOptions kCallOptions = {.first_byte_timeout = seconds(10),
                                        .idle_timeout = seconds(10)};

}  // namespace

std::optional<std::string> FirstModel(std::string_view body) {
  json::error_code bad;
  const json::value value = json::parse(body, bad);
  if (bad || !value.is_object()) return std::nullopt;
  const json::value* data = value.get_object().if_contains("data");
  if (data == nullptr || !data->is_array()) return std::nullopt;
  for (const json::value& model : data->get_array()) {
    const json::value* id = model.is_object() ? model.get_object().if_contains("id") : nullptr;
    if (id != nullptr && id->is_string() && !id->get_string().empty()) {
      return std::string(id->get_string().data(), id->get_string().size());
    }
  }
  return std::nullopt;
}

ModelLookup::ModelLookup(http::Client& client, const Target& target,
                         std::function<void(Result<std::string>)> done)
    : address_(AddressOf(target)), done_(std::move(done)) {
  std::string head = fmt::format(
      "GET /v1/models HTTP/1.1\r\nHost: {}\r\nUser-Agent: penstock-traffic\r\n\r\n", address_);
  call_ = client.Send(target.host, target.port, std::move(head), {}, kCallOptions, *this);
}

void ModelLookup::OnHead(const http::ResponseHead& head) { status_ = head.status; }

void ModelLookup::OnBody(std::string_view piece) {
  body_ += piece.substr(0, kMaxBodyBytes - body_.size());
}

void ModelLookup::OnEnd() {
  if (status_ != 200) {
    return done_(Fail(Code::kUnavailable, fmt::format("http://{}/v1/models answered {}: {}",
                                                      address_, status_, ErrorText(body_))));
  }
  std::optional<std::string> model = FirstModel(body_);
  if (!model) {
    return done_(Fail(Code::kNotFound,
                      fmt::format("http://{}/v1/models names no model; give --model", address_)));
  }
  done_(std::move(*model));
}

void ModelLookup::OnFailure(http::CallFailure, std::string_view message) {
  done_(Fail(Code::kUnavailable,
             fmt::format("the gateway at http://{} cannot be asked for its models: {}", address_,
                         message)));
}

}  // namespace penstock::traffic
