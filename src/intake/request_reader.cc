#include "intake/request_reader.h"

#include <chrono>
#include <utility>

namespace penstock::intake {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr std::string_view kDefaultFlow = "default-flow";

bool IsUsableId(std::string_view id) {
  if (id.empty() || id.size() > kMaxRequestIdBytes) return false;
  for (char c : id) {
    const bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.' || c == ':' || c == '/' || c == '+' ||
                    c == '=';
    if (!ok) return false;
  }
  return true;
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
  IncomingRequest incoming;
  incoming.request.id = std::move(id);
  incoming.request.headers = std::move(headers);
  incoming.route = route;
  if (auto read = bodies_.Read(route, body, &incoming.request, &incoming.edits); !read) {
    return std::unexpected(read.error());
  }
  const std::string_view rewrite =
      Either(incoming.request, "x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite");
  const bool is_rewritten = !rewrite.empty() && incoming.edits.RewriteModel(rewrite);
  incoming.request.target_model = is_rewritten ? std::string(rewrite) : incoming.request.model;
  const std::string_view fairness =
      Either(incoming.request, "x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id");
  incoming.fairness_id = fairness.empty() ? kDefaultFlow : fairness;
  return incoming;
}

int64_t UnixMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace penstock::intake
