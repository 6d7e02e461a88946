#include "lab/compare.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <chrono>
#include <cmath>
#include <mutex>
#include <optional>
#include <thread>

namespace penstock::lab {
namespace {

// Two-sided 95 % points of Student's t by degrees of freedom.
constexpr std::array<double, 30> kStudent = {
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};

struct RunOutput {
  std::vector<std::pair<std::string, double>> numbers;
  uint64_t digest = 0;
  double virtual_seconds = 0, wall_seconds = 0;
};

Result<RunOutput> RunOnce(const CompareOptions& options, const Arm& arm, uint64_t seed) {
  auto scheduler = arm.make_scheduler();
  if (!scheduler) return std::unexpected(scheduler.error());
  auto source = options.open(seed);
  if (!source) return std::unexpected(source.error());
  ReplayOptions replay = options.replay;
  replay.seed = seed;
  replay.engines_tell = arm.engines_tell;
  const auto before = std::chrono::steady_clock::now();
  Summary summary(options.slo);
  const auto totals =
      Replay(std::move(replay), std::move(*scheduler)).Run(**source, [&](const Outcome& outcome) {
        summary.Add(outcome);
      });
  if (!totals) return std::unexpected(totals.error());
  summary.Close(*totals);
  return RunOutput{summary.Numbers(), totals->digest, ToSeconds(totals->end),
                   ToSeconds(std::chrono::steady_clock::now() - before)};
}

}  // namespace

Estimate EstimateOf(std::vector<double> runs) {
  Estimate estimate;
  const auto n = static_cast<double>(runs.size());
  for (const double run : runs) estimate.mean += run / n;
  if (runs.size() > 1) {
    double squares = 0;
    for (const double run : runs) squares += (run - estimate.mean) * (run - estimate.mean);
    const size_t freedom = std::min(runs.size() - 1, kStudent.size());
    estimate.half_width = kStudent[freedom - 1] * std::sqrt(squares / (n - 1) / n);
  }
  estimate.runs = std::move(runs);
  return estimate;
}

const Estimate& ArmResult::Of(std::string_view number) const {
  const auto found = std::find_if(numbers.begin(), numbers.end(),
                                  [&](const auto& entry) { return entry.first == number; });
  assert(found != numbers.end());
  return found->second;
}

Result<Comparison> Compare(const CompareOptions& options,
                           const std::function<void(size_t, size_t)>& progress) {
  const size_t all = options.arms.size() * options.seeds;
  std::vector<std::optional<RunOutput>> outputs(all);
  std::atomic<size_t> next{0};
  std::mutex mutex;  // of what follows
  std::optional<Error> error;
  size_t done = 0;
  const auto work = [&] {
    for (size_t i = next.fetch_add(1); i < all; i = next.fetch_add(1)) {
      const Arm& arm = options.arms[i / options.seeds];
      auto output = RunOnce(options, arm, options.first_seed + i % options.seeds);
      const std::lock_guard lock(mutex);
      if (output) {
        outputs[i] = std::move(*output);
      } else if (!error) {
        error = Error{output.error().code, arm.name + ": " + output.error().message};
        next = all;
      }
      if (++done; progress) progress(done, all);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (uint32_t t = 1; t < options.threads; ++t) threads.emplace_back(work);
    work();
  }
  if (error) return std::unexpected(*error);

  Comparison comparison{
      .workload = options.workload, .fleet = options.fleet, .seeds = options.seeds, .arms = {}};
  for (size_t a = 0; a < options.arms.size(); ++a) {
    ArmResult& arm = comparison.arms.emplace_back();
    arm.name = options.arms[a].name;
    const RunOutput& first = *outputs[a * options.seeds];
    for (size_t k = 0; k < first.numbers.size(); ++k) {
      std::vector<double> runs;
      for (size_t s = 0; s < options.seeds; ++s) {
        runs.push_back(outputs[a * options.seeds + s]->numbers[k].second);
      }
      arm.numbers.emplace_back(first.numbers[k].first, EstimateOf(std::move(runs)));
    }
    for (size_t s = 0; s < options.seeds; ++s) {
      const RunOutput& output = *outputs[a * options.seeds + s];
      arm.digests.push_back(output.digest);
      comparison.virtual_seconds += output.virtual_seconds;
      comparison.wall_seconds += output.wall_seconds;
    }
  }
  return comparison;
}

Verdict Judge(const ArmResult& arm, const ArmResult& other, std::string_view number) {
  const Estimate& a = arm.Of(number);
  const Estimate& b = other.Of(number);
  std::vector<double> differences;
  for (size_t i = 0; i < a.runs.size(); ++i) differences.push_back(a.runs[i] - b.runs[i]);
  const Estimate difference = EstimateOf(std::move(differences));
  if (a.runs.size() < 2 || std::fabs(difference.mean) <= difference.half_width) {
    return Verdict::kNoise;
  }
  return (difference.mean > 0) == IsBetterHigher(number) ? Verdict::kBetter : Verdict::kWorse;
}

size_t BestArm(const Comparison& comparison, std::string_view number) {
  size_t best = 0;
  for (size_t i = 1; i < comparison.arms.size(); ++i) {
    const double mean = comparison.arms[i].Of(number).mean;
    const double so_far = comparison.arms[best].Of(number).mean;
    if (IsBetterHigher(number) ? mean > so_far : mean < so_far) best = i;
  }
  return best;
}

}  // namespace penstock::lab
