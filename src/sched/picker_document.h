// The fields of an EndpointPickerConfig document as they stand in the file, before anything is
// resolved. Private to the loader.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/describe.h"
#include "core/time.h"
#include "wire/yaml.h"

namespace penstock::sched {

struct PluginDocument {
  std::string name;
  std::string type;
  wire::YamlNode parameters;
  template <class V>
  void Describe(V& v) {
    v.Field("name", name, {.text = "How profiles refer to it; its type when empty."});
    v.Field("type", type, {.text = "What it is.", .required = true});
    v.Field("parameters", parameters, {.text = "Settings of that type."});
  }
};

struct RefDocument {
  std::string plugin_ref;
  template <class V>
  void Describe(V& v) {
    v.Field("pluginRef", plugin_ref, {.text = "Name of a plugin.", .required = true});
  }
};

struct ProfilePluginDocument {
  std::string plugin_ref;
  std::optional<double> weight;
  template <class V>
  void Describe(V& v) {
    v.Field("pluginRef", plugin_ref, {.text = "Name of a plugin.", .required = true});
    v.Field("weight", weight, {.text = "How much a scorer counts.", .min = -1e6, .max = 1e6});
  }
};

struct ProfileDocument {
  std::string name;
  std::vector<ProfilePluginDocument> plugins;
  template <class V>
  void Describe(V& v) {
    v.Field("name", name, {.text = "Unique name.", .required = true});
    v.Field("plugins", plugins, {.text = "Filters, scorers and a picker, in order."});
  }
};

struct SourceDocument {
  std::string plugin_ref;
  std::vector<RefDocument> extractors;
  template <class V>
  void Describe(V& v) {
    v.Field("pluginRef", plugin_ref, {.text = "Name of a source.", .required = true});
    v.Field("extractors", extractors, {.text = "What takes values from it."});
  }
};

struct DataLayerDocument {
  bool inject_defaults = true;
  std::vector<SourceDocument> sources;
  std::optional<RefDocument> discovery;
  wire::YamlNode peer_discovery;
  wire::YamlNode syncer;
  Duration sync_interval = milliseconds(200);
  template <class V>
  void Describe(V& v) {
    v.Field("injectDefaults", inject_defaults, {.text = "Add the metrics source."});
    v.Field("sources", sources, {.text = "Which source feeds which extractors."});
    v.Field("discovery", discovery, {.text = "Where endpoints come from."});
    v.Field("peerDiscovery", peer_discovery, {.text = "Where other replicas are."});
    v.Field("crossReplicaSyncerPluginRef", syncer, {.text = "State shared among replicas."});
    v.Field("crossReplicaSyncInterval", sync_interval, {.text = "How often.", .min = 0});
  }
};

struct RequestHandlerDocument {
  std::vector<RefDocument> parsers;
  template <class V>
  void Describe(V& v) {
    v.Field("parsers", parsers, {.text = "Request parsers, in order."});
  }
};

struct PriorityBandDocument {
  int32_t priority = 0;
  wire::YamlNode max_bytes;  // quantities, "10Gi" or a number
  wire::YamlNode max_requests;
  std::string fairness_policy;
  std::string ordering_policy;
  template <class V>
  void Describe(V& v) {
    v.Field("priority", priority, {.text = "Requests of this priority."});
    v.Field("maxBytes", max_bytes, {.text = "Bytes of bodies that may wait."});
    v.Field("maxRequests", max_requests, {.text = "Requests that may wait."});
    v.Field("fairnessPolicyRef", fairness_policy, {.text = "Which tenant is next."});
    v.Field("orderingPolicyRef", ordering_policy, {.text = "Which of a tenant's is next."});
  }
};

struct DetectorDocument {
  std::string plugin_ref;
  template <class V>
  void Describe(V& v) {
    v.Field("pluginRef", plugin_ref, {.text = "Name of a saturation detector."});
  }
};

struct FlowControlDocument {
  wire::YamlNode max_bytes;
  wire::YamlNode max_requests;
  std::optional<Duration> default_request_ttl;
  std::optional<Duration> no_endpoint_request_ttl;
  std::optional<PriorityBandDocument> default_band;
  std::optional<PriorityBandDocument> default_negative_band;
  std::vector<PriorityBandDocument> bands;
  std::string usage_limit_policy;
  std::optional<DetectorDocument> saturation_detector;
  bool enable_eviction = false;
  template <class V>
  void Describe(V& v) {
    v.Field("maxBytes", max_bytes, {.text = "Bytes of bodies that may wait in all."});
    v.Field("maxRequests", max_requests, {.text = "Requests that may wait in all."});
    v.Field("defaultRequestTTL", default_request_ttl, {.text = "How long one may wait.", .min = 0});
    v.Field("noEndpointRequestTTL", no_endpoint_request_ttl,
            {.text = "The same while there is no endpoint.", .min = 0});
    v.Field("defaultPriorityBand", default_band, {.text = "For priorities without a band."});
    v.Field("defaultNegativePriorityBand", default_negative_band,
            {.text = "The same below priority 0."});
    v.Field("priorityBands", bands, {.text = "Priorities with limits of their own."});
    v.Field("usageLimitPolicyPluginRef", usage_limit_policy,
            {.text = "How full the pool may be for whom."});
    v.Field("saturationDetector", saturation_detector, {.text = "What says how full it is."});
    v.Field("enableEviction", enable_eviction,
            {.text = "Whether running requests may be evicted."});
  }
};

struct PickerDocument {
  std::string api_version;
  std::string kind;
  std::vector<std::string> feature_gates;
  std::vector<PluginDocument> plugins;
  std::vector<ProfileDocument> profiles;
  DataLayerDocument data_layer;
  std::optional<FlowControlDocument> flow_control;
  RequestHandlerDocument request_handler;
  std::optional<DetectorDocument> saturation_detector;
  std::optional<RefDocument> parser;
  template <class V>
  void Describe(V& v) {
    v.Field("apiVersion", api_version,
            {.text = "Version of this format.",
             .required = true,
             .one_of = {"llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"}});
    v.Field("kind", kind,
            {.text = "Kind of document.", .required = true, .one_of = {"EndpointPickerConfig"}});
    v.Field("featureGates", feature_gates, {.text = "NAME, NAME=true or NAME=false."});
    v.Field("plugins", plugins, {.text = "Plugin instances."});
    v.Field("schedulingProfiles", profiles, {.text = "Profiles over the plugins."});
    v.Field("dataLayer", data_layer, {.text = "What is read from engines."});
    v.Field("flowControl", flow_control, {.text = "Queues and priorities."});
    v.Field("requestHandler", request_handler, {.text = "How requests are read."});
    v.Field("saturationDetector", saturation_detector,
            {.deprecated = "use flowControl.saturationDetector."});
    v.Field("parser", parser, {.deprecated = "use requestHandler.parsers."});
  }
};

// The settings of metrics-data-source and models-data-source.
struct SourceParameters {
  std::string scheme;
  std::string path;
  uint32_t port = 0;
  std::optional<bool> insecure_skip_verify;
  std::string ca_cert_path;
  std::string client_cert_path;
  std::string client_key_path;
  std::optional<Duration> interval;
  template <class V>
  void Describe(V& v) {
    v.Field("scheme", scheme, {.one_of = {"http", "https"}});
    v.Field("path", path);
    v.Field("port", port, {.max = 65535});
    v.Field("insecureSkipVerify", insecure_skip_verify);
    v.Field("caCertPath", ca_cert_path);
    v.Field("clientCertPath", client_cert_path);
    v.Field("clientKeyPath", client_key_path);
    v.Field("interval", interval, {.min = 0});
  }
};

struct CustomMetricDocument {
  std::string attribute_key;
  std::string metric_spec;
  template <class V>
  void Describe(V& v) {
    v.Field("attributeKey", attribute_key, {.required = true});
    v.Field("metricSpec", metric_spec, {.required = true});
  }
};

struct EngineMetricsDocument {
  std::string name;
  std::string waiting;
  std::string running;
  std::string kv_usage;
  std::string lora;
  std::string cache_info;
  std::string block_size_label;
  std::string block_count_label;
  std::string block_size;
  std::string block_count;
  std::vector<CustomMetricDocument> custom;
  template <class V>
  void Describe(V& v) {
    v.Field("name", name, {.required = true});
    v.Field("queuedRequestsSpec", waiting);
    v.Field("runningRequestsSpec", running);
    v.Field("kvUsageSpec", kv_usage);
    v.Field("loraSpec", lora);
    v.Field("cacheInfoSpec", cache_info);
    v.Field("cacheBlockSizeLabelName", block_size_label);
    v.Field("cacheNumBlocksLabelName", block_count_label);
    v.Field("cacheBlockSizeSpec", block_size);
    v.Field("cacheNumBlocksSpec", block_count);
    v.Field("customMetrics", custom);
  }
};

// The settings of core-metrics-extractor.
struct ExtractorParameters {
  std::string engine_label_key = "llm-d.ai/engine-type";
  std::string default_engine = "vllm";
  std::vector<EngineMetricsDocument> engine_configs;
  template <class V>
  void Describe(V& v) {
    v.Field("engineLabelKey", engine_label_key);
    v.Field("defaultEngine", default_engine);
    v.Field("engineConfigs", engine_configs);
  }
};

// The settings of file-discovery.
struct FileDiscoveryParameters {
  std::string path;
  bool watch_file = false;
  template <class V>
  void Describe(V& v) {
    v.Field("path", path, {.required = true});
    v.Field("watchFile", watch_file);
  }
};

struct NoParameters {
  template <class V>
  void Describe(V&) {}
};

}  // namespace penstock::sched
