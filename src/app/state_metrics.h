// Metrics of what the gateway holds rather than of what passes through it: the pool (llm-d's
// names), ledgers, plugins, connections, memory, the process. Read from live state when somebody
// asks for /metrics.
//
// THREADS: Refresh from any thread, one at a time (the registry's collection).
// SOURCE: llm-d-router docs/metrics.md (names); Prometheus client conventions (process_*).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/prefix_metrics.h"
#include "app/token_metrics.h"
#include "core/mutex.h"
#include "core/time.h"
#include "director/director.h"
#include "http/server.h"
#include "intake/preparer.h"
#include "recording/recorder.h"
#include "telemetry/metrics.h"

namespace penstock::app {

// Where the numbers come from. All outlive the StateMetrics.
struct StateSources {
  director::Director& director;
  std::function<std::vector<std::pair<std::string_view, http::ServerStats>>()> servers;
  std::function<intake::Preparer::Stats()> preparer;
  std::string version;
  const recording::Recorder* recorder = nullptr;  // null: none
  std::string pool_name = "default";
  std::string pool_namespace = "default";  // of endpoints whose names have none
  // An endpoint that was heard of longer ago does not count in the pool's figures.
  Duration metrics_staleness = Duration::max();
  std::function<Time()> now = [] {
    return Time(std::chrono::steady_clock::now().time_since_epoch());
  };
};

class StateMetrics {
 public:
  // Registers the families; Refresh runs at every collection from now on.
  StateMetrics(telemetry::Registry& registry, StateSources sources);
  // Brings the families up to date.
  void Refresh() EXCLUDES_LOCK(mutex_);

 private:
  void RefreshPool(const model::PoolSnapshot& pool);
  void RefreshEndpoints(const model::PoolSnapshot& pool) REQUIRES_LOCK(mutex_);
  void RemoveEndpoint(const std::string& name);
  void RefreshPlugins();
  void RefreshServers();
  void RefreshProcess();

  StateSources sources_;
  const std::string producer_;  // name of the plugin that keeps ledgers
  telemetry::Family<telemetry::Gauge>& kv_mean_;
  telemetry::Family<telemetry::Gauge>& kv_deviation_;
  telemetry::Family<telemetry::Gauge>& queue_mean_;
  telemetry::Family<telemetry::Gauge>& queue_deviation_;
  telemetry::Family<telemetry::Gauge>& running_mean_;
  telemetry::Family<telemetry::Gauge>& running_deviation_;
  telemetry::Family<telemetry::Gauge>& ready_endpoints_;
  telemetry::Family<telemetry::Gauge>& endpoint_queue_;
  telemetry::Family<telemetry::Gauge>& endpoint_healthy_;
  telemetry::Family<telemetry::Gauge>& in_flight_requests_;
  telemetry::Family<telemetry::Gauge>& in_flight_tokens_;
  telemetry::Family<telemetry::Gauge>& prefix_size_;
  telemetry::Family<telemetry::FollowedCounter>& prefix_evictions_;
  PrefixMetrics prefix_;
  TokenMetrics tokens_;
  telemetry::Family<telemetry::Gauge>& connections_open_;
  telemetry::Family<telemetry::FollowedCounter>& connections_;
  telemetry::Family<telemetry::FollowedCounter>& http_requests_;
  telemetry::Family<telemetry::FollowedCounter>& clients_gone_;
  telemetry::Family<telemetry::FollowedCounter>& refused_connections_;
  telemetry::Family<telemetry::FollowedCounter>& overloaded_;
  telemetry::Family<telemetry::Gauge>& buffered_bytes_;
  telemetry::Gauge& decision_log_bytes_;
  telemetry::FollowedCounter& log_lines_dropped_;
  telemetry::FollowedCounter& recorded_events_;
  telemetry::Gauge& recording_bytes_;
  telemetry::Gauge& recording_open_;
  telemetry::FollowedCounter& cpu_seconds_;
  telemetry::Gauge& resident_bytes_;
  telemetry::Gauge& open_descriptors_;
  telemetry::Gauge& max_descriptors_;

  Mutex mutex_;
  std::vector<std::string> shown_endpoints_ GUARDED_BY(mutex_);
};

}  // namespace penstock::app
