#include <algorithm>

#include "api/parsers.h"
#include "api/request.h"
#include "core/text.h"

namespace penstock::api {
namespace {

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
static_assert(std::ranges::all_of(kControlHeaders, [](std::string_view name) {
  return name.front() == 'x' || name.front() == 'e' || name.front() == 't';
}));
constexpr uint64_t kControlLengths = [] {
  uint64_t lengths = 0;
  for (const std::string_view name : kControlHeaders) lengths |= uint64_t{1} << name.size();
  return lengths;
}();

}  // namespace

model::Api ClassifyPath(std::string_view path) {
  return ParserSet::Default().FindWhole(path)->api;  // a passthrough parser is among them
}

bool IsControlHeader(std::string_view name) {
  // They all begin with one of these letters, and few other headers are as long as one of them: 20
  // of a request cost 3,900 instructions without.
  const char first = name.empty() ? '\0' : static_cast<char>(name.front() | 0x20);
  if (first != 'x' && first != 'e' && first != 't') return false;
  if (name.size() >= kDestinationFamily.size() &&
      EqualsIgnoreCase(name.substr(0, kDestinationFamily.size()), kDestinationFamily)) {
    return true;
  }
  if (name.size() >= 64 || (kControlLengths >> name.size() & 1) == 0) return false;
  return std::ranges::any_of(kControlHeaders, [name](std::string_view known) {
    return name.size() == known.size() && EqualsIgnoreCase(name, known);
  });
}

}  // namespace penstock::api
