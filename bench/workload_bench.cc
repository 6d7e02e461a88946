// What a request of virtual traffic costs: generators, and traces from memory.
//
//   workload_bench                                       generators and Mooncake lines of 14 blocks
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "workload/open.h"
#include "workload/trace_source.h"

namespace {

using penstock::Duration;
using penstock::workload::Job;
using penstock::workload::Source;

// Takes everything, each answer 2 s long and told in order of time.
uint64_t Drain(Source& source) {
  std::vector<Job> open;
  size_t ended = 0;
  uint64_t count = 0;
  const auto end = [&] {
    Job& job = open[ended++];
    source.OnEnd(job, {.at = job.at + penstock::seconds(2)});
    job.prompt = {};
  };
  for (;;) {
    const auto at = source.NextAt();
    if (at && (ended == open.size() || *at < open[ended].at + penstock::seconds(2))) {
      open.push_back(source.Take());
      ++count;
    } else if (ended < open.size()) {
      end();
    } else {
      return count;
    }
  }
}

void BM_Generate(benchmark::State& state, const char* name) {
  int64_t jobs = 0;
  uint64_t seed = 1;
  for (auto _ : state) {
    auto source = penstock::workload::Open(name, seed++, {.max_requests = 20'000});
    jobs += static_cast<int64_t>(Drain(**source));
  }
  state.SetItemsProcessed(jobs);
}
BENCHMARK_CAPTURE(BM_Generate, pd, "pd");
BENCHMARK_CAPTURE(BM_Generate, ladder, "ladder");
BENCHMARK_CAPTURE(BM_Generate, scenario_a, "scenario-a");
BENCHMARK_CAPTURE(BM_Generate, code_generation, "code-generation");

void BM_Mooncake(benchmark::State& state) {
  std::string text;
  for (uint64_t i = 0; i < 10'000; ++i) {
    text += R"({"timestamp": )" + std::to_string(i * 300) +
            R"(, "input_length": 6758, "output_length": 500, "hash_ids": [0)";
    for (uint64_t k = 0; k < 13; ++k) text += ", " + std::to_string(i * 13 + k);
    text += "]}\n";
  }
  int64_t jobs = 0;
  for (auto _ : state) {
    const auto source =
        penstock::workload::ReadMooncake(penstock::workload::LineReader::OfText(text, "t"), {});
    jobs += static_cast<int64_t>(Drain(*source));
  }
  state.SetItemsProcessed(jobs);
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_Mooncake);

}  // namespace
