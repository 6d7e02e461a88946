// The metrics of requests that go through the gateway, in llm-d's names (llm_d_epp_*), and those
// that only Penstock has (penstock_*).
//
// THREADS: all methods from any thread.
// SOURCE: spec endpoint-picker 9.1 (names, labels, buckets).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/time.h"
#include "director/decisions.h"
#include "telemetry/metrics.h"

namespace penstock::intake {

// The series of one (model, fairness id) pair; references stay valid for ever.
struct RequestSeries {
  std::string model;
  std::string fairness_id;
  telemetry::Counter& requests;
  telemetry::Gauge& running;
  telemetry::Histogram& duration;
  telemetry::Histogram& request_bytes;
  telemetry::Histogram& response_bytes;
  telemetry::Histogram& input_tokens;
  telemetry::Histogram& cached_tokens;
  telemetry::Histogram& output_tokens;
  telemetry::Histogram& normalized_tpot;
  telemetry::Histogram& ttft_streaming;
  telemetry::Histogram& ttft_unary;
  telemetry::Histogram& tpot;
  telemetry::Histogram& itl;
};

class RequestMetrics {
 public:
  // Name and type of the plugin that judges prefixes; both "" when there is none.
  struct PrefixProducer {
    std::string name, type;
  };
  RequestMetrics(telemetry::Registry& registry, const PrefixProducer& prefix_producer);
  ~RequestMetrics();

  // A loop's own cache over Series(): no lock after the first request of a model. Bounded.
  class Cache {
   public:
    explicit Cache(RequestMetrics& metrics) : metrics_(metrics) {}
    RequestSeries& Find(std::string_view model, std::string_view fairness_id);

   private:
    RequestMetrics& metrics_;
    std::string key_;
    std::unordered_map<std::string, std::unique_ptr<RequestSeries>> series_;
  };

  // At the end of a request that was dispatched or rejected after its body was read.
  void OnEnd(RequestSeries& series, const director::DecisionRecord& record,
             uint64_t response_bytes);
  // One more error under `code` (a short word); `model` may be "".
  void OnError(std::string_view model, std::string_view fairness_id, std::string_view code);
  void OnError(const RequestSeries& series, std::string_view code) {
    OnError(series.model, series.fairness_id, code);
  }
  void OnClientError(std::string_view code) { client_errors_.With({code}).Add(); }
  void OnRetry(std::string_view reason) { retries_.With({reason}).Add(); }
  void OnEngineFailure(std::string_view kind) { engine_failures_.With({kind}).Add(); }
  // A request goes to its first endpoint.
  void OnDispatch(const director::Attempt& attempt, Duration since_received);
  // One run of the scheduler: how long it took and which endpoint it chose ("" when none).
  void OnDecision(Duration took, std::string_view model, std::string_view endpoint,
                  std::string_view port);

 private:
  std::unique_ptr<RequestSeries> MakeSeries(std::string_view model, std::string_view fairness_id);

  telemetry::Family<telemetry::Counter>& requests_;
  telemetry::Family<telemetry::Counter>& errors_;
  telemetry::Family<telemetry::Gauge>& running_;
  telemetry::Family<telemetry::Histogram>& duration_;
  telemetry::Family<telemetry::Histogram>& request_bytes_;
  telemetry::Family<telemetry::Histogram>& response_bytes_;
  telemetry::Family<telemetry::Histogram>& input_tokens_;
  telemetry::Family<telemetry::Histogram>& cached_tokens_;
  telemetry::Family<telemetry::Histogram>& output_tokens_;
  telemetry::Family<telemetry::Histogram>& normalized_tpot_;
  telemetry::Family<telemetry::Histogram>& ttft_;
  telemetry::Family<telemetry::Histogram>& tpot_;
  telemetry::Family<telemetry::Histogram>& itl_;
  telemetry::Histogram& processing_seconds_;
  telemetry::Family<telemetry::Histogram>& hit_ratio_family_;
  telemetry::Family<telemetry::Histogram>& hit_bytes_family_;
  telemetry::Histogram* hit_ratio_ = nullptr;  // null: nobody judges prefixes
  telemetry::Histogram* hit_bytes_ = nullptr;
  telemetry::Histogram& decision_seconds_;
  telemetry::Family<telemetry::Counter>& attempts_;
  telemetry::Family<telemetry::Counter>& client_errors_;
  telemetry::Family<telemetry::Counter>& retries_;
  telemetry::Family<telemetry::Counter>& engine_failures_;
};

}  // namespace penstock::intake
