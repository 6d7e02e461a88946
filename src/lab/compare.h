// Policies on the same traffic: every arm with every seed, on as many threads as there are cores,
// and what of the differences is more than noise.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "lab/replay.h"
#include "lab/summary.h"
#include "sched/scheduler.h"
#include "workload/workload.h"

namespace penstock::lab {

struct Arm {
  std::string name;
  // From any thread.
  std::function<Result<std::unique_ptr<sched::Scheduler>>()> make_scheduler;
  bool engines_tell = false;  // as in ReplayOptions
};

struct CompareOptions {
  std::string workload;                                                          // for the reports
  std::string fleet;                                                             // the same
  std::function<Result<std::unique_ptr<workload::Source>>(uint64_t seed)> open;  // from any thread
  ReplayOptions replay;                                                          // seed apart
  Slo slo;
  std::vector<Arm> arms;
  uint32_t seeds = 5;
  uint64_t first_seed = 1;
  uint32_t threads = 1;
};

// A number over the seeds.
struct Estimate {
  double mean = 0;
  double half_width = 0;  // of the 95 % confidence interval (Student); 0 for a single seed
  std::vector<double> runs;
};
Estimate EstimateOf(std::vector<double> runs);

struct ArmResult {
  std::string name;
  std::vector<std::pair<std::string, Estimate>> numbers;  // in the order of Summary::Numbers
  std::vector<uint64_t> digests;                          // by seed
  const Estimate& Of(std::string_view number) const;
};

struct Comparison {
  std::string workload, fleet;
  uint32_t seeds = 0;
  double virtual_seconds = 0;  // of all runs together
  double wall_seconds = 0;     // of a thread, the same
  std::vector<ArmResult> arms;
};

// `progress` is called after each run, with how many there are, from one thread at a time.
Result<Comparison> Compare(const CompareOptions& options,
                           const std::function<void(size_t done, size_t all)>& progress = {});

// How `arm` stands against `other` in a number, seed by seed.
enum class Verdict : uint8_t { kBetter, kNoise, kWorse };
Verdict Judge(const ArmResult& arm, const ArmResult& other, std::string_view number);
// Index of the arm with the best mean of a number.
size_t BestArm(const Comparison& comparison, std::string_view number);

std::string RenderTable(const Comparison& comparison);  // for a terminal
std::string RenderJson(const Comparison& comparison);
std::string RenderHtml(const Comparison& comparison, std::string_view command);

}  // namespace penstock::lab
