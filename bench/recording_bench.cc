// What a recording costs the loop that decides: a request from arrival to end with a prompt of
// 2,048 tokens over eight endpoints, without and with a recorder. The recorder's own thread runs
// beside it and is not counted.
//
//   cmake --preset bench && cmake --build build/bench --target recording_bench
//   build/bench/bin/recording_bench
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "director/director.h"
#include "plugins/builtin.h"
#include "recording/recorder.h"
#include "sched/config_loader.h"
#include "sched/spec_yaml.h"

namespace penstock {
namespace {

constexpr size_t kPromptBytes = 2048 * 4;

void RunRequests(benchmark::State& state, bool is_recorded) {
  const sched::SchedulingSpec spec = *sched::BuiltinPolicy("least-cost");
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  const std::string path =
      (std::filesystem::temp_directory_path() / "penstock-recording-bench.rec").string();
  std::unique_ptr<recording::Recorder> recorder;
  if (is_recorded) {
    recording::RecorderOptions options;
    options.path = path;
    options.max_bytes = uint64_t{8} << 30;
    options.max_waiting_bytes = size_t{1} << 30;
    options.scheduling = sched::ToYaml(spec);
    recorder = *recording::Recorder::Open(std::move(options));
  }
  director::Fleet fleet(16, recorder.get());
  director::Director director(fleet, std::move(scheduler), {});
  std::vector<model::EndpointSpec> specs(8);
  for (uint32_t i = 0; i < 8; ++i) {
    specs[i] = {"engine-" + std::to_string(i), "10.0.0." + std::to_string(i), 8000, 0, {}};
  }
  if (!fleet.Replace(std::move(specs))) std::exit(1);
  Time now = FromNanos(1'000'000'000);
  for (uint32_t i = 0; i < 8; ++i) fleet.Scraped(i, {.block_size_tokens = 16}, now);
  director::Lane lane(director, 1);
  // Half of the prompt is a conversation's of 64, the rest is new.
  std::string prompt(kPromptBytes, ' ');
  Random random(1);
  for (auto _ : state) {
    state.PauseTiming();
    const uint64_t chat = random.Below(64);
    for (size_t i = 0; i < kPromptBytes; i += 8) {
      const uint64_t word = i < kPromptBytes / 2 ? chat : random.Next();
      std::memcpy(prompt.data() + i, &word, 8);
    }
    now += microseconds(500);
    state.ResumeTiming();
    model::Request request;
    request.api = model::Api::kChatCompletions;
    request.model = request.target_model = "Qwen/Qwen3-32B";
    const model::PromptPart part{prompt, true};
    request.prompt = {&part, 1};
    auto arrival = lane.Arrive(std::move(request), now, 0);
    arrival.flight->OnFirstChunk(now);
    arrival.flight->OnEnd(director::EndKind::kComplete, 200, "", {true, 2048, 100, true, 1024},
                          now);
  }
  if (recorder == nullptr) return;
  const recording::RecorderStats stats = recorder->Stats();
  if (!stats.is_open) std::cerr << "the recording ended: " << stats.ended << "\n";
  recorder.reset();
  state.counters["bytes/request"] = static_cast<double>(std::filesystem::file_size(path)) /
                                    static_cast<double>(state.iterations());
  std::filesystem::remove(path);
}

void BM_Request(benchmark::State& state) { RunRequests(state, false); }
BENCHMARK(BM_Request)->MinTime(1);
void BM_RequestRecorded(benchmark::State& state) { RunRequests(state, true); }
BENCHMARK(BM_RequestRecorded)->MinTime(1);

}  // namespace
}  // namespace penstock
