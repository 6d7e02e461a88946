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

struct FidelityReport {
  std::string markdown;
  std::vector<std::pair<std::string, std::string>> pictures;  // file name, SVG
};
// `command` made it; `picture_folder` is where the pictures lie, relative to the page.
Result<FidelityReport> MakeFidelityReport(std::span<const FidelityRun> runs,
                                          std::string_view command,
                                          std::string_view picture_folder);

}  // namespace penstock::lab
