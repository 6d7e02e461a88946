#include "intake/request_reader.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

namespace penstock::intake {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr std::string_view kDefaultFlow = "default-flow";

constexpr auto kIsOfId = [] {
  std::array<bool, 256> is_one{};
  for (const char c : std::string_view("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                       "0123456789-_.:/+=")) {
    is_one[static_cast<unsigned char>(c)] = true;
  }
  return is_one;
}();

bool IsUsableId(std::string_view id) {
  if (id.empty() || id.size() > kMaxRequestIdBytes) return false;
  return std::ranges::all_of(id, [](char c) { return kIsOfId[static_cast<unsigned char>(c)]; });
}

// The header's value under its name, or under the one it had before.
std::string_view Either(const model::Request& request, std::string_view name,
                        std::string_view old_name) {
  const std::string_view value = request.Header(name);
  return value.empty() ? request.Header(old_name) : value;
}

}  // namespace

std::string RequestReader::RequestId(std::string_view given) {
  if (IsUsableId(given)) return std::string(given);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string id(32, '0');
  for (size_t half = 0; half < 2; ++half) {
    uint64_t bits = random_.Next();
    for (size_t i = 0; i < 16; ++i, bits >>= 4) id[half * 16 + i] = kHex[bits & 15];
  }
  return id;
}

std::expected<IncomingRequest, api::ApiError> RequestReader::Read(
    const api::Route& route, std::string id, std::vector<model::HeaderView> headers,
    const std::string& body) {
  std::expected<IncomingRequest, api::ApiError> made;
  model::Request& request = made->request;
  request.id = std::move(id);
  request.headers = std::move(headers);
  made->route = route;
  if (auto read = bodies_.Read(route, body, &request, &made->edits); !read) {
    return std::unexpected(read.error());
  }
  const std::string_view rewrite =
      Either(request, "x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite");
  const bool is_rewritten = !rewrite.empty() && made->edits.RewriteModel(rewrite);
  request.target_model = is_rewritten ? std::string(rewrite) : request.model;
  const std::string_view fairness =
      Either(request, "x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id");
  made->fairness_id = fairness.empty() ? kDefaultFlow : fairness;
  return made;
}

int64_t UnixMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace penstock::intake
