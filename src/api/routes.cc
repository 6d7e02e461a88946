#include <algorithm>
#include <array>
#include <cstdint>

#include "api/parsers.h"
#include "api/request.h"
#include "core/text.h"

namespace penstock::api {
namespace {

// The destination header has relatives (-subset, -served): the whole family is the router's.
constexpr std::string_view kDestinationFamily = "x-gateway-destination-endpoint";

constexpr auto kControlHeaders = std::to_array<std::string_view>({
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
});
constexpr size_t kMaxLength = 31;
constexpr auto kByLength = [] {
  auto names = kControlHeaders;
  std::ranges::sort(names, {}, &std::string_view::size);
  return names;
}();
static_assert(std::ranges::all_of(kByLength, [](std::string_view name) {
  return std::string_view("xte").contains(name[0]) && name.size() > 2 && name[2] >= 'a' &&
         name[2] <= 'z';
}));
// Where the names of a length begin in kByLength.
constexpr auto kFirstOfLength = [] {
  std::array<uint8_t, kMaxLength + 2> first{};
  for (size_t length = 0; length < first.size(); ++length) {
    first[length] = static_cast<uint8_t>(std::ranges::count_if(
        kByLength, [&](std::string_view name) { return name.size() < length; }));
  }
  return first;
}();
static_assert(kFirstOfLength.back() == kByLength.size());

}  // namespace

model::Api ClassifyPath(std::string_view path) {
  return ParserSet::Default().FindWhole(path)->api;  // a passthrough parser is among them
}

bool IsControlHeaderOfItsLetter(std::string_view name) {
  // Few other headers are as long as one of them: 20 of a request cost 3,900 instructions without.
  if (name.size() >= kDestinationFamily.size() &&
      EqualsIgnoreCase(name.substr(0, kDestinationFamily.size()), kDestinationFamily)) {
    return true;
  }
  if (name.size() > kMaxLength) return false;
  for (size_t i = kFirstOfLength[name.size()]; i < kFirstOfLength[name.size() + 1]; ++i) {
    // The third letter sets most apart: "x-request-id", "x-slo-ttft-ms".
    const std::string_view control = kByLength[i];
    if ((name[2] | 0x20) == control[2] && EqualsIgnoreCase(name, control)) return true;
  }
  return false;
}

}  // namespace penstock::api
