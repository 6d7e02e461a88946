#include <algorithm>
#include <iterator>
#include <string>

#include "api/request.h"
#include "core/text.h"

namespace penstock::api {
namespace {

struct Route {
  std::string_view path;  // without /v1
  model::Api api;
};
constexpr Route kRoutes[] = {
    {"/chat/completions", model::Api::kChatCompletions},
    {"/completions", model::Api::kCompletions},
    {"/responses", model::Api::kResponses},
    {"/embeddings", model::Api::kEmbeddings},
    {"/messages", model::Api::kMessages},
    {"/tokenize", model::Api::kTokenize},
    {"/rerank", model::Api::kRerank},
    {"/score", model::Api::kScore},
};

// The destination header has relatives (-subset, -served): the whole family is the router's.
constexpr std::string_view kDestinationFamily = "x-gateway-destination-endpoint";

constexpr std::string_view kControlHeaders[] = {
    "epp-profile",
    "test-epp-endpoint-selection",
    "x-data-parallel-host-port",
    "x-encoder-hosts-ports",
    "x-gateway-inference-fairness-id",
    "x-gateway-inference-objective",
    "x-gateway-model-name-rewrite",
    "x-kv-cache-source-host-port",
    "x-llm-d-inference-fairness-id",
    "x-llm-d-inference-objective",
    "x-llm-d-model-name-rewrite",
    "x-llm-d-request-dropped-reason",
    "x-llm-d-slo-tpot-ms",
    "x-llm-d-slo-ttft-ms",
    "x-llm-d-video-duration-seconds",
    "x-llm-d-video-fps",
    "x-llm-d-video-resolution",
    "x-prefiller-host-port",
    "x-slo-tpot-ms",
    "x-slo-ttft-ms",
    "x-went-into-resp-headers",
};

}  // namespace

model::Api ClassifyPath(std::string_view path) {
  path = path.substr(0, path.find_first_of("?#"));
  std::string decoded;
  if (path.find('%') != std::string_view::npos) path = decoded = PercentDecoded(path);
  if (path == "/v2/rerank") return model::Api::kRerank;
  if (path.starts_with("/v1/")) path.remove_prefix(3);
  const auto* const route = std::ranges::find(kRoutes, path, &Route::path);
  return route == std::end(kRoutes) ? model::Api::kOther : route->api;
}

bool IsControlHeader(std::string_view name) {
  if (name.size() >= kDestinationFamily.size() &&
      EqualsIgnoreCase(name.substr(0, kDestinationFamily.size()), kDestinationFamily)) {
    return true;
  }
  return std::ranges::any_of(kControlHeaders, [name](std::string_view known) {
    return name.size() == known.size() && EqualsIgnoreCase(name, known);
  });
}

}  // namespace penstock::api
