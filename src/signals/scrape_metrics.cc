#include "signals/scrape_metrics.h"

namespace penstock::signals {
namespace {

constexpr double kSeconds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                               0.1,    0.25,  0.5,    1,     2.5,  5};

std::array<telemetry::Counter*, kReadResults> Series(
    telemetry::Family<telemetry::Counter>& family) {
  std::array<telemetry::Counter*, kReadResults> out;
  for (size_t i = 0; i < kReadResults; ++i) {
    out[i] = &family.With({ReadResultName(static_cast<ReadResult>(i))});
  }
  return out;
}

constexpr std::string_view kMetricsSource = "metrics-data-source";
constexpr std::string_view kModelsSource = "models-data-source";

telemetry::Family<telemetry::Counter>& PollErrors(telemetry::Registry& registry) {
  return registry.AddCounterFamily("llm_d_epp_datalayer_poll_errors_total",
                                   "Reads of engines that brought nothing usable to read.",
                                   {"source_type"});
}

telemetry::Family<telemetry::Counter>& ExtractErrors(telemetry::Registry& registry) {
  return registry.AddCounterFamily("llm_d_epp_datalayer_extract_errors_total",
                                   "Reads of engines that came whole and did not say what is "
                                   "needed.",
                                   {"source_type", "extractor_type"});
}

void Count(ReadResult result, telemetry::Counter& polls, telemetry::Counter& extracts) {
  if (result == ReadResult::kOk) return;
  (result == ReadResult::kUnusable ? extracts : polls).Add();
}

}  // namespace

std::string_view ReadResultName(ReadResult result) {
  static constexpr std::array<std::string_view, kReadResults> kNames = {
      "ok",      "local",  "connect",   "reset",    "truncated", "bad_response",
      "timeout", "status", "too_large", "unusable", "tls"};
  return kNames[static_cast<size_t>(result)];
}

ScrapeMetrics::ScrapeMetrics(telemetry::Registry& registry)
    : scrapes(Series(registry.AddCounterFamily(
          "penstock_scrapes_total", "Reads of engines' /metrics, by how they ended.", {"result"}))),
      models_reads(Series(registry.AddCounterFamily("penstock_models_reads_total",
                                                    "Reads of engines' /v1/models, by how they "
                                                    "ended; status also counts engines without "
                                                    "such a list.",
                                                    {"result"}))),
      seconds(registry.AddHistogram("penstock_scrape_seconds",
                                    "Time of one good read of an engine's /metrics.", kSeconds)),
      bytes(registry.AddCounter("penstock_scrape_bytes_total", "Bytes of engines' /metrics.")),
      poll_errors(PollErrors(registry).With({kMetricsSource})),
      models_poll_errors(PollErrors(registry).With({kModelsSource})),
      extract_errors(ExtractErrors(registry).With({kMetricsSource, "core-metrics-extractor"})),
      models_extract_errors(ExtractErrors(registry).With({kModelsSource, "models-data-extractor"})),
      bad_values(registry.AddCounter(
          "penstock_scrape_bad_values_total",
          "Values and lines of engines' /metrics that were left out: not finite, negative, absurd, "
          "or no valid text.")) {}

void ScrapeMetrics::OnMetricsRead(ReadResult result) {
  scrapes[static_cast<size_t>(result)]->Add();
  Count(result, poll_errors, extract_errors);
}

void ScrapeMetrics::OnModelsRead(ReadResult result) {
  models_reads[static_cast<size_t>(result)]->Add();
  Count(result, models_poll_errors, models_extract_errors);
}

}  // namespace penstock::signals
