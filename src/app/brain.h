// What stands behind every front of the program: the director with its fleet, whoever tells it of
// engines (discovery, scraping), metrics, the admin port, and the loops that fronts serve on.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "admin/admin_handler.h"
#include "admin/live_stats.h"
#include "app/engine_tls.h"
#include "app/kv_events.h"
#include "app/kv_metrics.h"
#include "app/plugin_times.h"
#include "app/scheduling.h"
#include "app/state_metrics.h"
#include "config/serve_config.h"
#include "core/result.h"
#include "director/director.h"
#include "discovery/discovery.h"
#include "http/server.h"
#include "intake/preparer.h"
#include "intake/request_metrics.h"
#include "net/loop.h"
#include "net/tls.h"
#include "recording/recorder.h"
#include "sched/picker_settings.h"
#include "signals/engine_table.h"
#include "signals/scraper.h"
#include "telemetry/metrics.h"

namespace penstock::app {

using NamedStats = std::vector<std::pair<std::string_view, http::ServerStats>>;

struct BrainOptions {
  bool watches_endpoints_file = true;
  // How engines' metrics and models are read. Nothing: as engines do by themselves.
  std::optional<sched::PickerSettings> signals;
  // Of metrics: names of the pool, and how old an endpoint's figures may be to count in the pool's.
  std::string pool_name = "default";
  std::string pool_namespace = "default";
  Duration metrics_staleness = Duration::max();
  intake::RequestMetrics::ErrorCodes error_codes = intake::RequestMetrics::ErrorCodes::kOwn;
  // TLS of the metrics port; null: none.
  std::shared_ptr<net::TlsContext> admin_tls;
  // Whether metrics are shown under the older of llm-d's names too.
  bool shows_older_names = false;
};

// THREADS: made, opened, stopped and destroyed by one thread. It starts threads of its own: one a
// core (or `threads`) for traffic, one for scraping, one for the admin port, one for the watched
// file.
// OWNS: everything but the fronts, which are destroyed between Stop and the destructor.
class Brain {
 public:
  // Opens the recording. Nothing runs yet. `front_stats` adds what a front knows of its
  // connections.
  static Result<std::unique_ptr<Brain>> Create(const config::ServeConfig& config,
                                               ChosenScheduler chosen, const BrainOptions& options,
                                               std::function<NamedStats()> front_stats);
  ~Brain();

  // Fills the fleet, opens what `open_front` does and the admin port, waits (2 s at most) until
  // each engine has been tried once, and lets the loops run.
  Result<> Open(const std::function<Result<>()>& open_front);
  // Facts stop coming in, then the loops end. Idempotent.
  void Stop();

  const config::ServeConfig& config() const { return config_; }
  director::Director& director() { return director_; }
  intake::RequestMetrics& metrics() { return metrics_; }
  telemetry::Registry& registry() { return registry_; }
  net::LoopPool& loops() { return loops_; }
  const EngineTls& engine_tls() const { return engine_tls_; }
  net::LoopPool& admin_loops() { return admin_loops_; }
  intake::Preparer& preparer() { return preparer_; }
  size_t connections_per_loop() const { return connections_per_loop_; }
  uint64_t RandomSeed();
  void SetDraining() { draining_.store(true); }
  bool is_draining() const { return draining_.load(); }

  const std::string& admin_address() const { return admin_address_; }
  uint16_t admin_port() const { return admin_server_->port(); }
  // Whether some plugin asks for what engines tell of their caches.
  bool asks_for_caches() const { return kv_events_ != nullptr; }
  // What is worth saying at start: policy, plugins, endpoints, memory bounds.
  std::vector<std::string> Summary() const;

 private:
  Brain(const config::ServeConfig& config, ChosenScheduler chosen, const BrainOptions& options,
        EngineTls engine_tls, std::unique_ptr<recording::Recorder> recorder,
        std::function<NamedStats()> front_stats);
  Result<> OpenAdmin();
  Result<> ListenToEngines();
  void StartTicking();
  NamedStats ServerStats() const;

  // Members are destroyed from the last to the first: whoever uses something goes before it.
  const config::ServeConfig config_;
  const BrainOptions options_;
  const EngineTls engine_tls_;
  const std::string policy_;
  const std::function<NamedStats()> front_stats_;
  std::atomic<bool> draining_{false};
  std::random_device entropy_;
  telemetry::Registry registry_;
  const std::unique_ptr<recording::Recorder> recorder_;                  // null: none
  const std::unique_ptr<const signals::EngineTable> described_engines_;  // null: the known ones
  const signals::EngineTable& engines_;
  director::Fleet fleet_;
  admin::LiveStats live_;
  PluginTimes plugin_times_;
  director::Director director_;
  intake::RequestMetrics metrics_;
  StateMetrics state_;
  admin::AdminShared admin_shared_;
  KvMetrics kv_metrics_;
  std::unique_ptr<KvEvents> kv_events_;  // null: no plugin asks for them
  const size_t connections_per_loop_;
  net::LoopPool loops_;  // traffic
  intake::Preparer preparer_;
  net::LoopPool admin_loops_;  // looking must not disturb serving; also what happens once a second
  std::unique_ptr<http::Server> admin_server_;
  std::unique_ptr<signals::Scraper> scraper_;
  std::unique_ptr<net::Timer> tick_;
  std::unique_ptr<discovery::Discovery> discovery_;
  std::string admin_address_;
};

// "HOST:PORT", "[HOST]:PORT".
std::string AddressOf(const std::string& host, uint16_t port);

}  // namespace penstock::app
