#include "app/picker_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/file.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "telemetry/log.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

constexpr Duration kFastestScrape = milliseconds(50);

Error Wrong(std::string message) { return Error{Code::kInvalidArgument, std::move(message)}; }

// Flags whose machinery is not here. Their defaults are passed over: llm-d does without it too
// where there is no Kubernetes.
Result<> CheckMissing(const EppFlags& flags) {
  if (flags.enable_cert_reload && flags.cert_path.empty()) {
    return std::unexpected(Wrong("--enable-cert-reload: there is no --cert-path to watch"));
  }
  if (flags.ha_enable_leader_election) {
    return std::unexpected(
        Wrong("--ha-enable-leader-election: needs a Kubernetes API server connection, which is "
              "missing; run one replica, or several that each decide for themselves"));
  }
  if (!flags.endpoint_selector.empty()) {
    return std::unexpected(
        Wrong("--endpoint-selector: needs a Kubernetes API server connection, which is missing; "
              "name the engines with a file-discovery plugin, --endpoints-file or --engine"));
  }
  if (!flags.metrics_client_ca_file.empty() && flags.metrics_cert_dir.empty()) {
    return std::unexpected(
        Wrong("--metrics-client-ca-file: give --metrics-cert-dir too, so that there is TLS"));
  }
  if (flags.Has("metrics-endpoint-auth") && flags.metrics_endpoint_auth) {
    return std::unexpected(
        Wrong("--metrics-endpoint-auth: needs a Kubernetes API server connection, which is "
              "missing; give --metrics-endpoint-auth=false and keep the port inside"));
  }
  if (flags.Has("tracing") && flags.tracing) {
    telemetry::log::Warn("--tracing: OpenTelemetry is missing; no spans are sent");
  }
  return {};
}

Result<std::string> ConfigText(const EppFlags& flags, std::string* name) {
  if (!flags.config_file.empty() && !flags.config_text.empty()) {
    return std::unexpected(Wrong("give one of --config-file and --config-text"));
  }
  if (!flags.policy.empty() && (!flags.config_file.empty() || !flags.config_text.empty())) {
    return std::unexpected(Wrong("give one of --policy, --config-file and --config-text"));
  }
  if (!flags.config_text.empty()) {
    *name = "--config-text";
    return flags.config_text;
  }
  if (flags.config_file.empty()) {
    *name = "llm-d's default";
    return std::string(DefaultPickerConfig());
  }
  *name = flags.config_file;
  auto text = ReadFile(flags.config_file, wire::kMaxYamlBytes);
  if (!text) return std::unexpected(Wrong("--config-file: " + text.error().message));
  return text;
}

Result<> ReadConfiguration(const EppFlags& flags, PickerPlan* plan) {
  std::string name;
  const Result<std::string> text = ConfigText(flags, &name);
  if (!text) return std::unexpected(text.error());
  const Result<wire::YamlNode> tree = wire::ParseYaml(*text, name);
  if (!tree) return std::unexpected(tree.error());
  config::Diagnostics diagnostics{.file = name};
  sched::SchedulingSpec spec;
  spec.file = name;
  sched::LoadEndpointPickerConfig(*tree, plugins::Builtins(), sched::kPickerAbilities, &spec,
                                  &plan->settings, &diagnostics);
  if (!diagnostics.errors.empty()) {
    return std::unexpected(Wrong(fmt::format("{}", fmt::join(diagnostics.errors, "\n"))));
  }
  auto chosen = WireScheduler(spec, name, std::move(diagnostics));
  if (!chosen) return std::unexpected(chosen.error());
  plan->chosen = std::move(*chosen);
  return {};
}

Result<> FindEndpoints(const EppFlags& flags, PickerPlan* plan) {
  config::ServeConfig& config = plan->config;
  for (const std::string& text : flags.engines) {
    Result<config::EngineConfig> engine = config::ParseEngineFlag(text);
    if (!engine) return std::unexpected(engine.error());
    config.engines.push_back(std::move(*engine));
  }
  config.endpoints_file = flags.endpoints_file;
  if (plan->settings.discovery) {
    if (!config.endpoints_file.empty()) {
      return std::unexpected(
          Wrong("--endpoints-file: the configuration's dataLayer.discovery names a file already"));
    }
    config.endpoints_file = plan->settings.discovery->path;
    plan->watches_endpoints_file = plan->settings.discovery->watch_file;
  }
  if (!config.engines.empty() || !config.endpoints_file.empty()) return {};
  return std::unexpected(Wrong(
      std::string(flags.pool_name.empty() ? "" : "--pool-name=" + flags.pool_name + ": ") +
      "no endpoints: finding the pods of an InferencePool needs a Kubernetes API server "
      "connection, which is missing; name a file-discovery plugin under dataLayer.discovery, or "
      "give --endpoints-file or --engine"));
}

// Flags of the picker's older generation; whoever declares the source has said it all.
Result<> ApplySourceFlags(const EppFlags& flags, PickerPlan* plan) {
  plan->config.engine_tls.ca_file = flags.engine_ca_file;
  sched::EngineSource& source = plan->settings.metrics;
  const bool is_given = flags.Has("model-server-metrics-scheme") ||
                        flags.Has("model-server-metrics-path") ||
                        flags.Has("model-server-metrics-port") ||
                        flags.Has("model-server-metrics-https-insecure-skip-verify");
  if (!is_given) return {};
  if (!source.name.empty()) {
    telemetry::log::Warn(
        "--model-server-metrics-* have no effect: the configuration declares a "
        "metrics-data-source",
        {{"source", source.name}});
    return {};
  }
  if (!flags.model_server_metrics_path.empty() && flags.model_server_metrics_path.front() != '/') {
    return std::unexpected(
        Wrong(fmt::format("--model-server-metrics-path={}: does not begin with a slash",
                          flags.model_server_metrics_path)));
  }
  source.scheme = flags.model_server_metrics_scheme;
  source.port = flags.model_server_metrics_port;
  if (!flags.model_server_metrics_path.empty()) source.path = flags.model_server_metrics_path;
  if (flags.Has("model-server-metrics-https-insecure-skip-verify")) {
    source.insecure_skip_verify = flags.model_server_metrics_skip_verify;
  }
  return {};
}

void ApplyBounds(const EppFlags& flags, config::ServeConfig* config) {
  config->threads = flags.threads;
  config->limits.max_body_bytes = flags.max_body_bytes;
  config->limits.max_buffered_bytes = flags.max_buffered_bytes;
  config->limits.max_endpoints = flags.max_endpoints;
  config->timeouts.drain = flags.drain_timeout;
  config->recording.file = flags.record;
  config->scrape.interval = flags.refresh_metrics_interval;
  if (config->scrape.interval < kFastestScrape) {
    telemetry::log::Warn("--refresh-metrics-interval is raised to 50ms, as llm-d does");
    config->scrape.interval = kFastestScrape;
  }
}

}  // namespace

std::string PoolNamespace(const EppFlags& flags) {
  if (!flags.pool_namespace.empty()) return flags.pool_namespace;
  const char* const own = std::getenv("NAMESPACE");
  return own != nullptr && *own != '\0' ? own : "default";
}

std::string_view DefaultPickerConfig() {
  return R"(apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: queue-scorer}
- {type: kv-cache-utilization-scorer}
- {type: prefix-cache-scorer}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
)";
}

Result<PickerPlan> PlanPicker(const EppFlags& flags) {
  PickerPlan plan;
  if (Result<> checked = CheckMissing(flags); !checked) return std::unexpected(checked.error());
  if (flags.policy.empty()) {
    if (Result<> read = ReadConfiguration(flags, &plan); !read) {
      return std::unexpected(read.error());
    }
  } else {
    plan.config.scheduling.policy = flags.policy;
    auto chosen = MakeScheduler(plan.config.scheduling);
    if (!chosen) return std::unexpected(Wrong("--policy: " + chosen.error().message));
    plan.chosen = std::move(*chosen);
  }
  if (Result<> found = FindEndpoints(flags, &plan); !found) return std::unexpected(found.error());
  if (Result<> applied = ApplySourceFlags(flags, &plan); !applied) {
    return std::unexpected(applied.error());
  }
  ApplyBounds(flags, &plan.config);
  if (plan.settings.metrics.interval) {
    plan.config.scrape.interval =
        std::max<Duration>(*plan.settings.metrics.interval, kFastestScrape);
  }
  const bool is_v6 = flags.host.find(':') != std::string::npos;
  const std::string& host = flags.metrics_host.empty() ? flags.host : flags.metrics_host;
  plan.config.admin_listen = (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" +
                             std::to_string(flags.metrics_port);
  plan.config.listen =
      (is_v6 ? "[" + flags.host + "]" : flags.host) + ":" + std::to_string(flags.grpc_port);
  return plan;
}

}  // namespace penstock::app
