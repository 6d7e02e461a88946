#include "sched/picker_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/text.h"
#include "model/endpoint.h"

namespace penstock::sched {
namespace {

using wire::YamlNode;

constexpr std::string_view kFlowControl = "flow control";
constexpr std::string_view kOldEngineLabel = "inference.networking.k8s.io/engine-type";
constexpr std::array<std::string_view, 5> kEngines = {"vllm", "sglang", "trtllm-serve",
                                                      "triton-tensorrt-llm", "triton"};
// What llm-d declares by itself.
constexpr std::array<std::string_view, 3> kDefaultPolicies = {
    "fcfs-ordering-policy", "global-strict-fairness-policy", "static-usage-limit-policy"};
constexpr std::array<std::string_view, 4> kDefaultParsers = {
    "openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser"};

bool IsGiven(const YamlNode& node) { return node.kind != YamlNode::Kind::kNull; }

// llm-d tells these of endpoints that come and go when they are named as extractors; here every
// plugin is told.
bool HearsOfEndpoints(const Instance& instance) {
  return instance.type != nullptr && instance.type->type.starts_with("precise-prefix-cache-");
}

}  // namespace

void PickerReader::ReadPlugin(const KnownType& known, const std::string& name,
                              const PluginDocument& plugin, const YamlNode& node) {
  const std::string what = fmt::format("plugin type '{}'", plugin.type);
  if (known.check != nullptr) {
    known.check(plugin.parameters, plugin.type, complaints_.diagnostics());
  }
  switch (known.role) {
    case KnownRole::kMissing:
      complaints_.Missing(Place(node, {"type"}), what, known.needs, "", known.instead);
      return;
    case KnownRole::kSource:
      ReadSource(known, name, plugin, node);
      return;
    case KnownRole::kExtractor:
      ReadExtractor(name, plugin, node);
      return;
    case KnownRole::kFlowPolicy:
      flow_policies_.push_back({&known, Place(node, {"type"})});
      return;
    case KnownRole::kParser:
      if (known.ability != nullptr && !(abilities_.*known.ability)) {
        Lacking(Place(node, {"type"}), what, known.needs);
      }
      return;
    case KnownRole::kDiscovery: {
      FileDiscoveryParameters parameters;
      if (!Parse(plugin, &parameters)) return;
      if (!abilities_.discovery) {
        Lacking(Place(node, {"type"}), what, known.needs, known.instead);
      }
      discoveries_[name] = {name, parameters.path, parameters.watch_file};
      return;
    }
  }
}

void PickerReader::ReadSource(const KnownType& known, const std::string& name,
                              const PluginDocument& plugin, const YamlNode& node) {
  if (known.type == "endpoint-notification-source") {
    NoParameters none;
    Parse(plugin, &none);
    return;
  }
  const bool is_models = known.type == "models-data-source";
  const std::string usual_path = is_models ? "/v1/models" : "/metrics";
  SourceParameters parameters;
  parameters.path = usual_path;
  if (!Parse(plugin, &parameters)) return;
  if (is_models ? out_.models.has_value() : std::exchange(has_metrics_, true)) {
    complaints_.Error(Place(node, {"type"}),
                      fmt::format("a second {} is declared; engines are read once", known.type));
    return;
  }
  EngineSource source;
  source.name = name;
  source.scheme = parameters.scheme;
  source.path = parameters.path;
  source.port = static_cast<uint16_t>(parameters.port);
  source.insecure_skip_verify = parameters.insecure_skip_verify;
  source.ca_cert_path = parameters.ca_cert_path;
  source.client_cert_path = parameters.client_cert_path;
  source.client_key_path = parameters.client_key_path;
  source.interval = parameters.interval;
  CheckSource(source, plugin, usual_path, node);
  if (is_models) {
    out_.models = std::move(source);
  } else {
    out_.metrics = std::move(source);
  }
}

void PickerReader::CheckSource(const EngineSource& source, const PluginDocument& plugin,
                               std::string_view usual_path, const YamlNode& node) {
  const auto at = [&](std::string_view key) -> const YamlNode& {
    return Place(node, {"parameters", key});
  };
  if (!source.path.starts_with('/')) {
    complaints_.Error(at("path"), fmt::format("{}.path: '{}' does not begin with a slash",
                                              plugin.type, source.path));
  }
  if (source.client_cert_path.empty() != source.client_key_path.empty()) {
    complaints_.Error(at("parameters"),
                      fmt::format("{}: clientCertPath and clientKeyPath go together", plugin.type));
  }
  if (source.scheme == "https" && source.insecure_skip_verify.value_or(false) &&
      !source.ca_cert_path.empty()) {
    complaints_.Warning(
        at("caCertPath"),
        fmt::format("{}.caCertPath is ignored: insecureSkipVerify is true", plugin.type));
  }
  const auto warn_without_tls = [&](std::string_view key, const std::string& value) {
    if (source.scheme == "https" || value.empty()) return;
    complaints_.Warning(
        at(key), source.scheme == "http"
                     ? fmt::format("{}.{} is ignored: scheme is http", plugin.type, key)
                     : fmt::format("{}.{} counts for engines alone that are named with https://: "
                                   "scheme is not given",
                                   plugin.type, key));
  };
  warn_without_tls("caCertPath", source.ca_cert_path);
  warn_without_tls("clientCertPath", source.client_cert_path);
  if (abilities_.source_places) return;
  if (source.scheme == "https") {
    Lacking(at("scheme"), plugin.type + " over https", "a scheme for the metrics of all engines",
            "write https:// in the url of each engine");
  }
  if (source.path != usual_path) {
    Lacking(at("path"), fmt::format("{}.path '{}'", plugin.type, source.path),
            fmt::format("metrics paths other than {}", usual_path));
  }
  if (source.port != 0) {
    Lacking(at("port"), plugin.type + ".port", "a metrics port for all engines",
            "set metricsPort of each engine");
  }
  if (source.interval) {
    complaints_.Warning(
        at("interval"),
        fmt::format("{}.interval is ignored: scrape of penstock.yaml sets it", plugin.type));
  }
}

void PickerReader::ReadExtractor(const std::string& name, const PluginDocument& plugin,
                                 const YamlNode& node) {
  if (plugin.type == "models-data-extractor") {
    NoParameters none;
    Parse(plugin, &none);
    return;
  }
  ExtractorParameters parameters;
  if (!Parse(plugin, &parameters)) return;
  if (std::exchange(has_extractor_, true)) {
    complaints_.Error(Place(node, {"type"}), "a second core-metrics-extractor is declared");
    return;
  }
  out_.extractor_name = name;
  out_.extractor.engine_label_key = parameters.engine_label_key;
  out_.extractor.default_engine = parameters.default_engine;
  const YamlNode& engines = Place(node, {"parameters", "engineConfigs"});
  for (size_t i = 0; i < parameters.engine_configs.size(); ++i) {
    ReadEngine(parameters.engine_configs[i], Item(engines, i));
  }
  CheckEngines(plugin, node);
}

void PickerReader::ReadEngine(const EngineMetricsDocument& engine, const YamlNode& node) {
  EngineMetrics out;
  out.name = engine.name;
  const auto read = [&](std::string_view key, const std::string& text,
                        std::optional<MetricSpec>* spec) {
    if (text.empty()) return;
    *spec = ParseMetricSpec(text);
    if (*spec) return;
    complaints_.Error(Place(node, {key}),
                      fmt::format("engineConfigs '{}': '{}' is no metric; write NAME or "
                                  "NAME{{LABEL=VALUE}}",
                                  engine.name, text));
  };
  read("queuedRequestsSpec", engine.waiting, &out.waiting);
  read("runningRequestsSpec", engine.running, &out.running);
  read("kvUsageSpec", engine.kv_usage, &out.kv_usage);
  read("loraSpec", engine.lora, &out.lora);
  read("cacheInfoSpec", engine.cache_info, &out.cache_info);
  read("cacheBlockSizeSpec", engine.block_size, &out.block_size);
  read("cacheNumBlocksSpec", engine.block_count, &out.block_count);
  out.block_size_label = engine.block_size_label;
  out.block_count_label = engine.block_count_label;
  if (out.cache_info && out.block_size_label.empty() && out.block_count_label.empty()) {
    complaints_.Warning(Place(node, {"cacheInfoSpec"}),
                        fmt::format("engineConfigs '{}': cacheInfoSpec tells nothing without "
                                    "cacheBlockSizeLabelName or cacheNumBlocksLabelName",
                                    engine.name));
  }
  const YamlNode& custom_node = Place(node, {"customMetrics"});
  for (size_t i = 0; i < engine.custom.size(); ++i) {
    const CustomMetricDocument& custom = engine.custom[i];
    std::optional<MetricSpec> spec;
    read("customMetrics", custom.metric_spec, &spec);
    if (spec) AddAttribute(custom.attribute_key, std::move(*spec), Item(custom_node, i), &out);
  }
  auto& engines = out_.extractor.engines;
  if (std::any_of(engines.begin(), engines.end(),
                  [&](const EngineMetrics& other) { return other.name == out.name; })) {
    complaints_.Error(Place(node, {"name"}),
                      fmt::format("engineConfigs: '{}' is described twice", out.name));
  }
  engines.push_back(std::move(out));
}

void PickerReader::AddAttribute(const std::string& key, MetricSpec spec, const YamlNode& node,
                                EngineMetrics* engine) {
  const auto& custom = engine->custom;
  if (std::any_of(custom.begin(), custom.end(),
                  [&](const CustomMetric& other) { return other.attribute_key == key; })) {
    complaints_.Error(
        Place(node, {"attributeKey"}),
        fmt::format("engineConfigs '{}': attribute '{}' has two metrics", engine->name, key));
    return;
  }
  if (attributes_.insert(key).second) {
    if (attributes_.size() == kMaxAttributes + 1) {
      complaints_.Error(node, fmt::format("customMetrics have more than {} different attributes",
                                          kMaxAttributes));
    }
  }
  engine->custom.push_back({key, std::move(spec)});
}

void PickerReader::CheckEngines(const PluginDocument& plugin, const YamlNode& node) {
  const ExtractorSettings& extractor = out_.extractor;
  std::vector<std::string_view> names(kEngines.begin(), kEngines.end());
  for (const EngineMetrics& engine : extractor.engines) names.push_back(engine.name);
  const YamlNode& place = Place(node, {"parameters", "defaultEngine"});
  if (std::find(names.begin(), names.end(), extractor.default_engine) == names.end()) {
    complaints_.Error(
        place, fmt::format("{}.defaultEngine: no engine is called '{}'{}", plugin.type,
                           extractor.default_engine, DidYouMean(extractor.default_engine, names)));
  } else if (!abilities_.engine_metrics && extractor.default_engine != "vllm" &&
             extractor.default_engine != "sglang") {
    Lacking(place, fmt::format("{}.defaultEngine '{}'", plugin.type, extractor.default_engine),
            "metrics of engines other than vllm and sglang");
  }
  if (abilities_.engine_metrics) return;
  if (extractor.engine_label_key != model::kEngineTypeLabel &&
      extractor.engine_label_key != kOldEngineLabel) {
    Lacking(Place(node, {"parameters", "engineLabelKey"}),
            fmt::format("{}.engineLabelKey '{}'", plugin.type, extractor.engine_label_key),
            "engine labels of other names");
  }
  if (!extractor.engines.empty()) {
    Lacking(Place(node, {"parameters", "engineConfigs"}), plugin.type + ".engineConfigs",
            "metric names from the configuration");
  }
}

void PickerReader::ReadGates(const std::vector<std::string>& gates, const YamlNode& node) {
  static constexpr std::array<std::string_view, 2> kGates = {"flowControl",
                                                             "haPopulateNonLeaderDatastore"};
  for (size_t i = 0; i < gates.size(); ++i) {
    const std::string_view gate = gates[i];
    const std::string_view name = gate.substr(0, gate.find('='));
    const std::string_view value =
        name.size() == gate.size() ? "true" : gate.substr(name.size() + 1);
    if (std::find(kGates.begin(), kGates.end(), name) == kGates.end()) {
      complaints_.Error(Item(node, i),
                        fmt::format("unknown feature gate '{}'{}", name, DidYouMean(name, kGates)));
    } else if (value != "true" && value != "false") {
      complaints_.Error(Item(node, i),
                        fmt::format("feature gate '{}' must be true or false", gate));
    } else if (name == "flowControl") {
      out_.gates.flow_control = value == "true";
      if (out_.gates.flow_control) {
        complaints_.Missing(Item(node, i), "feature gate 'flowControl'", kFlowControl, "", "");
      }
    } else {
      out_.gates.ha_populate_non_leader_datastore = value == "true";
    }
  }
}

void PickerReader::ReadDetector(const std::string& name, const YamlNode& node) {
  if (name.empty()) return;
  const Instance* instance = instances_.Resolve(name, node);
  if (instance == nullptr || instance->IsMissing()) return;
  if (instance->type == nullptr || !instance->type->detects_saturation) {
    complaints_.Error(Place(node, {"pluginRef"}),
                      fmt::format("'{}' is no saturation detector", name));
    return;
  }
  out_.saturation_detector = name;
  if (out_.gates.flow_control) return;
  complaints_.Warning(Place(node, {"pluginRef"}),
                      fmt::format("saturation detector '{}' refuses nothing: without flow control "
                                  "it is for requests of a negative priority, and this version "
                                  "knows no priorities",
                                  name));
}

void PickerReader::SettleFlowPolicies() {
  for (const FlowPolicy& policy : flow_policies_) {
    if (out_.gates.flow_control) {
      complaints_.Missing(policy.place, fmt::format("plugin type '{}'", policy.known->type),
                          policy.known->needs, "", "");
    } else {
      complaints_.Warning(policy.place,
                          fmt::format("'{}' has no effect: the feature gate 'flowControl' is off",
                                      policy.known->type));
    }
  }
  flow_policies_.clear();
}

// Only whether somebody has the name: what kind of policy it is, the lacking capability hides.
void PickerReader::CheckPolicy(const std::string& name, const YamlNode& node) {
  const auto& defaults = kDefaultPolicies;
  if (name.empty() || std::find(defaults.begin(), defaults.end(), name) != defaults.end()) return;
  instances_.Resolve(name, node);
}

// Without its gate flow control is off, and of its settings only the detector counts.
void PickerReader::ReadFlowControl(const YamlNode& document, const PickerDocument& parsed) {
  ReadGates(parsed.feature_gates, Place(document, {"featureGates"}));
  SettleFlowPolicies();
  const YamlNode& node = Place(document, {"flowControl"});
  if (parsed.saturation_detector) {
    ReadDetector(parsed.saturation_detector->plugin_ref, Place(document, {"saturationDetector"}));
  }
  if (!parsed.flow_control) return;
  const FlowControlDocument& flow = *parsed.flow_control;
  if (flow.saturation_detector) {
    ReadDetector(flow.saturation_detector->plugin_ref, Place(node, {"saturationDetector"}));
  }
  if (out_.gates.flow_control) {
    CheckPolicy(flow.usage_limit_policy, Place(node, {"usageLimitPolicyPluginRef"}));
    const YamlNode& bands = Place(node, {"priorityBands"});
    for (size_t i = 0; i < flow.bands.size(); ++i) {
      CheckPolicy(flow.bands[i].fairness_policy, Place(Item(bands, i), {"fairnessPolicyRef"}));
      CheckPolicy(flow.bands[i].ordering_policy, Place(Item(bands, i), {"orderingPolicyRef"}));
    }
    return;
  }
  const bool has_more =
      std::any_of(node.entries.begin(), node.entries.end(), [](const auto& entry) {
        return entry.first.scalar != "saturationDetector" && IsGiven(entry.second);
      });
  if (has_more) {
    complaints_.Warning(node, "flowControl is ignored: the feature gate 'flowControl' is off");
  }
}

void PickerReader::ReadDiscovery(const DataLayerDocument& data_layer, const YamlNode& node) {
  const YamlNode& place = Place(node, {"discovery"});
  if (data_layer.discovery) {
    const std::string& name = data_layer.discovery->plugin_ref;
    if (!abilities_.discovery) {
      Lacking(place, "dataLayer.discovery", "discovery plugins",
              "use endpointsFile of penstock.yaml");
      return;
    }
    const Instance* instance = name.empty() ? nullptr : instances_.Resolve(name, place);
    if (instance == nullptr) return;
    const auto found = discoveries_.find(name);
    if (found != discoveries_.end()) {
      out_.discovery = found->second;
    } else if (!instance->IsMissing() && !instance->Has(KnownRole::kDiscovery)) {
      complaints_.Error(Place(place, {"pluginRef"}),
                        fmt::format("'{}' is no discovery plugin", name));
    }
  }
  for (const auto& [name, discovery] : discoveries_) {
    if (!abilities_.discovery || (out_.discovery && out_.discovery->name == name)) continue;
    complaints_.Warning(
        place, fmt::format("'{}' is not used: dataLayer.discovery does not name it", name));
  }
}

void PickerReader::CheckSources(const std::vector<SourceDocument>& sources, const YamlNode& node) {
  const auto check_ref = [&](const std::string& name, const YamlNode& at, KnownRole role,
                             std::string_view what) {
    const Instance* instance = name.empty() ? nullptr : instances_.Resolve(name, at);
    if (instance == nullptr || instance->IsMissing() || instance->Has(role)) return;
    if (role == KnownRole::kExtractor && HearsOfEndpoints(*instance)) return;
    complaints_.Error(Place(at, {"pluginRef"}), fmt::format("'{}' is no {}", name, what));
  };
  for (size_t i = 0; i < sources.size(); ++i) {
    const YamlNode& source = Item(node, i);
    check_ref(sources[i].plugin_ref, source, KnownRole::kSource, "data source");
    const YamlNode& extractors = Place(source, {"extractors"});
    for (size_t k = 0; k < sources[i].extractors.size(); ++k) {
      check_ref(sources[i].extractors[k].plugin_ref, Item(extractors, k), KnownRole::kExtractor,
                "extractor");
    }
  }
}

void PickerReader::ReadDataLayer(const DataLayerDocument& data_layer, const YamlNode& node) {
  const auto refuse = [&](const YamlNode& value, std::string_view key, std::string_view needs) {
    if (!IsGiven(value)) return;
    complaints_.Missing(Place(node, {key}), fmt::format("dataLayer.{}", key), needs, "", "");
  };
  refuse(data_layer.peer_discovery, "peerDiscovery", "replicas that know each other");
  refuse(data_layer.syncer, "crossReplicaSyncerPluginRef", "replicas that share state");
  if (!data_layer.inject_defaults) {
    complaints_.Warning(Place(node, {"injectDefaults"}),
                        "dataLayer.injectDefaults is ignored: engines are always scraped, to know "
                        "their health");
  }
  ReadDiscovery(data_layer, node);
  CheckSources(data_layer.sources, Place(node, {"sources"}));
}

// Parsers may be referred to by their type without being declared: they have no settings.
void PickerReader::ReadParser(const std::string& name, const YamlNode& node) {
  if (name.empty()) return;
  const Instance* instance = instances_.Find(name);
  const KnownType* known = instance == nullptr ? FindKnownType(name) : instance->known;
  const bool is_parser = known != nullptr && known->role == KnownRole::kParser;
  if (is_parser) {
    if (instance == nullptr && known->ability != nullptr && !(abilities_.*known->ability)) {
      Lacking(Place(node, {"pluginRef"}), fmt::format("plugin type '{}'", name), known->needs);
    }
    out_.parsers.emplace_back(known->type);
  } else if (instance == nullptr) {
    instances_.Resolve(name, node);
  } else if (!instance->IsMissing()) {
    complaints_.Error(Place(node, {"pluginRef"}), fmt::format("'{}' is no request parser", name));
  }
}

void PickerReader::ReadDocument(const YamlNode& document, const PickerDocument& parsed) {
  if (parsed.api_version.starts_with("inference.")) {
    complaints_.Warning(
        Place(document, {"apiVersion"}),
        fmt::format("apiVersion {} is deprecated: use llm-d.ai/v1alpha1", parsed.api_version));
  }
  ReadFlowControl(document, parsed);
  ReadDataLayer(parsed.data_layer, Place(document, {"dataLayer"}));
  const YamlNode& parsers = Place(document, {"requestHandler", "parsers"});
  for (size_t i = 0; i < parsed.request_handler.parsers.size(); ++i) {
    ReadParser(parsed.request_handler.parsers[i].plugin_ref, Item(parsers, i));
  }
  if (parsed.parser) ReadParser(parsed.parser->plugin_ref, Place(document, {"parser"}));
  if (out_.parsers.empty()) out_.parsers.assign(kDefaultParsers.begin(), kDefaultParsers.end());
}

}  // namespace penstock::sched
