// The metrics of one simulated engine, with vLLM's names, types, labels and buckets.
//
// THREADS: Update and the On* methods from the engine's loop; Expose from any.
// SOURCE: vLLM v1/metrics/loggers.py.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/time.h"
#include "engine/engine.h"
#include "sim/request.h"
#include "telemetry/metrics.h"

namespace penstock::sim {

// When things happened to one request, and how large it was.
struct RequestTimes {
  Time arrival{};
  Time scheduled{};  // first time; before it: zero
  Time first_token{};
  Time last_token{};
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
  uint32_t max_tokens = 0;
};

class EngineMetrics {
 public:
  EngineMetrics(const Names& names, const engine::EngineOptions& options);

  void OnStep(uint64_t new_tokens) { iteration_tokens_.Observe(static_cast<double>(new_tokens)); }
  void OnFirstToken(const RequestTimes& times);
  void OnToken(Duration since_last);
  void OnFinish(const RequestTimes& times, engine::FinishReason reason);
  void OnAbort();
  // Gauges, and the counters that the engine keeps itself. Adapters that changed since the last
  // call show in lora_requests_info.
  void Update(const engine::Engine& engine);

  std::string Expose() { return registry_.Expose(); }

 private:
  telemetry::Counter& Count(std::string_view name, std::string_view help);
  telemetry::Gauge& Level(std::string_view name, std::string_view help);
  telemetry::Histogram& Spread(std::string_view name, std::string_view help,
                               std::span<const double> bounds);
  void UpdateLoras(std::span<const engine::Engine::LoraLoad> loads);

  telemetry::Registry registry_;
  std::string model_;
  std::vector<std::string> loras_;
  std::string max_loras_;
  telemetry::Gauge& running_;
  telemetry::Gauge& waiting_;
  telemetry::Gauge& kv_usage_;
  telemetry::Counter& prompt_tokens_;
  telemetry::Counter& generation_tokens_;
  telemetry::Counter& prefix_queries_;
  telemetry::Counter& prefix_hits_;
  telemetry::Counter* external_queries_ = nullptr;  // only with a tier
  telemetry::Counter* external_hits_ = nullptr;
  telemetry::Counter& preemptions_;
  telemetry::Histogram& ttft_;
  telemetry::Histogram& inter_token_;
  telemetry::Histogram& time_per_output_token_;
  telemetry::Histogram& e2e_;
  telemetry::Histogram& queue_;
  telemetry::Histogram& inference_;
  telemetry::Histogram& prefill_;
  telemetry::Histogram& decode_;
  telemetry::Histogram& prompt_size_;
  telemetry::Histogram& generation_size_;
  telemetry::Histogram& max_tokens_;
  telemetry::Histogram& iteration_tokens_;
  std::array<telemetry::Counter*, 3> success_;  // stop, length, abort
  telemetry::Family<telemetry::Gauge>* lora_info_ = nullptr;
  std::string running_loras_ = "?";
  std::string waiting_loras_ = "?";
  engine::EngineStats last_;
};

}  // namespace penstock::sim
