// The parameters of llm-d's plugin types whose machinery is not there, so that a typing mistake in
// one of them is told beside the missing capability. Where a type is built, its declaration moves
// into the plugin. Private to the table of known types.
//
// SOURCE: llm-d-router's plugin parameters, older names included.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/parse.h"
#include "core/time.h"
#include "sched/picker_document.h"
#include "wire/yaml.h"

namespace penstock::sched::known {

struct AgentIdentity {
  std::vector<std::string> additional_session_headers;
  template <class V>
  void Describe(V& v) {
    v.Field("additionalSessionHeaders", additional_session_headers);
  }
};

struct BurstPrefix {
  int32_t window_duration_ms = 100, max_per_replica = -1;
  uint32_t block_size_tokens = 64, max_prefix_tokens = 0, min_colocate_blocks = 0;
  uint32_t max_batch_size = 1000;
  std::string balance_by = "requests";
  template <class V>
  void Describe(V& v) {
    v.Field("windowDurationMs", window_duration_ms, {.min = 1, .max = 10000});
    v.Field("maxPerReplica", max_per_replica);
    v.Field("blockSizeTokens", block_size_tokens);
    v.Field("maxPrefixTokensToMatch", max_prefix_tokens);
    v.Field("minColocateBlocks", min_colocate_blocks);
    v.Field("maxBatchSize", max_batch_size);
    v.Field("balanceBy", balance_by, {.one_of = {"requests", "tokens"}});
  }
};

struct DcgmSource : SourceParameters {
  bool use_node_address = false;
  template <class V>
  void Describe(V& v) {
    SourceParameters::Describe(v);
    v.Field("useNodeAddress", use_node_address);
  }
};

struct StageNames {
  std::string prefill, decode, encode;
  template <class V>
  void Describe(V& v) {
    v.Field("prefill", prefill);
    v.Field("decode", decode);
    v.Field("encode", encode);
  }
};
struct Deciders {
  std::string prefill, encode;
  template <class V>
  void Describe(V& v) {
    v.Field("prefill", prefill);
    v.Field("encode", encode);
  }
};
struct DisaggHandler {
  std::string stage_order;
  StageNames profiles;
  Deciders deciders;
  std::string decode_profile, prefill_profile, encode_profile;
  std::string pd_decider, encode_decider, decider;
  template <class V>
  void Describe(V& v) {
    v.Field("stageOrder", stage_order, {.one_of = {"decode-first", "prefill-first"}});
    v.Field("profiles", profiles);
    v.Field("deciders", deciders);
    v.Field("decodeProfile", decode_profile, {.deprecated = "use profiles.decode."});
    v.Field("prefillProfile", prefill_profile, {.deprecated = "use profiles.prefill."});
    v.Field("encodeProfile", encode_profile, {.deprecated = "use profiles.encode."});
    v.Field("pdDeciderPluginName", pd_decider, {.deprecated = "use deciders.prefill."});
    v.Field("encodeDeciderPluginName", encode_decider, {.deprecated = "use deciders.encode."});
    v.Field("deciderPluginName", decider, {.deprecated = "use deciders.prefill."});
  }
};
struct PdHandler {
  double threshold = 0;
  uint32_t hash_block_size = 0, primary_port = 0;
  std::string decode_profile, prefill_profile, prefix_plugin_type, prefix_plugin_name, decider;
  template <class V>
  void Describe(V& v) {
    v.Field("threshold", threshold);
    v.Field("hashBlockSize", hash_block_size);
    v.Field("primaryPort", primary_port, {.max = 65535});
    v.Field("decodeProfile", decode_profile);
    v.Field("prefillProfile", prefill_profile);
    v.Field("prefixPluginType", prefix_plugin_type);
    v.Field("prefixPluginName", prefix_plugin_name);
    v.Field("deciderPluginName", decider);
  }
};
struct PdHeader {
  std::string prefill_profile;
  template <class V>
  void Describe(V& v) {
    v.Field("prefillProfile", prefill_profile);
  }
};
struct PrefixDecider {
  uint32_t non_cached_tokens = 0, prompt_tokens = 0;
  template <class V>
  void Describe(V& v) {
    v.Field("nonCachedTokens", non_cached_tokens);
    v.Field("promptTokens", prompt_tokens);
  }
};

struct RolloutScreener {
  struct Scope {
    std::string label_selector;
    template <class V>
    void Describe(V& v) {
      v.Field("labelSelector", label_selector);
    }
  };
  struct HeaderSelector {
    std::string name, header_name, label_key, mode;
    template <class V>
    void Describe(V& v) {
      v.Field("name", name);
      v.Field("headerName", header_name);
      v.Field("labelKey", label_key);
      v.Field("mode", mode, {.one_of = {"strict", "prefer"}});
    }
  };
  struct Roles {
    std::vector<std::string> values;
    template <class V>
    void Describe(V& v) {
      v.Field("values", values);
    }
  };
  struct Gating {
    std::string revision_label_key, role_label_key, mode;
    Roles require_roles;
    template <class V>
    void Describe(V& v) {
      v.Field("revisionLabelKey", revision_label_key);
      v.Field("roleLabelKey", role_label_key);
      v.Field("mode", mode, {.one_of = {"sum", "max-role", "disabled"}});
      v.Field("requireRoles", require_roles);
    }
  };
  Scope scope;
  std::vector<HeaderSelector> header_selectors;
  Gating revision_gating;
  template <class V>
  void Describe(V& v) {
    v.Field("scope", scope);
    v.Field("headerSelectors", header_selectors);
    v.Field("revisionGating", revision_gating);
  }
};

struct NotificationSource {
  std::string group, version, kind;
  template <class V>
  void Describe(V& v) {
    v.Field("group", group);
    v.Field("version", version);
    v.Field("kind", kind);
  }
};

struct LatencyScorer {
  double ttft_weight = 0.8, tpot_weight = 0.2;
  std::string strategy = "least";
  double kv_weight = 1, queue_weight = 1, prefix_weight = 1;
  std::string prefix_producer, latency_producer;
  template <class V>
  void Describe(V& v) {
    v.Field("ttftWeight", ttft_weight, {.min = 0});
    v.Field("tpotWeight", tpot_weight, {.min = 0});
    v.Field("headroomSelectionStrategy", strategy, {.one_of = {"least", "most"}});
    v.Field("compositeKVWeight", kv_weight, {.min = 0});
    v.Field("compositeQueueWeight", queue_weight, {.min = 0});
    v.Field("compositePrefixWeight", prefix_weight, {.min = 0});
    v.Field("prefixMatchInfoProducerName", prefix_producer);
    v.Field("latencyPredictionInfoProducerName", latency_producer);
  }
};
struct LatencyAdmitter {
  std::string latency_producer;
  template <class V>
  void Describe(V& v) {
    v.Field("latencyPredictionInfoProducerName", latency_producer);
  }
};
struct HeadroomFilter {
  double epsilon = 0.01;
  std::string latency_producer;
  template <class V>
  void Describe(V& v) {
    v.Field("epsilonExploreNeg", epsilon, {.min = 0, .max = 1});
    v.Field("latencyPredictionInfoProducerName", latency_producer);
  }
};
struct PredictedLatency {
  double slo_buffer_factor = 1;
  wire::YamlNode context_ttl;  // nanoseconds, or a text
  bool streaming_mode = false, predict_in_produce = true, use_encoder_cache = false;
  std::string role_label, prefix_producer, load_producer, encoder_producer;
  uint32_t sampling_mean = 0, max_samples = 0;
  template <class V>
  void Describe(V& v) {
    v.Field("sloBufferFactor", slo_buffer_factor);
    v.Field("contextTTL", context_ttl);
    v.Field("streamingMode", streaming_mode);
    v.Field("endpointRoleLabel", role_label);
    v.Field("predictInProduce", predict_in_produce);
    v.Field("useEncoderCacheFeatures", use_encoder_cache);
    v.Field("prefixMatchInfoProducerName", prefix_producer);
    v.Field("inFlightLoadProducerName", load_producer);
    v.Field("encoderCacheMatchInfoProducerName", encoder_producer);
    v.Field("samplingMean", sampling_mean, {.deprecated = "it has no effect."});
    v.Field("maxDecodeTokenSamplesForPrediction", max_samples, {.deprecated = "it has no effect."});
  }
};

struct EmbeddingsProducer {
  uint32_t size_mb = 4096, old_size_mb = 0;
  template <class V>
  void Describe(V& v) {
    v.Field("cacheSizeInMBPerServer", size_mb);
    v.Field("cacheSizeInMB", old_size_mb, {.deprecated = "use cacheSizeInMBPerServer."});
  }
};
struct EmbeddingsScorer {
  std::string producer;
  template <class V>
  void Describe(V& v) {
    v.Field("encoderCacheMatchInfoProducerName", producer);
  }
};

struct ClusterMetrics {
  std::string kv_usage, queue_size;
  template <class V>
  void Describe(V& v) {
    v.Field("kvCacheUtilizationMetric", kv_usage);
    v.Field("queueSizeMetric", queue_size);
  }
};
struct ClusterPrefixProducer {
  bool auto_tune = true;
  uint32_t block_size_tokens = 16, block_size = 0, max_tokens = 0, max_blocks = 0, capacity = 0;
  template <class V>
  void Describe(V& v) {
    v.Field("autoTune", auto_tune);
    v.Field("blockSizeTokens", block_size_tokens);
    v.Field("blockSize", block_size, {.deprecated = "use blockSizeTokens."});
    v.Field("maxPrefixTokensToMatch", max_tokens);
    v.Field("maxPrefixBlocksToMatch", max_blocks, {.deprecated = "use maxPrefixTokensToMatch."});
    v.Field("lruCapacityPerServer", capacity);
  }
};
struct ClusterPrefixScorer {
  std::string producer;
  double weight = 0;
  uint32_t scale_tokens = 8192;
  template <class V>
  void Describe(V& v) {
    v.Field("prefixMatchInfoProducerName", producer);
    v.Field("matchLengthWeight", weight, {.min = 0, .max = 1});
    v.Field("matchLengthScaleTokens", scale_tokens);
  }
};
struct ClusterSession {
  std::string strategy, profile_name;
  wire::YamlNode header, session_id;
  template <class V>
  void Describe(V& v) {
    v.Field("strategy", strategy, {.one_of = {"", "encoded_endpoint_header", "session_id"}});
    v.Field("encodedEndpointHeaderConfig", header);
    v.Field("sessionIdConfig", session_id);
    v.Field("profileName", profile_name);
  }
};

struct Admitter {
  double queue_depth = 5, kv_usage = 0.8, power = 5, k = 300;
  template <class V>
  void Describe(V& v) {
    v.Field("queueDepthThreshold", queue_depth);
    v.Field("kvCacheUtilThreshold", kv_usage);
    v.Field("power", power);
    v.Field("k", k);
  }
};

struct AttributeReporter {
  struct Key {
    std::string namespace_name, name;
    template <class V>
    void Describe(V& v) {
      v.Field("namespace", namespace_name);
      v.Field("name", name, {.required = true});
    }
  };
  struct Attribute {
    Key key;
    std::string expression, condition;
    template <class V>
    void Describe(V& v) {
      v.Field("key", key);
      v.Field("expression", expression, {.required = true});
      v.Field("condition", condition);
    }
  };
  std::vector<Attribute> attributes;
  template <class V>
  void Describe(V& v) {
    v.Field("attributes", attributes);
  }
};

struct TopologyFilter {
  std::string min_affinity = "host", producer;
  template <class V>
  void Describe(V& v) {
    v.Field("minAffinity", min_affinity, {.one_of = {"host", "rack", "zone", "region"}});
    v.Field("topologyProducerName", producer);
  }
};
struct TopologyScorer {
  std::string producer;
  template <class V>
  void Describe(V& v) {
    v.Field("topologyProducerName", producer);
  }
};

// --- flow control

struct Holdback {
  std::string shape = "linear", domain = "rank";
  double min_ceiling = 0, max_ceiling = 1;
  template <class V>
  void Describe(V& v) {
    v.Field("shape", shape, {.one_of = {"linear"}});
    v.Field("domain", domain, {.one_of = {"rank", "value"}});
    v.Field("minCeiling", min_ceiling, {.min = 0, .required = true});
    v.Field("maxCeiling", max_ceiling, {.min = 0});
  }
};
struct ProgramFairness {
  std::string strategy = "las";
  uint32_t ttl = 3600, sweep = 300;
  double service = 0.8, head_wait = 0.2, half_life = 60;
  template <class V>
  void Describe(V& v) {
    v.Field("strategy", strategy, {.one_of = {"las"}});
    v.Field("evictionTtlSeconds", ttl);
    v.Field("evictionSweepSeconds", sweep);
    v.Field("lasWeightService", service, {.min = 0});
    v.Field("lasWeightHeadWait", head_wait, {.min = 0});
    v.Field("lasHalfLifeSeconds", half_life, {.min = 0});
  }
};
struct UsageLimit {
  double threshold = 1;
  template <class V>
  void Describe(V& v) {
    v.Field("threshold", threshold, {.min = 0});
  }
};

template <class Parameters>
void Check(const wire::YamlNode& node, std::string_view path, config::Diagnostics* diagnostics) {
  Parameters parameters;
  config::ParseInto(node, path, &parameters, diagnostics);
}

}  // namespace penstock::sched::known
