// What an EndpointPickerConfig says beside its scheduling: where endpoints come from, how requests
// and engine metrics are read, which gates are open. The loader fills it; the program that runs the
// configuration acts on it.
//
// SOURCE: llm-d-router apix/config/v1alpha1 and the parameters of its discovery, source, extractor
// and parser plugins.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/time.h"

namespace penstock::sched {

// What the program that will run a configuration can do beside scheduling. What it cannot do is an
// error that names the capability.
struct Abilities {
  std::string_view program = "penstock serve";  // in that error
  bool discovery = false;                       // dataLayer.discovery
  bool source_places = false;                   // schemes, paths and ports of sources, for all
  bool engine_metrics = false;                  // engineConfigs, labels and engines of other names
  bool grpc_requests = false;                   // vllmgrpc-parser, vertexai-parser
  bool sglang_requests = false;                 // sglanghttp-parser
};
inline constexpr Abilities kGatewayAbilities{};
inline constexpr Abilities kPickerAbilities{.program = "penstock epp",
                                            .discovery = true,
                                            .source_places = true,
                                            .engine_metrics = true,
                                            .grpc_requests = true,
                                            .sglang_requests = true};

struct FeatureGates {
  bool flow_control = false;
  bool ha_populate_non_leader_datastore = true;
};

// The file-discovery plugin that dataLayer.discovery names.
struct FileDiscovery {
  std::string name;  // of the instance
  std::string path;
  bool watch_file = false;
};

// metrics-data-source or models-data-source. What is left empty keeps the program's own way.
struct EngineSource {
  std::string name;    // of the instance
  std::string scheme;  // "http", "https"; empty: the endpoint's own
  std::string path;
  uint16_t port = 0;  // 0: the endpoint's own
  // Nothing: with `scheme` https and no ca_cert_path certificates are not looked at, as llm-d does;
  // else they are.
  std::optional<bool> insecure_skip_verify;
  std::string ca_cert_path;
  std::string client_cert_path;
  std::string client_key_path;
  std::optional<Duration> interval;
};

// A series of an engine's /metrics: the family and the labels that it must have.
struct MetricSpec {
  std::string family;
  std::vector<std::pair<std::string, std::string>> labels;
  bool operator==(const MetricSpec&) const = default;
};
// "name", "name{label=value,other="value"}"; nothing for any other text.
std::optional<MetricSpec> ParseMetricSpec(std::string_view text);

struct CustomMetric {
  std::string attribute_key;
  MetricSpec spec;
  bool operator==(const CustomMetric&) const = default;
};
// Of all engines together, by name.
inline constexpr size_t kMaxAttributes = 64;

// How one kind of engine calls its metrics. Nothing: that engine does not report it.
struct EngineMetrics {
  std::string name;  // value of the engine label
  std::optional<MetricSpec> waiting;
  std::optional<MetricSpec> running;
  std::optional<MetricSpec> kv_usage;
  std::optional<MetricSpec> lora;
  std::optional<MetricSpec> cache_info;  // a series with the two sizes as labels
  std::string block_size_label;
  std::string block_count_label;
  std::optional<MetricSpec> block_size;  // or each as a series of its own
  std::optional<MetricSpec> block_count;
  std::vector<CustomMetric> custom;
  bool operator==(const EngineMetrics&) const = default;
};

// The settings of core-metrics-extractor.
struct ExtractorSettings {
  std::string engine_label_key = "llm-d.ai/engine-type";
  std::string default_engine = "vllm";
  // Beside the engines that are known anyway; one of a known name takes its place.
  std::vector<EngineMetrics> engines;
};

struct PickerSettings {
  std::string extractor_name;  // of the core-metrics-extractor instance; "" when none is declared
  FeatureGates gates;
  std::optional<FileDiscovery> discovery;  // nothing: endpoints come from Kubernetes or flags
  EngineSource metrics{.path = "/metrics"};
  std::optional<EngineSource> models;  // when a models-data-source is declared
  ExtractorSettings extractor;
  // Types, in the order in which they are asked. Never empty: the default ones when none is named.
  std::vector<std::string> parsers;
  // Name of the plugin that says when the pool is full; "" when the configuration names none.
  std::string saturation_detector;
};

}  // namespace penstock::sched
