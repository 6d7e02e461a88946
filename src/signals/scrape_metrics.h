// What the scraper counts.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "telemetry/metrics.h"

namespace penstock::signals {

// How a read of an engine ended.
enum class ReadResult : uint8_t {
  kOk,
  kLocal,        // no descriptor, port or memory here for a connection
  kConnect,      // no connection
  kReset,        // closed before an answer
  kTruncated,    // closed inside the answer
  kBadResponse,  // not HTTP
  kTimeout,
  kStatus,    // another status than 200
  kTooLarge,  // above the limit
  kUnusable,  // read, but without what is needed
  kTls,       // no connection: the TLS handshake failed, or a certificate was not accepted
};
inline constexpr size_t kReadResults = 11;
std::string_view ReadResultName(ReadResult result);

struct ScrapeMetrics {
  explicit ScrapeMetrics(telemetry::Registry& registry);

  // Counts how a read ended.
  void OnMetricsRead(ReadResult result);
  void OnModelsRead(ReadResult result);

  // By ReadResult.
  std::array<telemetry::Counter*, kReadResults> scrapes;
  std::array<telemetry::Counter*, kReadResults> models_reads;
  telemetry::Histogram& seconds;
  telemetry::Counter& bytes;
  // In llm-d's names: reads that brought nothing, and pages that said nothing.
  telemetry::Counter& poll_errors;
  telemetry::Counter& models_poll_errors;
  telemetry::Counter& extract_errors;
  telemetry::Counter& models_extract_errors;
  telemetry::Counter& bad_values;
};

}  // namespace penstock::signals
