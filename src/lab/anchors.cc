#include "lab/anchors.h"

#include <algorithm>
#include <vector>

#include "engine/profile.h"
#include "lab/engine_run.h"

namespace penstock::lab {
namespace {

constexpr std::string_view kH100 = "h100-qwen3-32b";
constexpr std::string_view kPair = "h100-qwen3-32b-tp2";
constexpr std::string_view kH200 = "h200-gpt-oss-120b";
// On the way to an engine elsewhere: the 215 ms to the first token of a request alone, less the 111
// that the engine takes, rounded. How far apart requests that leave at once arrive is inferred from
// the mean TTFT of 32 at once; KV blocks, from how many of 64 decoded at once.
constexpr double kFarMs = 100, kFarGapMs = 12;
constexpr uint32_t kBlocks = 1600;

constexpr Anchor kPublished[] = {
    {"", kH100, 1, 1024, 128, 32, kFarMs, kFarGapMs, true, kBlocks, 23.7, 215, 39.7},
    {"", kH100, 16, 1024, 128, 256, kFarMs, kFarGapMs, true, kBlocks, 29.3, 1150, 421},
    {"", kH100, 32, 256, 256, 256, kFarMs, kFarGapMs, true, kBlocks, 27.2, 411, 1114},
    {"", kH100, 64, 1024, 128, 512, kFarMs, kFarGapMs, true, kBlocks, 37, 10'900, 496},
    {"", kH100, 1, 1024, 128, 32, 0, 0, false, kBlocks, 23.8, 116, 40.7},
    {"", kPair, 1, 8192, 1, 10, 0, 0, false, 0, 0, 400, 0},
    {"", kH200, 1, 8000, 1, 10, 0, 0, false, 0, 0, 250, 0},
    {"", kH200, 1, 16000, 1, 10, 0, 0, false, 0, 0, 510, 0},
    {"", kH200, 1, 32000, 1, 10, 0, 0, false, 0, 0, 1173, 0},
    {"", kH200, 1, 48000, 1, 10, 0, 0, false, 0, 0, 1988, 0},
};

// From an answer's last token to the next request in the engine's queue; from one request to the
// next.
constexpr double kNearMs = 0.8, kNearGapMs = 0.4;
constexpr Anchor kOwn[] = {
    {"1", kH100, 1, 1024, 128, 5, kNearMs, kNearGapMs, true, 0, 25.08, 97.8, 39.0},
    {"16", kH100, 16, 1024, 128, 96, kNearMs, kNearGapMs, true, 0, 29.87, 969.4, 429.1},
    {"16-far", kH100, 16, 1024, 128, 128, 110 + kNearMs, kNearGapMs, true, 0, 29.56, 1145.5, 417.6},
    {"32", kH100, 32, 256, 256, 96, kNearMs, kNearGapMs, true, 0, 27.24, 476.2, 1101.6},
    {"32-far", kH100, 32, 256, 256, 128, 110 + kNearMs, 12, true, 0, 27.99, 456.3, 1077.0},
    {"64-far", kH100, 64, 1024, 128, 256, 110 + kNearMs, kNearGapMs, true, 0, 44.15, 7931.3, 546.6},
};

}  // namespace

std::span<const Anchor> PublishedAnchors() { return kPublished; }
std::span<const Anchor> OwnAnchors() { return kOwn; }

Result<AnchorResult> RunAnchor(const Anchor& anchor, Without without) {
  const auto profile = engine::LoadProfile(anchor.profile);
  if (!profile) return std::unexpected(profile.error());
  RunOptions options;
  options.engine = profile->Options();
  if (anchor.blocks > 0) options.engine.num_blocks = anchor.blocks;
  if (without == Without::kAsyncScheduling) options.engine.async_scheduling = false;
  options.concurrency = anchor.concurrency;
  if (without != Without::kDelay) options.client_delay = FromSeconds(anchor.delay_ms * 1e-3);
  if (without != Without::kGap) options.client_gap = FromSeconds(anchor.gap_ms * 1e-3);
  options.warm_up = anchor.has_warm_up && without != Without::kWarmUp;
  const std::vector<RunRequest> requests(
      anchor.requests,
      RunRequest{.prompt_tokens = anchor.prompt_tokens, .output_tokens = anchor.output_tokens});
  const auto run = RunEngine(requests, options);
  if (!run) return std::unexpected(run.error());
  const LatencyMeans means = MeansOf(requests, run->requests);
  return AnchorResult{
      means.tpot * 1e3, means.ttft * 1e3,
      static_cast<double>(run->stats.generation_tokens) / std::max(1e-9, ToSeconds(run->end))};
}

}  // namespace penstock::lab
