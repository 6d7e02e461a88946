#include "app/state_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "telemetry/log.h"

namespace penstock::app {
namespace {

constexpr size_t kMaxSeries = 20'000;  // of families with one series an endpoint
constexpr std::string_view kLedger = "inflight-load-producer";

struct Spread {
  double mean = 0;
  double deviation = 0;
};

// Healthy endpoints that were heard of within `staleness`.
Mask FreshOf(const model::PoolSnapshot& pool, const model::LiveColumns& live, Time now,
             Duration staleness) {
  Mask fresh = pool.healthy;
  if (staleness == Duration::max()) return fresh;
  fresh.Keep([&](size_t i) {
    const int64_t at = live.scraped_at_nanos[pool.slots[i]].load(std::memory_order_relaxed);
    return at != 0 && now - FromNanos(at) <= staleness;
  });
  return fresh;
}

std::string LedgerOf(const sched::Scheduler& scheduler) {
  for (const sched::Plugin* plugin : scheduler.Instances()) {
    if (plugin->type() == kLedger) return plugin->name();
  }
  return std::string(kLedger);
}

Spread SpreadOf(const model::PoolSnapshot& pool, const Mask& fresh,
                const std::atomic<float>* column) {
  double sum = 0, squares = 0, count = 0;
  fresh.ForEach([&](size_t i) {
    const double value = column[pool.slots[i]].load(std::memory_order_relaxed);
    sum += value;
    squares += value * value;
    count += 1;
  });
  if (count == 0) return {};
  const double mean = sum / count;
  return {mean, std::sqrt(std::max(0.0, squares / count - mean * mean))};
}

double SecondsOf(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double ResidentBytes() {
  long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

double OpenDescriptors() {
  std::error_code error;
  double count = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  return std::max(0.0, count - 1);  // the one that reads the folder
}

}  // namespace

StateMetrics::StateMetrics(telemetry::Registry& r, StateSources sources)
    : sources_(std::move(sources)),
      producer_(LedgerOf(sources_.director.scheduler())),
      kv_mean_(r.AddGaugeFamily("llm_d_epp_average_kv_cache_utilization",
                                "Mean share of used KV blocks over healthy endpoints.", {"name"})),
      kv_deviation_(r.AddGaugeFamily("llm_d_epp_std_dev_kv_cache_utilization",
                                     "Standard deviation of the share of used KV blocks.",
                                     {"name"})),
      queue_mean_(r.AddGaugeFamily("llm_d_epp_average_queue_size",
                                   "Mean number of requests that wait in healthy engines.",
                                   {"name"})),
      queue_deviation_(r.AddGaugeFamily("llm_d_epp_std_dev_queue_size",
                                        "Standard deviation of the engines' queues.", {"name"})),
      running_mean_(r.AddGaugeFamily("llm_d_epp_average_running_requests",
                                     "Mean number of requests that run in healthy engines.",
                                     {"name"})),
      running_deviation_(r.AddGaugeFamily("llm_d_epp_std_dev_running_requests",
                                          "Standard deviation of the engines' running requests.",
                                          {"name"})),
      ready_endpoints_(
          r.AddGaugeFamily("llm_d_epp_ready_endpoints", "Endpoints that can be picked.", {"name"})),
      endpoint_queue_(r.AddGaugeFamily("llm_d_epp_per_endpoint_queue_size",
                                       "Requests that wait in an engine.",
                                       {"name", "model_server_endpoint"}, kMaxSeries)),
      endpoint_healthy_(r.AddGaugeFamily("penstock_endpoint_healthy",
                                         "1 when the endpoint can be picked, else 0.",
                                         {"endpoint_name"}, kMaxSeries)),
      in_flight_requests_(r.AddGaugeFamily(
          "llm_d_epp_inflight_requests", "Requests sent to an endpoint that have not ended.",
          {"endpoint_name", "namespace", "producer_name", "fairness_id", "priority"}, kMaxSeries)),
      in_flight_tokens_(r.AddGaugeFamily(
          "llm_d_epp_inflight_tokens",
          "Uncached prompt tokens sent to an endpoint whose answer has not begun.",
          {"endpoint_name", "namespace", "producer_name", "fairness_id", "priority"}, kMaxSeries)),
      prefix_size_(r.AddGaugeFamily("llm_d_epp_prefix_indexer_size",
                                    "Entries (block and holder) of the prefix index.",
                                    {"plugin_name", "plugin_type"})),
      prefix_evictions_(r.AddFollowedCounterFamily("penstock_prefix_indexer_evictions_total",
                                                   "Entries that gave way to newer ones.",
                                                   {"plugin_name"})),
      prefix_(r),
      tokens_(r),
      connections_open_(r.AddGaugeFamily("penstock_http_connections_open",
                                         "Client connections that are open.", {"server"})),
      connections_(r.AddFollowedCounterFamily(
          "penstock_http_connections_total", "Client connections that were accepted.", {"server"})),
      http_requests_(r.AddFollowedCounterFamily("penstock_http_requests_total",
                                                "Requests whose head and body arrived whole.",
                                                {"server"})),
      clients_gone_(r.AddFollowedCounterFamily(
          "penstock_http_clients_gone_total", "Clients that left before their answer was finished.",
          {"server"})),
      refused_connections_(r.AddFollowedCounterFamily(
          "penstock_http_refused_connections_total",
          "Connections refused because limits.maxConnections was reached.", {"server"})),
      overloaded_(r.AddFollowedCounterFamily(
          "penstock_http_overloaded_total",
          "Requests refused because limits.maxBufferedBytes was used up.", {"server"})),
      buffered_bytes_(r.AddGaugeFamily("penstock_http_buffered_bytes",
                                       "Memory of request bodies, of limits.maxBufferedBytes.",
                                       {"server"})),
      decision_log_bytes_(
          r.AddGauge("penstock_decision_log_bytes", "Memory that decision records hold.")),
      log_lines_dropped_(r.AddFollowedCounter(
          "penstock_log_lines_dropped_total",
          "Log lines that were not written because their reader stood still or was gone.")),
      recorded_events_(
          r.AddFollowedCounter("penstock_recording_events_total",
                               "Events that the recording holds or that wait for the disk.")),
      recording_bytes_(r.AddGauge("penstock_recording_bytes", "Size of the recording.")),
      recording_open_(r.AddGauge("penstock_recording_open",
                                 "1 while the gateway records, 0 when it does not or not any "
                                 "more; the log says why.")),
      cpu_seconds_(r.AddFollowedCounter("process_cpu_seconds_total", "User and system CPU time.")),
      resident_bytes_(r.AddGauge("process_resident_memory_bytes", "Resident memory.")),
      open_descriptors_(r.AddGauge("process_open_fds", "Open file descriptors.")),
      max_descriptors_(r.AddGauge("process_max_fds", "Limit of open file descriptors.")) {
  r.AddGaugeFamily("llm_d_epp_info", "Always 1; which program this is.", {"commit", "build_ref"})
      .With({PENSTOCK_COMMIT, sources_.version})
      .Set(1);
  r.AddGauge("process_start_time_seconds", "Start of the process, in seconds since 1970.")
      .Set(static_cast<double>(std::time(nullptr)));
  r.OnCollect([this] { Refresh(); });
}

void StateMetrics::Refresh() {
  MutexLock lock(mutex_);
  const auto pool = sources_.director.fleet().snapshot().Get();
  RefreshPool(*pool);
  RefreshEndpoints(*pool);
  RefreshPlugins();
  RefreshServers();
  RefreshProcess();
}

void StateMetrics::RefreshPool(const model::PoolSnapshot& pool) {
  const model::LiveColumns& live = sources_.director.fleet().live();
  const Mask fresh = FreshOf(pool, live, sources_.now(), sources_.metrics_staleness);
  const Spread kv = SpreadOf(pool, fresh, live.kv_usage.get());
  const Spread waiting = SpreadOf(pool, fresh, live.waiting.get());
  const Spread running = SpreadOf(pool, fresh, live.running.get());
  const std::string& name = sources_.pool_name;
  kv_mean_.With({name}).Set(kv.mean);
  kv_deviation_.With({name}).Set(kv.deviation);
  queue_mean_.With({name}).Set(waiting.mean);
  queue_deviation_.With({name}).Set(waiting.deviation);
  running_mean_.With({name}).Set(running.mean);
  running_deviation_.With({name}).Set(running.deviation);
  ready_endpoints_.With({name}).Set(static_cast<double>(fresh.Count()));
}

void StateMetrics::RefreshEndpoints(const model::PoolSnapshot& pool) {
  const model::LiveColumns& live = sources_.director.fleet().live();
  std::vector<std::string> shown;
  for (size_t i = 0; i < pool.endpoints.size(); ++i) {
    const std::string& name = pool.endpoints[i].spec.name;
    const uint32_t slot = pool.slots[i];
    const auto [space, own] = model::NamespaceAndName(name, sources_.pool_namespace);
    endpoint_queue_.With({sources_.pool_name, name})
        .Set(live.waiting[slot].load(std::memory_order_relaxed));
    endpoint_healthy_.With({name}).Set(pool.healthy.Test(i) ? 1 : 0);
    in_flight_requests_.With({own, space, producer_, "", "0"})
        .Set(static_cast<double>(live.in_flight_requests[slot].load(std::memory_order_relaxed)));
    in_flight_tokens_.With({own, space, producer_, "", "0"})
        .Set(static_cast<double>(live.in_flight_tokens[slot].load(std::memory_order_relaxed)));
    shown.push_back(name);
  }
  std::sort(shown.begin(), shown.end());
  for (const std::string& name : shown_endpoints_) {
    if (!std::binary_search(shown.begin(), shown.end(), name)) RemoveEndpoint(name);
  }
  shown_endpoints_ = std::move(shown);
}

void StateMetrics::RemoveEndpoint(const std::string& name) {
  const auto [space, own] = model::NamespaceAndName(name, sources_.pool_namespace);
  endpoint_queue_.Remove({sources_.pool_name, name});
  endpoint_healthy_.Remove({name});
  in_flight_requests_.Remove({own, space, producer_, "", "0"});
  in_flight_tokens_.Remove({own, space, producer_, "", "0"});
}

void StateMetrics::RefreshPlugins() {
  for (const auto& instance : sources_.director.scheduler().Stats()) {
    const sched::Plugin& plugin = *instance.plugin;
    for (const sched::PluginStat& stat : instance.stats) {
      if (stat.metric == "prefix_indexer_size") {
        prefix_size_.With({plugin.name(), plugin.type()}).Set(stat.value);
      } else if (stat.metric == "prefix_indexer_evictions_total") {
        prefix_evictions_.With({plugin.name()}).Follow(stat.value);
      } else if (stat.metric.starts_with("token_")) {
        tokens_.Follow(plugin, stat);
      } else {
        prefix_.Show(plugin, stat);
      }
    }
  }
  tokens_.Follow(sources_.preparer());
  decision_log_bytes_.Set(static_cast<double>(sources_.director.decisions().bytes()));
}

void StateMetrics::RefreshServers() {
  for (const auto& [name, stats] : sources_.servers()) {
    connections_open_.With({name}).Set(static_cast<double>(stats.connections_open));
    connections_.With({name}).Follow(static_cast<double>(stats.connections_accepted));
    http_requests_.With({name}).Follow(static_cast<double>(stats.requests));
    clients_gone_.With({name}).Follow(static_cast<double>(stats.clients_gone));
    refused_connections_.With({name}).Follow(static_cast<double>(stats.refused_connections));
    overloaded_.With({name}).Follow(static_cast<double>(stats.overloaded));
    buffered_bytes_.With({name}).Set(static_cast<double>(stats.buffered_bytes));
  }
}

void StateMetrics::RefreshProcess() {
  log_lines_dropped_.Follow(static_cast<double>(telemetry::log::DroppedLines()));
  if (sources_.recorder != nullptr) {
    const recording::RecorderStats recording = sources_.recorder->Stats();
    recorded_events_.Follow(static_cast<double>(recording.events));
    recording_bytes_.Set(static_cast<double>(recording.bytes));
    recording_open_.Set(recording.is_open ? 1 : 0);
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  cpu_seconds_.Follow(SecondsOf(usage.ru_utime) + SecondsOf(usage.ru_stime));
  rlimit descriptors{};
  ::getrlimit(RLIMIT_NOFILE, &descriptors);
  resident_bytes_.Set(ResidentBytes());
  open_descriptors_.Set(OpenDescriptors());
  max_descriptors_.Set(static_cast<double>(descriptors.rlim_cur));
}

}  // namespace penstock::app
