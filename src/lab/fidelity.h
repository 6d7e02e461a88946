// How close the engine model comes to what was measured: real runs replayed by their arrivals, and
// published serving numbers reproduced in closed loop.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "lab/engine_run.h"
#include "lab/vllm_run.h"

namespace penstock::lab {

// A real run and the same requests on the model.
struct FidelityRun {
  std::string name;     // of the folder
  std::string profile;  // name or path
  VllmRun real;
  RunResult simulated;
  engine::EngineOptions engine;  // that it was simulated with
  LatencyMeans real_means, simulated_means;
};
// Engine flags that the run states override the profile's.
Result<FidelityRun> ReplayVllmRun(const std::string& folder, std::string_view profile);

// A published measurement in closed loop.
struct Anchor {
  std::string_view profile;
  uint32_t concurrency;
  uint32_t prompt_tokens, output_tokens;
  double tpot_ms, ttft_ms, tokens_per_s;  // 0: not published
  std::string_view source;
};
std::span<const Anchor> Anchors();
struct AnchorResult {
  double tpot_ms = 0, ttft_ms = 0, tokens_per_s = 0;
};
Result<AnchorResult> RunAnchor(const Anchor& anchor);

struct FidelityReport {
  std::string markdown;
  std::vector<std::pair<std::string, std::string>> pictures;  // file name, SVG
};
// `command` made it; `picture_folder` is where the pictures lie, relative to the page.
Result<FidelityReport> MakeFidelityReport(std::span<const FidelityRun> runs,
                                          std::string_view command,
                                          std::string_view picture_folder);

}  // namespace penstock::lab
