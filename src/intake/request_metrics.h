// The metrics of requests that go through the gateway, in llm-d's names (llm_d_epp_*), and those
// that only Penstock has (penstock_*).
//
// Clients choose names of models and fairness ids, so that both are bounded: the first 1,000 of
// each are shown as they are, later ones as "other"; of their combinations the first 1,000 (of
// histograms the first 200) have series of their own.
//
// THREADS: all methods from any thread.
// SOURCE: spec endpoint-picker 9.1 (names, labels, buckets).
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/time.h"
#include "director/decisions.h"
#include "telemetry/label_limiter.h"
#include "telemetry/metrics.h"

namespace penstock::director {
struct Target;
}

namespace penstock::intake {

// Whose request it is, in metrics.
struct RequestLabels {
  std::string_view model;
  std::string_view target_model;
  std::string_view fairness_id;
};

// The series of one combination; references stay valid for ever.
struct RequestSeries {
  std::string model;
  std::string target_model;
  std::string fairness_id;
  RequestLabels labels() const { return {model, target_model, fairness_id}; }
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
  uint32_t target_number = 0;  // of its target model, in the cache that has it
};

class RequestMetrics {
 public:
  // Name and type of the plugin that judges prefixes; both "" when there is none.
  struct PrefixProducer {
    std::string name, type;
  };
  enum class ErrorCodes : uint8_t {
    kOwn,   // what Penstock calls it: "no_endpoint", "timeout"
    kLlmd,  // ModelServerError, or llm-d's internal code; a client that goes away is no error
  };
  struct Options {
    PrefixProducer prefix_producer;
    ErrorCodes error_codes = ErrorCodes::kOwn;
    std::string pool_namespace = "default";  // of endpoints whose names have none
    // Whether a refused request's model is shown though no engine names it: where engines are not
    // asked for their models.
    bool trusts_model_names = false;
  };
  RequestMetrics(telemetry::Registry& registry, Options options);
  ~RequestMetrics();

  // A loop's own cache over Series(): no lock after the first request of a model. Bounded.
  class Cache {
   public:
    explicit Cache(RequestMetrics& metrics) : metrics_(metrics) {}
    RequestSeries& Find(const RequestLabels& labels);
    // A run of the scheduler that took so long and chose this endpoint.
    void OnDecision(Duration took, const RequestSeries& series, const director::Target& target);

   private:
    struct Chosen {
      std::string endpoint;
      uint16_t port = 0;
      telemetry::Counter* count = nullptr;
    };
    static constexpr size_t kMaxChosen = 4096;
    RequestSeries& Number(RequestSeries& series);
    // By number of the target model and slot.
    boost::unordered_flat_map<std::pair<uint32_t, uint32_t>, Chosen> chosen_;
    std::unordered_map<std::string, uint32_t> targets_;
    RequestMetrics& metrics_;
    std::string key_;
    std::unordered_map<std::string, std::unique_ptr<RequestSeries>> series_;
    std::unique_ptr<RequestSeries> other_;  // when there are too many
  };

  // At the end of a request that was dispatched. `is_streamed`: asked for or answered as a stream.
  void OnEnd(RequestSeries& series, const director::DecisionRecord& record, uint64_t response_bytes,
             bool is_streamed);
  // One more error under `code` (a short word, of Penstock or of llm-d); labels may be "".
  void OnError(const RequestLabels& labels, std::string_view code);
  bool trusts_model_names() const { return options_.trusts_model_names; }
  void OnClientError(std::string_view code) { client_errors_.With({code}).Add(); }
  void OnRetry(std::string_view reason) { retries_.With({reason}).Add(); }
  void OnEngineFailure(std::string_view kind) { engine_failures_.With({kind}).Add(); }
  // A request goes to its first endpoint.
  void OnDispatch(const director::Attempt& attempt, Duration since_received);
  // A run of the scheduler that chose nobody.
  void OnNoDecision(Duration took, std::string_view target_model);

 private:
  std::unique_ptr<RequestSeries> MakeSeries(const RequestLabels& labels);

  const Options options_;
  telemetry::LabelLimiter models_;  // target models too
  telemetry::LabelLimiter fairness_ids_;
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
