// One page of a vLLM server through the scanner, in pieces as a connection gives them.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "signals/metric_scanner.h"
#include "vllm_page.h"

namespace penstock::signals {
namespace {

void ScanVllmPage(benchmark::State& state) {
  const std::string page = bench::VllmPage::Make(1);
  const auto piece = static_cast<size_t>(state.range(0));
  const auto type = static_cast<EngineType>(state.range(1));
  MetricScanner scanner;
  for (auto _ : state) {
    scanner.Begin(type);
    for (size_t at = 0; at < page.size(); at += piece) {
      scanner.Feed(std::string_view(page).substr(at, piece));
    }
    auto scanned = scanner.Finish();
    if (!scanned || !scanned->signals.gpu_blocks) state.SkipWithError("the page is not understood");
    benchmark::DoNotOptimize(scanned);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(page.size()));
  state.counters["page_bytes"] = static_cast<double>(page.size());
  state.counters["lines"] = static_cast<double>(std::count(page.begin(), page.end(), '\n'));
}
BENCHMARK(ScanVllmPage)
    ->ArgNames({"piece", "type"})
    ->Args({1 << 20, static_cast<int>(EngineType::kVllm)})
    ->Args({1 << 20, static_cast<int>(EngineType::kUnknown)})
    ->Args({16384, static_cast<int>(EngineType::kVllm)})
    ->Args({1448, static_cast<int>(EngineType::kVllm)});

}  // namespace
}  // namespace penstock::signals
