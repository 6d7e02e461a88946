#include "extproc/stream_metrics.h"

#include <array>
#include <string_view>

namespace penstock::extproc {
namespace {

constexpr double kAnswerSeconds[] = {.0001, .00025, .0005, .001, .0025, .005, .01, .025,
                                     .05,   .1,     .25,   .5,   1,     2.5,  5};
constexpr double kStreamSeconds[] = {.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 300, 600};

// As Go writes it, which llm-d's dashboards match on.
std::string_view CodeName(grpc::Status status) {
  static constexpr std::array<std::string_view, 17> kNames = {
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  const auto index = static_cast<size_t>(status);
  return index < kNames.size() ? kNames[index] : "Unknown";
}

}  // namespace

StreamMetrics::StreamMetrics(telemetry::Registry& registry, Streams streams)
    : bad_streams(registry.AddCounter("penstock_ext_proc_bad_streams_total",
                                      "Streams that were ended because of what Envoy sent.")),
      answer_seconds(registry.AddHistogram(
          "llm_d_epp_response_processing_duration_seconds",
          "Work on one answer: of a streamed one the sum over its pieces, of another the time from "
          "its head to its end.",
          kAnswerSeconds)) {
  if (streams == Streams::kNotCounted) return;
  in_flight_ = &registry.AddGauge("llm_d_epp_extproc_streams_inflight", "Streams that are open.");
  seconds_ = &registry.AddHistogram("llm_d_epp_extproc_stream_duration_seconds",
                                    "How long streams were open.", kStreamSeconds);
  streams_ = &registry.AddCounterFamily("llm_d_epp_extproc_streams_total",
                                        "Streams that have ended, by gRPC's code.", {"code"});
}

void StreamMetrics::OnBegin() {
  if (in_flight_ != nullptr) in_flight_->Add(1);
}

void StreamMetrics::OnEnd(grpc::Status status, Duration open) {
  if (in_flight_ == nullptr) return;
  in_flight_->Add(-1);
  seconds_->Observe(ToSeconds(open));
  streams_->With({CodeName(status)}).Add();
}

}  // namespace penstock::extproc
