#include "app/brain.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "app/descriptors.h"
#include "app/older_names.h"
#include "telemetry/log.h"

namespace penstock::app {
namespace {

constexpr Duration kFirstRound = seconds(2);
constexpr Duration kTick = seconds(1);
constexpr Duration kFastestModels = milliseconds(50);
constexpr size_t kMaxLoops = 256;

size_t LoopsOf(const config::ServeConfig& config) {
  if (config.threads > 0) return config.threads;
  return std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxLoops);
}

http::ServerOptions AdminServerOptions(const std::shared_ptr<net::TlsContext>& tls) {
  http::ServerOptions options;
  options.tls = tls;
  options.name = "admin";
  options.max_body_bytes = 64 * 1024;
  options.max_connections = 1'000;
  options.render_error = admin::RenderAdminError;
  return options;
}

director::DirectorOptions DirectorOptionsOf(const config::ServeConfig& config,
                                            admin::LiveStats& live, sched::Stopwatch& stopwatch) {
  director::DirectorOptions options;
  options.stopwatch = &stopwatch;
  options.max_tries = config.retry.max_tries;
  options.retry_budget_ratio = config.retry.budget_ratio;
  options.decision_log_bytes = config.limits.decision_log_bytes;
  options.on_record = [&live](const director::DecisionRecord& record, Time now) {
    live.OnRequestEnded(record, now);
  };
  return options;
}

intake::RequestMetrics::PrefixProducer PrefixProducerOf(const sched::Scheduler& scheduler) {
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
                                                          const ChosenScheduler& chosen,
                                                          const signals::EngineTable& engines) {
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
  options.attributes = engines.attributes();
  auto recorder = recording::Recorder::Open(std::move(options));
  if (!recorder) return Fail(recorder.error().code, "recording.file: " + recorder.error().message);
  return recorder;
}

std::optional<model::Scheme> SchemeOf(std::string_view name) {
  if (name.empty()) return std::nullopt;
  return name == "https" ? model::Scheme::kHttps : model::Scheme::kHttp;
}

signals::ScraperOptions ScraperOptionsOf(const config::ServeConfig& config,
                                         const std::optional<sched::PickerSettings>& settings,
                                         const EngineTls& tls,
                                         const signals::EngineTable& engines) {
  signals::ScraperOptions options;
  options.metrics_tls = tls.metrics;
  options.models_tls = tls.models;
  options.metrics_scheme = options.models_scheme = SchemeOf(config.scrape.scheme);
  options.interval = config.scrape.interval;
  options.models_interval = config.scrape.models_interval;
  options.engines = &engines;
  if (!settings) return options;
  options.metrics_scheme = SchemeOf(settings->metrics.scheme);
  options.metrics_path = settings->metrics.path;
  options.metrics_port = settings->metrics.port;
  options.reads_models = settings->models.has_value();
  if (!settings->models) return options;
  options.models_scheme = SchemeOf(settings->models->scheme);
  options.models_path = settings->models->path;
  options.models_port = settings->models->port;
  if (settings->models->interval) {
    options.models_interval = std::max<Duration>(*settings->models->interval, kFastestModels);
  }
  return options;
}

std::unique_ptr<const signals::EngineTable> DescribedEngines(const BrainOptions& options) {
  if (!options.signals) return nullptr;
  return std::make_unique<signals::EngineTable>(options.signals->extractor);
}

}  // namespace

std::string AddressOf(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

Brain::Brain(const config::ServeConfig& config, ChosenScheduler chosen, const BrainOptions& options,
             EngineTls engine_tls, std::unique_ptr<recording::Recorder> recorder,
             std::function<NamedStats()> front_stats)
    : config_(config),
      options_(options),
      engine_tls_(std::move(engine_tls)),
      policy_(std::move(chosen.policy)),
      front_stats_(std::move(front_stats)),
      recorder_(std::move(recorder)),
      described_engines_(DescribedEngines(options_)),
      engines_(described_engines_ ? *described_engines_ : signals::EngineTable::Known()),
      fleet_(config_.limits.max_endpoints, recorder_.get(), engines_.attributes()),
      live_(2 * config_.limits.max_endpoints),
      plugin_times_(registry_),
      director_(fleet_, std::move(chosen.scheduler),
                DirectorOptionsOf(config_, live_, plugin_times_)),
      metrics_(registry_, {PrefixProducerOf(director_.scheduler()), options_.error_codes,
                           options_.pool_namespace, options_.signals && !options_.signals->models}),
      state_(registry_, {.director = director_,
                         .servers = [this] { return ServerStats(); },
                         .preparer = [this] { return preparer_.stats(); },
                         .version = PENSTOCK_VERSION,
                         .recorder = recorder_.get(),
                         .pool_name = options_.pool_name,
                         .pool_namespace = options_.pool_namespace,
                         .metrics_staleness = options_.metrics_staleness}),
      admin_shared_{director_,
                    registry_,
                    live_,
                    PENSTOCK_VERSION,
                    policy_,
                    director_.scheduler().Describe(),
                    [this] { return is_draining(); },
                    {}},
      kv_metrics_(registry_, admin_shared_.caches),
      connections_per_loop_(ConnectionsPerLoop(RaiseDescriptorLimit(), LoopsOf(config_),
                                               config_.limits.max_connections)),
      loops_(LoopsOf(config_)),
      preparer_(director_.scheduler(), loops_.size()),
      admin_loops_(1) {
  AddEngineTlsMetrics(registry_, engine_tls_);
  if (options_.shows_older_names) AddOlderNames(registry_);
}

Brain::~Brain() { Stop(); }

void Brain::Stop() {
  // Facts stop coming in first; what runs on a loop is destroyed after its thread has ended.
  discovery_.reset();
  scraper_.reset();
  admin_loops_.StopAndJoin();
  loops_.StopAndJoin();
  kv_events_.reset();
}

Result<std::unique_ptr<Brain>> Brain::Create(const config::ServeConfig& config,
                                             ChosenScheduler chosen, const BrainOptions& options,
                                             std::function<NamedStats()> front_stats) {
  for (const std::string& warning : chosen.warnings) telemetry::log::Warn(warning);
  auto engine_tls = MakeEngineTls(config.engine_tls, options.signals);
  if (!engine_tls) return std::unexpected(engine_tls.error());
  const auto described = DescribedEngines(options);
  auto recorder =
      OpenRecorder(config, chosen, described ? *described : signals::EngineTable::Known());
  if (!recorder) return std::unexpected(recorder.error());
  return std::unique_ptr<Brain>(new Brain(config, std::move(chosen), options,
                                          std::move(*engine_tls), std::move(*recorder),
                                          std::move(front_stats)));
}

uint64_t Brain::RandomSeed() { return (uint64_t{entropy_()} << 32) | entropy_(); }

NamedStats Brain::ServerStats() const {
  NamedStats stats;
  if (front_stats_) stats = front_stats_();
  if (admin_server_ != nullptr) stats.emplace_back("admin", admin_server_->Stats());
  return stats;
}

Result<> Brain::OpenAdmin() {
  const auto listen = config::ParseListen(config_.admin_listen);
  if (!listen) return Fail(listen.error().code, "adminListen: " + listen.error().message);
  auto opened = http::Server::Create(
      admin_loops_, listen->host, listen->port, AdminServerOptions(options_.admin_tls),
      [&](net::Loop&) { return std::make_unique<admin::AdminHandler>(admin_shared_); });
  if (!opened) return Fail(opened.error().code, "adminListen: " + opened.error().message);
  admin_server_ = std::move(*opened);
  admin_address_ = AddressOf(listen->host, admin_server_->port());
  return {};
}

Result<> Brain::ListenToEngines() {
  sched::KnowsCaches* const knows = director_.scheduler().knows_caches();
  if (knows == nullptr) return {};
  auto started = KvEvents::Start(*knows, fleet_);
  if (!started) return std::unexpected(started.error());
  kv_events_ = std::move(*started);
  admin_shared_.caches = kv_events_->heard();
  const auto follow = [this] { admin_loops_.at(0).Post([this] { kv_events_->Follow(); }); };
  fleet_.OnChange(follow);
  follow();  // what changed meanwhile
  return {};
}

void Brain::StartTicking() {
  net::Loop& loop = admin_loops_.at(0);
  tick_ = std::make_unique<net::Timer>(loop, [this, &loop] {
    director_.Tick(loop.Now());
    live_.SampleQueues(*fleet_.snapshot().Get(), fleet_.live(), loop.Now());
    tick_->Start(kTick);
  });
  tick_->Start(kTick);
}

Result<> Brain::Open(const std::function<Result<>()>& open_front) {
  auto discovered = discovery::Discovery::Start(config_, fleet_, registry_,
                                                {.is_on = options_.watches_endpoints_file});
  if (!discovered) return std::unexpected(discovered.error());
  discovery_ = std::move(*discovered);
  if (Result<> opened = open_front(); !opened) return opened;
  if (Result<> listening = ListenToEngines(); !listening) return listening;
  if (Result<> opened = OpenAdmin(); !opened) return opened;
  scraper_ = std::make_unique<signals::Scraper>(
      fleet_, registry_, ScraperOptionsOf(config_, options_.signals, engine_tls_, engines_));
  scraper_->Start();
  scraper_->WaitFirstRound(kFirstRound);
  StartTicking();
  admin_loops_.Start();
  loops_.Start();
  if (recorder_ == nullptr) return {};
  if (auto kept = recorder_->Keep(); !kept) {
    return Fail(kept.error().code, "recording.file: " + kept.error().message);
  }
  return {};
}

std::vector<std::string> Brain::Summary() const {
  constexpr double kMiB = 1 << 20;
  std::vector<std::string> lines;
  lines.push_back("policy: " + policy_);
  for (const std::string& line : director_.scheduler().Describe()) lines.push_back(line);
  const auto pool = fleet_.snapshot().Get();
  lines.push_back(
      fmt::format("endpoints: {} of {} healthy", pool->healthy.Count(), pool->endpoints.size()));
  lines.push_back(fmt::format(
      "client connections: at most {} on each of {} loops{}", connections_per_loop_, loops_.size(),
      connections_per_loop_ < config_.limits.max_connections
          ? fmt::format(
                ", less than limits.maxConnections ({}): the limit of open files is too low "
                "(ulimit -Hn)",
                config_.limits.max_connections)
          : ""));
  if (kv_events_ != nullptr) lines.push_back(kv_events_->Describe());
  if (recorder_ != nullptr) {
    lines.push_back(fmt::format("recording: {}, {:.0f} MiB at most, and 80 MiB of memory",
                                config_.recording.file,
                                static_cast<double>(config_.recording.max_bytes) / kMiB));
  }
  const double plugins = static_cast<double>(director_.scheduler().MaxBytes()) / kMiB;
  const double decisions = static_cast<double>(config_.limits.decision_log_bytes) / kMiB;
  const double live = static_cast<double>(live_.MaxBytes()) / kMiB;
  const double bodies = static_cast<double>(config_.limits.max_buffered_bytes) / kMiB;
  // What a loop's reader makes of the one body it reads: api/request.h says how much.
  const double readers = static_cast<double>(loops_.size()) *
                         (2 * static_cast<double>(config_.limits.max_body_bytes) / kMiB + 8);
  lines.push_back(fmt::format(
      "memory at most: {:.0f} MiB = request bodies {:.0f} + their readers {:.0f} + plugins {:.0f} "
      "+ "
      "decisions {:.0f} + live page {:.0f}, and per connection {} KiB of request and 256 KiB of "
      "answer",
      bodies + readers + plugins + decisions + live, bodies, readers, plugins, decisions, live,
      (config_.limits.max_header_bytes >> 10) + 32));
  return lines;
}

}  // namespace penstock::app
