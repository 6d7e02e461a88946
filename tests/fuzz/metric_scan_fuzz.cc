// Any bytes as an engine's metrics: the pieces in which they arrive change nothing, and whatever
// comes out is a number that routing can use.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "signals/metric_scanner.h"

namespace {

using penstock::signals::EngineTable;
using penstock::signals::EngineType;
using penstock::signals::MetricScanner;

void Check(bool holds) {
  if (!holds) std::abort();
}

void CheckCount(const std::optional<float>& value) {
  if (value) Check(std::isfinite(*value) && *value >= 0);
}

// With an engine, an attribute and labels of a configuration's own.
const EngineTable& Described() {
  static const EngineTable table([] {
    penstock::sched::EngineMetrics engine;
    engine.name = "mine";
    engine.waiting = penstock::sched::ParseMetricSpec("my_gauge{kind=waiting}");
    engine.lora = penstock::sched::ParseMetricSpec("my_lora");
    engine.custom = {{"heat", *penstock::sched::ParseMetricSpec("vllm:heat")}};
    penstock::sched::ExtractorSettings settings;
    settings.default_engine = "mine";
    settings.engines = {engine};
    return settings;
  }());
  return table;
}

}  // namespace

// The first byte is the expected type, the second the size of pieces.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const EngineTable& table = data[0] < 128 ? EngineTable::Known() : Described();
  const auto type = static_cast<EngineType>(data[0] % 128 % table.size());
  const size_t piece = 1 + data[1];
  const std::string_view text(reinterpret_cast<const char*>(data + 2), size - 2);

  MetricScanner whole(table);
  whole.Begin(type);
  whole.Feed(text);
  const auto page = whole.Finish();
  MetricScanner pieces(table);
  pieces.Begin(type);
  for (size_t at = 0; at < text.size(); at += piece) pieces.Feed(text.substr(at, piece));
  const auto again = pieces.Finish();

  Check(whole.bad_values() == pieces.bad_values());
  Check(page.has_value() == again.has_value());
  if (!page) {
    Check(!page.error().message.empty() && page.error().message == again.error().message);
    return 0;
  }
  const auto& signals = page->signals;
  CheckCount(signals.waiting);
  CheckCount(signals.running);
  CheckCount(signals.kv_usage);
  if (signals.kv_usage) Check(*signals.kv_usage <= 1);
  if (signals.block_size_tokens) Check(*signals.block_size_tokens > 0);
  if (signals.lora) {
    for (const auto& name : signals.lora->running) Check(!name.empty());
  }
  Check(page->type == again->type && signals.waiting == again->signals.waiting &&
        signals.running == again->signals.running && signals.kv_usage == again->signals.kv_usage &&
        signals.lora == again->signals.lora && signals.gpu_blocks == again->signals.gpu_blocks &&
        signals.block_size_tokens == again->signals.block_size_tokens);
  return 0;
}
