// What ext_proc counts of its streams, beside what is counted of requests.
//
// THREADS: any.
// SOURCE: spec endpoint-picker 9.1.
#pragma once

#include "core/time.h"
#include "grpc/status.h"
#include "telemetry/metrics.h"

namespace penstock::extproc {

class StreamMetrics {
 public:
  // --enable-grpc-stream-metrics: three more families.
  enum class Streams : uint8_t { kNotCounted, kCounted };
  StreamMetrics(telemetry::Registry& registry, Streams streams);

  // Ended because of what Envoy sent.
  telemetry::Counter& bad_streams;
  telemetry::Histogram& answer_seconds;

  void OnBegin();
  void OnEnd(grpc::Status status, Duration open);
  bool counts_streams() const { return in_flight_ != nullptr; }

 private:
  // All null, or none.
  telemetry::Gauge* in_flight_ = nullptr;
  telemetry::Histogram* seconds_ = nullptr;
  telemetry::Family<telemetry::Counter>* streams_ = nullptr;
};

}  // namespace penstock::extproc
