// The parameters of precise-prefix-cache-producer: llm-d's, and some of ours. What has no meaning
// here is read and told of; where somebody would rely on it, it is an error.
//
// SOURCE: llm-d-router's plugin parameters, older names included.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "core/time.h"
#include "kvcache/claims.h"
#include "kvcache/exact_caches.h"
#include "plugins/producers/cache_drift.h"
#include "sched/plugin.h"
#include "wire/yaml.h"

namespace penstock::plugins {

struct PrecisePrefixParameters {
  struct TokenProcessor {
    static constexpr uint32_t kDefaultBlock = 16;
    uint32_t block_size_tokens = kDefaultBlock, block_size = 0;
    std::string hash_seed, hash_algorithm;
    template <class V>
    void Describe(V& v) {
      v.Field("blockSizeTokens", block_size_tokens,
              {.text = "Block size of the index. The engines' may be another one.",
               .unit = "tokens",
               .min = 1,
               .max = 4096});
      v.Field("blockSize", block_size,
              {.text = "The same.", .max = 4096, .deprecated = "use blockSizeTokens."});
      v.Field("hashSeed", hash_seed,
              {.text = "Seed of upstream's keys.",
               .deprecated = "it has no effect: no engine or router has to agree on keys."});
      v.Field("hashAlgorithm", hash_algorithm,
              {.text = "Hash of upstream's keys.",
               .one_of = {"", "cbor-fnv", "xxh64"},
               .deprecated = "it has no effect: no engine or router has to agree on keys."});
    }
    // The older name counts only where the newer one stands at its default.
    uint32_t BlockSize() const {
      return block_size != 0 && block_size_tokens == kDefaultBlock ? block_size : block_size_tokens;
    }
  };

  struct BlockIndex {
    struct InMemory {
      uint64_t size = 0;
      uint32_t pod_cache_size = 10;
      template <class V>
      void Describe(V& v) {
        v.Field("size", size,
                {.text = "Keys of upstream's index.",
                 .deprecated = "it has no effect: use costAwareMemoryConfig.size, in bytes."});
        v.Field("podCacheSize", pod_cache_size,
                {.text = "Endpoints per key of upstream's index.",
                 .deprecated = "it has no effect: any number of endpoints may hold a block."});
      }
    };
    struct CostAware {
      uint64_t size = uint64_t{2} << 30;
      template <class V>
      void Describe(V& v) {
        v.Field("size", size, {.text = "Memory of the index.", .unit = "bytes", .min = 1 << 20});
      }
    };
    struct Remote {
      std::string address, backend_type;
      bool enable_rdma = false;
      template <class V>
      void Describe(V& v) {
        v.Field("address", address, {.text = "Address of the shared index."});
        v.Field("backendType", backend_type, {.text = "Kind of the shared index."});
        v.Field("enableRDMA", enable_rdma, {.text = "How it is reached."});
      }
    };
    std::optional<InMemory> in_memory;
    std::optional<CostAware> cost_aware;
    std::optional<Remote> redis, valkey;
    bool enable_metrics = false;
    wire::YamlNode logging_interval;  // nanoseconds, or a text
    uint32_t max_prefix_tokens = 0;
    template <class V>
    void Describe(V& v) {
      v.Field("inMemoryConfig", in_memory, {.text = "Bounds of upstream's index."});
      v.Field("costAwareMemoryConfig", cost_aware, {.text = "Bound of the index in bytes."});
      v.Field("redisConfig", redis, {.text = "An index in Redis: not available."});
      v.Field("valkeyConfig", valkey, {.text = "An index in Valkey: not available."});
      v.Field("enableMetrics", enable_metrics, {.text = "Metrics are always there."});
      v.Field("metricsLoggingInterval", logging_interval,
              {.text = "Metrics in the log.",
               .deprecated = "it has no effect: read /metrics or /debug/kv."});
      v.Field("maxPrefixTokensToMatch", max_prefix_tokens,
              {.text = "Longest prefix that is looked at; 0 for no limit.", .unit = "tokens"});
    }
  };

  struct BackendWeight {
    std::string name;
    double weight = 1;
    template <class V>
    void Describe(V& v) {
      v.Field("name", name, {.text = "Tier, as events name it: gpu, cpu, disk, storage."});
      v.Field(
          "weight", weight,
          {.text = "What a block there is worth, of one in the GPU's memory.", .min = 0, .max = 1});
    }
  };

  struct Indexer {
    BlockIndex block_index;
    std::vector<BackendWeight> backends;
    std::optional<TokenProcessor> token_processor;
    wire::YamlNode tokenizers_pool;
    std::optional<bool> speculative_indexing;
    template <class V>
    void Describe(V& v) {
      v.Field("kvBlockIndexConfig", block_index, {.text = "The index."});
      v.Field("kvCacheBackendConfigs", backends,
              {.text = "Worth of tiers, where it should be another one than tierTimes say."});
      v.Field("tokenProcessorConfig", token_processor,
              {.text = "The same as beside indexerConfig.",
               .deprecated = "use tokenProcessorConfig beside indexerConfig."});
      v.Field("tokenizersPoolConfig", tokenizers_pool,
              {.text = "A tokenizer of the index.", .deprecated = "use a token-producer."});
      v.Field("speculativeIndexing", speculative_indexing,
              {.text = "The same as beside indexerConfig.",
               .deprecated = "use speculativeIndexing beside indexerConfig."});
    }
  };

  struct KvEvents {
    struct Pods {
      std::string label_selector, namespace_name;
      uint32_t socket_port = 5557, replay_port = 0;
      bool only_sole = false;
      template <class V>
      void Describe(V& v) {
        v.Field("podLabelSelector", label_selector,
                {.text = "Labels of the endpoints that publish, as kubectl takes them (a=b, c!=d); "
                         "empty: all."});
        v.Field("podNamespace", namespace_name,
                {.text = "Where they are.",
                 .deprecated = "it has no effect: every endpoint of the pool is listened to."});
        v.Field("socketPort", socket_port,
                {.text = "Where each engine publishes; one up for each data-parallel rank.",
                 .min = 1,
                 .max = 65535});
        v.Field("replaySocketPort", replay_port,
                {.text = "Where it answers with its history, likewise; 0: it keeps none.",
                 .max = 65535});
        v.Field("soleEndpointsOnly", only_sole,
                {.text = "Try these ports only on hosts with one endpoint, and without a warning "
                         "where nobody answers: for engines of which is not known whether they "
                         "publish. Those that share a host are heard where kvEventsPort of each "
                         "says."});
      }
    };
    std::string endpoint, topic_filter, engine_type;
    uint32_t concurrency = 4;
    std::optional<bool> discover_pods;
    Pods pods;
    template <class V>
    void Describe(V& v) {
      v.Field("zmqEndpoint", endpoint,
              {.text = "Where engines connect to (tcp://*:5557); empty: nowhere."});
      v.Field("topicFilter", topic_filter,
              {.text = "Beginning of the topics that count; empty: all."});
      v.Field("concurrency", concurrency,
              {.text = "Threads that apply events.",
               .deprecated = "it has no effect: one thread applies millions of blocks a second."});
      v.Field("engineType", engine_type,
              {.text = "Kind of the engines. What they send says it too, and counts.",
               .one_of = {"", "vllm", "sglang"}});
      v.Field("discoverPods", discover_pods,
              {.text = "Whether each endpoint is listened to at the ports below; yes, unless "
                       "zmqEndpoint is given."});
      v.Field("podDiscoveryConfig", pods, {.text = "The ports of each endpoint."});
    }
  };

  // Of one token. SOURCE: computed: llm-d's peakPrefillThroughput of 15,928 tokens a second; cpu:
  // llm-d's weight of 0.8; disk and storage: Dynamo's credit of 0.25 for a disk.
  struct TierTimes {
    double recompute_us = 63, cpu_us = 12.6, disk_us = 47, storage_us = 47;
    template <class V>
    void Describe(V& v) {
      constexpr std::string_view kUnit = "us per token";
      v.Field("recompute", recompute_us, {.text = "Computing it.", .unit = kUnit, .min = 0.001});
      v.Field("cpu", cpu_us,
              {.text = "Loading it from the host's memory.", .unit = kUnit, .min = 0});
      v.Field("disk", disk_us, {.text = "Loading it from a disk.", .unit = kUnit, .min = 0});
      v.Field("storage", storage_us,
              {.text = "Loading it from storage that engines share.", .unit = kUnit, .min = 0});
    }
    double WorthOf(double load_us) const {
      return load_us < recompute_us ? 1 - load_us / recompute_us : 0;
    }
  };

  // SOURCE: docs/exact-caches.md.
  struct Snapshot {
    std::string file, secret_file;
    std::vector<std::string> siblings;
    Duration interval = seconds(60);
    template <class V>
    void Describe(V& v) {
      v.Field("file", file,
              {.text = "File in which what is known of the caches is kept for the next start."});
      v.Field("siblings", siblings,
              {.text = "Admin ports of other routers of the same engines, http://HOST:PORT, that "
                       "are asked at start for what they know."});
      v.Field("interval", interval,
              {.text = "Time between two writes of the file; it is written at the end, too.",
               .min = 1});
      v.Field("secretFile", secret_file,
              {.text = "File with at least 16 random bytes, the same for all routers that share "
                       "snapshots; empty: file with .secret behind it, made at the first start."});
    }
    bool is_on() const { return !file.empty() || !siblings.empty() || !secret_file.empty(); }
    std::string SecretFile() const {
      return secret_file.empty() && !file.empty() ? file + ".secret" : secret_file;
    }
    std::string Problem() const;
  };

  std::optional<TokenProcessor> token_processor;
  Indexer indexer;
  KvEvents kv_events;
  Snapshot snapshot;
  std::optional<bool> speculative_indexing;
  Duration speculative_ttl = seconds(2);
  TierTimes tier_times;
  double doubtful_worth = 0.5;
  double drift_limit = 0.2;
  uint32_t drift_answers = 10;

  template <class V>
  void Describe(V& v) {
    v.Field("tokenProcessorConfig", token_processor, {.text = "The blocks."});
    v.Field("indexerConfig", indexer, {.text = "The index."});
    v.Field("kvEventsConfig", kv_events, {.text = "Where engines are heard."});
    v.Field(
        "kvSnapshot", snapshot,
        {.text = "What is known of the caches, kept for the next start and for other routers."});
    v.Field("speculativeIndexing", speculative_indexing,
            {.text = "Count a prompt as cached where it was sent, until events tell; on unless "
                     "false."});
    v.Field("speculativeTTL", speculative_ttl,
            {.text = "How long that lasts after the first chunk of the answer.", .min = 0});
    v.Field("tierTimes", tier_times,
            {.text = "What loading a cached block costs, so that one in a slower tier is worth 1 - "
                     "load time / computing time."});
    v.Field("doubtfulWorth", doubtful_worth,
            {.text = "What a block is worth that the engine may have dropped while events were "
                     "missed.",
             .min = 0,
             .max = 1});
    v.Field("driftLimit", drift_limit,
            {.text = "Relative error of the expected cached tokens, over the last 20 answers, from "
                     "which an endpoint counts as degraded.",
             .min = 0.01,
             .max = 1});
    v.Field("driftAnswers", drift_answers,
            {.text = "Answers that it takes at least.", .min = 1, .max = 10000});
  }

  std::string Problem() const;

  uint32_t BlockSize() const;
  bool IsSpeculative() const {
    return speculative_indexing.value_or(indexer.speculative_indexing.value_or(true));
  }
  std::array<float, kvcache::kTiers> TierWorth() const;
  kvcache::ExactCaches::Options CacheOptions() const;
  kvcache::Claims::Options ClaimOptions() const;
  sched::KvEventSettings EventSettings() const;
};

}  // namespace penstock::plugins
