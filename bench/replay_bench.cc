// What virtual time costs: traffic of 20 requests/s through the brain and eight simulated engines.
// CPU an item is that of one decision with all that belongs to it: the request's text, the engines'
// steps, scrapes. `times_real_time` is seconds of traffic for one second of a core.
//
//   cmake --preset bench && cmake --build build/bench --target replay_bench
//   build/bench/bin/replay_bench
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>

#include "engine/profile.h"
#include "lab/replay.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "workload/generated_source.h"
#include "workload/open.h"

namespace penstock {
namespace {

constexpr uint32_t kEngines = 8;
constexpr double kRate = 20;  // requests a second
constexpr Duration kTraffic = seconds(200);
constexpr uint32_t kLongest = 32'768;  // tokens of a request

template <class T>
T Need(Result<T> result) {
  if (result) return std::move(*result);
  std::cerr << result.error().message << "\n";
  std::exit(1);
}

lab::ReplayOptions Engines() {
  const engine::Profile profile = Need(engine::LoadProfile("h100-qwen3-32b-tp2"));
  lab::ReplayOptions options;
  for (uint32_t i = 0; i < kEngines; ++i) {
    options.engines.push_back({"engine-" + std::to_string(i + 1), profile.Options()});
  }
  return options;
}

void BM_Replay(benchmark::State& state, const char* name, const char* policy) {
  const lab::ReplayOptions options = Engines();
  const sched::SchedulingSpec spec = Need(sched::BuiltinPolicy(policy));
  workload::Workload workload = Need(workload::LoadWorkload(name));
  workload.load.stages = {{.rate = kRate, .duration = kTraffic}};
  double traffic_s = 0, decisions = 0, steps = 0;
  for (auto _ : state) {
    config::Diagnostics diagnostics;
    auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
    const auto source = workload::Generate(workload, 1, {.max_model_len = kLongest});
    const lab::ReplayTotals totals =
        Need(lab::Replay(options, std::move(scheduler)).Run(*source, [](const lab::Outcome&) {}));
    traffic_s += ToSeconds(totals.end);
    decisions += static_cast<double>(totals.decisions);
    steps += static_cast<double>(totals.steps);
  }
  state.SetItemsProcessed(static_cast<int64_t>(decisions));
  state.counters["cpu_per_decision"] =
      benchmark::Counter(decisions, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["times_real_time"] = benchmark::Counter(traffic_s, benchmark::Counter::kIsRate);
  state.counters["steps_per_decision"] = steps / decisions;
}

BENCHMARK_CAPTURE(BM_Replay, ladder_random, "ladder", "random")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Replay, ladder_least_cost, "ladder", "least-cost")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Replay, sharegpt_random, "sharegpt-like", "random")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Replay, sharegpt_least_cost, "sharegpt-like", "least-cost")
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace penstock
