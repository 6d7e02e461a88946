#include "app/gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include "admin/admin_handler.h"
#include "admin/live_stats.h"
#include "app/descriptors.h"
#include "app/scheduling.h"
#include "app/state_metrics.h"
#include "director/director.h"
#include "discovery/discovery.h"
#include "http/server.h"
#include "net/loop.h"
#include "proxy/gateway_handler.h"
#include "recording/recorder.h"
#include "signals/scraper.h"
#include "telemetry/log.h"

namespace penstock::app {
namespace {

constexpr Duration kFirstRound = seconds(2);
constexpr Duration kTick = seconds(1);
constexpr size_t kMaxLoops = 256;

size_t LoopsOf(const config::ServeConfig& config) {
  if (config.threads > 0) return config.threads;
  return std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxLoops);
}

std::string AddressOf(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

http::ServerOptions GatewayServerOptions(const config::ServeConfig& config,
                                         size_t connections_per_loop,
                                         proxy::RequestMetrics& metrics) {
  http::ServerOptions options;
  options.name = "gateway";
  options.max_header_bytes = config.limits.max_header_bytes;
  options.max_body_bytes = config.limits.max_body_bytes;
  options.max_buffered_bytes = config.limits.max_buffered_bytes;
  options.max_connections = connections_per_loop;
  options.header_timeout = config.timeouts.header;
  options.body_timeout = config.timeouts.body;
  options.idle_timeout = config.timeouts.keep_alive;
  options.write_timeout = config.timeouts.write;
  options.render_error = [&metrics](int status, std::string_view code, std::string_view message) {
    return proxy::RenderServerError(metrics, status, code, message);
  };
  return options;
}

http::ServerOptions AdminServerOptions() {
  http::ServerOptions options;
  options.name = "admin";
  options.max_body_bytes = 64 * 1024;
  options.max_connections = 1'000;
  options.render_error = admin::RenderAdminError;
  return options;
}

director::DirectorOptions DirectorOptionsOf(const config::ServeConfig& config,
                                            admin::LiveStats& live) {
  director::DirectorOptions options;
  options.max_tries = config.retry.max_tries;
  options.retry_budget_ratio = config.retry.budget_ratio;
  options.decision_log_bytes = config.limits.decision_log_bytes;
  options.on_record = [&live](const director::DecisionRecord& record, Time now) {
    live.OnRequestEnded(record, now);
  };
  return options;
}

proxy::RequestMetrics::PrefixProducer PrefixProducerOf(const sched::Scheduler& scheduler) {
  for (const auto& instance : scheduler.Stats()) {
    for (const sched::PluginStat& stat : instance.stats) {
      if (stat.metric == "prefix_indexer_size") {
        return {std::string(instance.plugin->name()), std::string(instance.plugin->type())};
      }
    }
  }
  return {};
}

// Null when nothing is to be recorded.
Result<std::unique_ptr<recording::Recorder>> OpenRecorder(const config::ServeConfig& config,
                                                          const ChosenScheduler& chosen) {
  if (config.recording.file.empty()) return nullptr;
  recording::RecorderOptions options;
  options.path = config.recording.file;
  options.max_bytes = config.recording.max_bytes;
  options.version = PENSTOCK_VERSION;
  options.policy = chosen.policy;
  options.scheduling = chosen.scheduling;
  options.max_endpoints = config.limits.max_endpoints;
  options.max_tries = config.retry.max_tries;
  options.retry_budget_ratio = config.retry.budget_ratio;
  options.unix_micros = std::chrono::duration_cast<std::chrono::microseconds>(
                            std::chrono::system_clock::now().time_since_epoch())
                            .count();
  options.start = Time(std::chrono::steady_clock::now().time_since_epoch());
  options.headers = chosen.scheduler->HeadersRead();
  auto recorder = recording::Recorder::Open(std::move(options));
  if (!recorder) return Fail(recorder.error().code, "recording.file: " + recorder.error().message);
  return recorder;
}

signals::ScraperOptions ScraperOptionsOf(const config::ServeConfig& config) {
  signals::ScraperOptions options;
  options.interval = config.scrape.interval;
  options.models_interval = config.scrape.models_interval;
  return options;
}

}  // namespace

// Members are destroyed from the last to the first: whoever uses something goes before it.
struct Gateway::Impl {
  Impl(const config::ServeConfig& c, ChosenScheduler chosen,
       std::unique_ptr<recording::Recorder> journal)
      : config(c),
        policy(std::move(chosen.policy)),
        recorder(std::move(journal)),
        fleet(config.limits.max_endpoints, recorder.get()),
        live(2 * config.limits.max_endpoints),
        director(fleet, std::move(chosen.scheduler), DirectorOptionsOf(config, live)),
        metrics(registry, PrefixProducerOf(director.scheduler())),
        shared{director,
               metrics,
               {config.timeouts.connect, config.timeouts.first_byte, config.timeouts.idle}},
        state(registry,
              {director, [this] { return ServerStats(); }, PENSTOCK_VERSION, recorder.get()}),
        admin_shared{director,
                     registry,
                     live,
                     PENSTOCK_VERSION,
                     policy,
                     director.scheduler().Describe(),
                     [this] { return draining.load(); }},
        connections_per_loop(ConnectionsPerLoop(RaiseDescriptorLimit(), LoopsOf(config),
                                                config.limits.max_connections)),
        loops(LoopsOf(config)),
        admin_loops(1) {}

  ~Impl() {
    // Facts stop coming in first; what runs on a loop is destroyed after its thread has ended.
    discovery.reset();
    scraper.reset();
    admin_loops.StopAndJoin();
    loops.StopAndJoin();
  }

  Result<> Open();
  Result<> OpenServers();
  void StartTicking();
  std::vector<std::pair<std::string_view, http::ServerStats>> ServerStats() const;

  const config::ServeConfig config;
  const std::string policy;
  std::atomic<bool> draining{false};
  telemetry::Registry registry;
  const std::unique_ptr<recording::Recorder> recorder;  // null: none
  director::Fleet fleet;
  admin::LiveStats live;
  director::Director director;
  proxy::RequestMetrics metrics;
  proxy::GatewayShared shared;
  StateMetrics state;
  admin::AdminShared admin_shared;
  const size_t connections_per_loop;
  net::LoopPool loops;        // traffic
  net::LoopPool admin_loops;  // looking must not disturb serving; also what happens once a second
  std::unique_ptr<http::Server> server;
  std::unique_ptr<http::Server> admin_server;
  std::unique_ptr<signals::Scraper> scraper;
  std::unique_ptr<net::Timer> tick;
  std::unique_ptr<discovery::Discovery> discovery;
  std::string address, admin_address;
};

std::vector<std::pair<std::string_view, http::ServerStats>> Gateway::Impl::ServerStats() const {
  std::vector<std::pair<std::string_view, http::ServerStats>> stats;
  if (server != nullptr) stats.emplace_back("gateway", server->Stats());
  if (admin_server != nullptr) stats.emplace_back("admin", admin_server->Stats());
  return stats;
}

Result<> Gateway::Impl::OpenServers() {
  const auto listen = config::ParseListen(config.listen);
  if (!listen) return Fail(listen.error().code, "listen: " + listen.error().message);
  const auto admin_listen = config::ParseListen(config.admin_listen);
  if (!admin_listen) {
    return Fail(admin_listen.error().code, "adminListen: " + admin_listen.error().message);
  }
  std::random_device entropy;
  auto opened = http::Server::Create(
      loops, listen->host, listen->port,
      GatewayServerOptions(config, connections_per_loop, metrics), [&](net::Loop& loop) {
        const uint64_t seed = (uint64_t{entropy()} << 32) | entropy();
        return std::make_unique<proxy::GatewayHandler>(loop, shared, seed);
      });
  if (!opened) return Fail(opened.error().code, "listen: " + opened.error().message);
  server = std::move(*opened);
  auto admin_opened = http::Server::Create(
      admin_loops, admin_listen->host, admin_listen->port, AdminServerOptions(),
      [&](net::Loop&) { return std::make_unique<admin::AdminHandler>(admin_shared); });
  if (!admin_opened) {
    return Fail(admin_opened.error().code, "adminListen: " + admin_opened.error().message);
  }
  admin_server = std::move(*admin_opened);
  address = AddressOf(listen->host, server->port());
  admin_address = AddressOf(admin_listen->host, admin_server->port());
  return {};
}

void Gateway::Impl::StartTicking() {
  net::Loop& loop = admin_loops.at(0);
  tick = std::make_unique<net::Timer>(loop, [this, &loop] {
    director.Tick(loop.Now());
    live.SampleQueues(*fleet.snapshot().Get(), fleet.live(), loop.Now());
    tick->Start(kTick);
  });
  tick->Start(kTick);
}

Result<> Gateway::Impl::Open() {
  auto discovered = discovery::Discovery::Start(config, fleet, registry);
  if (!discovered) return std::unexpected(discovered.error());
  discovery = std::move(*discovered);
  if (Result<> opened = OpenServers(); !opened) return opened;
  scraper = std::make_unique<signals::Scraper>(fleet, registry, ScraperOptionsOf(config));
  scraper->Start();
  scraper->WaitFirstRound(kFirstRound);
  StartTicking();
  admin_loops.Start();
  loops.Start();
  return {};
}

Result<std::unique_ptr<Gateway>> Gateway::Start(const config::ServeConfig& config) {
  Result<ChosenScheduler> chosen = MakeScheduler(config.scheduling);
  if (!chosen) return std::unexpected(chosen.error());
  for (const std::string& warning : chosen->warnings) telemetry::log::Warn(warning);
  auto recorder = OpenRecorder(config, *chosen);
  if (!recorder) return std::unexpected(recorder.error());
  auto impl = std::make_unique<Impl>(config, std::move(*chosen), std::move(*recorder));
  if (Result<> opened = impl->Open(); !opened) return std::unexpected(opened.error());
  if (impl->recorder != nullptr) {
    if (auto kept = impl->recorder->Keep(); !kept) {
      return Fail(kept.error().code, "recording.file: " + kept.error().message);
    }
  }
  return std::unique_ptr<Gateway>(new Gateway(std::move(impl)));
}

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::~Gateway() = default;

const std::string& Gateway::address() const { return impl_->address; }
const std::string& Gateway::admin_address() const { return impl_->admin_address; }
uint16_t Gateway::port() const { return impl_->server->port(); }
uint16_t Gateway::admin_port() const { return impl_->admin_server->port(); }

std::vector<std::string> Gateway::Summary() const {
  constexpr double kMiB = 1 << 20;
  std::vector<std::string> lines;
  lines.push_back("policy: " + impl_->policy);
  for (const std::string& line : impl_->director.scheduler().Describe()) lines.push_back(line);
  const auto pool = impl_->fleet.snapshot().Get();
  lines.push_back(
      fmt::format("endpoints: {} of {} healthy", pool->healthy.Count(), pool->endpoints.size()));
  lines.push_back(fmt::format(
      "client connections: at most {} on each of {} loops{}", impl_->connections_per_loop,
      impl_->loops.size(),
      impl_->connections_per_loop < impl_->config.limits.max_connections
          ? fmt::format(
                ", less than limits.maxConnections ({}): the limit of open files is too low "
                "(ulimit -Hn)",
                impl_->config.limits.max_connections)
          : ""));
  if (impl_->recorder != nullptr) {
    lines.push_back(fmt::format("recording: {}, {:.0f} MiB at most, and 80 MiB of memory",
                                impl_->config.recording.file,
                                static_cast<double>(impl_->config.recording.max_bytes) / kMiB));
  }
  const double plugins = static_cast<double>(impl_->director.scheduler().MaxBytes()) / kMiB;
  const double decisions = static_cast<double>(impl_->config.limits.decision_log_bytes) / kMiB;
  const double live = static_cast<double>(impl_->live.MaxBytes()) / kMiB;
  const double bodies = static_cast<double>(impl_->config.limits.max_buffered_bytes) / kMiB;
  // What a loop's reader makes of the one body it reads: api/request.h says how much.
  const double readers = static_cast<double>(impl_->loops.size()) *
                         (2 * static_cast<double>(impl_->config.limits.max_body_bytes) / kMiB + 8);
  lines.push_back(fmt::format(
      "memory at most: {:.0f} MiB = request bodies {:.0f} + their readers {:.0f} + plugins {:.0f} "
      "+ "
      "decisions {:.0f} + live page {:.0f}, and per connection {} KiB of request and 256 KiB of "
      "answer",
      bodies + readers + plugins + decisions + live, bodies, readers, plugins, decisions, live,
      (impl_->config.limits.max_header_bytes >> 10) + 32));
  return lines;
}

std::vector<telemetry::Registry::Row> Gateway::MetricRows() const { return impl_->registry.Rows(); }

void Gateway::Drain(std::function<void()> done) {
  impl_->draining.store(true);
  impl_->server->Drain(impl_->config.timeouts.drain, std::move(done));
}

}  // namespace penstock::app
