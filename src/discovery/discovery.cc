#include "discovery/discovery.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "core/file.h"
#include "discovery/endpoints_file.h"
#include "telemetry/log.h"

namespace penstock::discovery {
namespace {

namespace log = telemetry::log;

struct Metrics {
  explicit Metrics(telemetry::Registry& registry)
      : reloads(registry.AddCounter("penstock_discovery_reloads_total",
                                    "Edits of the endpoints file that took effect.")),
        errors(registry.AddCounter(
            "penstock_discovery_reload_errors_total",
            "Edits of the endpoints file that were wrong, so that the last good set stayed.")),
        endpoints(registry.AddGauge("penstock_discovery_endpoints",
                                    "Endpoints of the configuration and the file together.")) {}
  telemetry::Counter& reloads;
  telemetry::Counter& errors;
  telemetry::Gauge& endpoints;
};

Result<std::vector<SourcedEndpoint>> FromConfiguration(const config::ServeConfig& config) {
  std::vector<SourcedEndpoint> out;
  for (size_t i = 0; i < config.engines.size(); ++i) {
    const std::string source = fmt::format("engine {} of the configuration", i + 1);
    Result<std::vector<model::EndpointSpec>> specs = config::ToEndpoints(config.engines[i]);
    if (!specs) return Fail(specs.error().code, source + ": " + specs.error().message);
    for (model::EndpointSpec& spec : *specs) out.push_back({std::move(spec), source});
  }
  return out;
}

}  // namespace

struct Discovery::Impl {
  Impl(const config::ServeConfig& config, director::Fleet& f, telemetry::Registry& registry)
      : path(config.endpoints_file), fleet(f), metrics(registry) {}

  // Makes the fleet what the configuration and this text of the file say, or leaves it as it is.
  Result<size_t> Apply(const std::string& file_text) {
    EndpointsFile file;
    if (!path.empty()) {
      Result<EndpointsFile> parsed = ParseEndpointsFile(file_text, path);
      if (!parsed) return std::unexpected(parsed.error());
      file = std::move(*parsed);
    }
    for (const std::string& warning : file.warnings) log::Warn(warning);
    Result<std::vector<model::EndpointSpec>> all = Unite(configured, file.endpoints);
    if (!all) return std::unexpected(all.error());
    const size_t count = all->size();
    if (Result<> replaced = fleet.Replace(std::move(*all)); !replaced) {
      if (path.empty()) return std::unexpected(replaced.error());
      return Fail(replaced.error().code, path + ": " + replaced.error().message);
    }
    metrics.endpoints.Set(static_cast<double>(count));
    return count;
  }

  void RefuseEdit(const std::string& reason) {
    metrics.errors.Add();
    log::Warn("endpoints file is wrong, the last good endpoints stay", {{"reason", reason}});
  }

  // On the watcher's thread.
  void Reload() {
    Result<std::string> text = ReadFile(path, kMaxEndpointsFileBytes);
    if (!text) {
      if (std::exchange(read_error, text.error().message) != text.error().message) {
        RefuseEdit(text.error().message);
      }
      return;
    }
    read_error.clear();
    if (*text == last_text) return;
    last_text = std::move(*text);
    const Result<size_t> count = Apply(last_text);
    if (!count) return RefuseEdit(count.error().message);
    metrics.reloads.Add();
    log::Info("endpoints file reloaded", {{"file", path}, {"endpoints", *count}});
  }

  const std::string path;
  director::Fleet& fleet;
  Metrics metrics;
  std::vector<SourcedEndpoint> configured;

  // Of Start, then of the watcher's thread.
  std::string last_text;                 // tried last, good or not
  std::string read_error;                // of the last try, so that it is told once
  std::unique_ptr<FileWatcher> watcher;  // last: its thread uses the rest
};

Discovery::Discovery(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Discovery::~Discovery() = default;

Result<std::unique_ptr<Discovery>> Discovery::Start(const config::ServeConfig& config,
                                                    director::Fleet& fleet,
                                                    telemetry::Registry& registry,
                                                    const WatchOptions& watch) {
  auto impl = std::make_unique<Impl>(config, fleet, registry);
  Result<std::vector<SourcedEndpoint>> configured = FromConfiguration(config);
  if (!configured) return std::unexpected(configured.error());
  impl->configured = std::move(*configured);
  if (!impl->path.empty()) {
    Result<std::string> text = ReadFile(impl->path, kMaxEndpointsFileBytes);
    if (!text) return std::unexpected(text.error());
    impl->last_text = std::move(*text);
  }
  if (Result<size_t> count = impl->Apply(impl->last_text); !count) {
    return std::unexpected(count.error());
  }
  if (!impl->path.empty() && watch.is_on) {
    Result<std::unique_ptr<FileWatcher>> watcher =
        FileWatcher::Start(impl->path, watch, [raw = impl.get()] { raw->Reload(); });
    if (!watcher) return std::unexpected(watcher.error());
    impl->watcher = std::move(*watcher);
  }
  return std::unique_ptr<Discovery>(new Discovery(std::move(impl)));
}

}  // namespace penstock::discovery
