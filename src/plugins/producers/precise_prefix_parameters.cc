#include "plugins/producers/precise_prefix_parameters.h"

#include "kvcache/event_decoder.h"

namespace penstock::plugins {

std::string PrecisePrefixParameters::Problem() const {
  const BlockIndex& index = indexer.block_index;
  if (index.redis || index.valkey) {
    return std::string("indexerConfig.kvBlockIndexConfig.") +
           (index.redis ? "redisConfig" : "valkeyConfig") +
           ": routers do not share an index here; leave it out: every router listens to all "
           "engines "
           "itself and knows the same";
  }
  for (const BackendWeight& backend : indexer.backends) {
    if (backend.name.empty() || !kvcache::TierOf(backend.name)) {
      return "indexerConfig.kvCacheBackendConfigs: '" + backend.name +
             "' is no tier; there are gpu, cpu, disk and storage";
    }
  }
  if (kv_events.endpoint.empty() && !kv_events.discover_pods.value_or(true)) {
    return "kvEventsConfig: with discoverPods: false no event can be heard; give zmqEndpoint, to "
           "which engines connect, or leave discoverPods out";
  }
  return "";
}

uint32_t PrecisePrefixParameters::BlockSize() const {
  if (token_processor) return token_processor->BlockSize();
  return indexer.token_processor.value_or(TokenProcessor()).BlockSize();
}

std::array<float, kvcache::kTiers> PrecisePrefixParameters::TierWorth() const {
  std::array<float, kvcache::kTiers> worth = {
      1.0F, static_cast<float>(tier_times.WorthOf(tier_times.cpu_us)),
      static_cast<float>(tier_times.WorthOf(tier_times.disk_us)),
      static_cast<float>(tier_times.WorthOf(tier_times.storage_us))};
  for (const BackendWeight& backend : indexer.backends) {
    if (const auto tier = kvcache::TierOf(backend.name)) {
      worth[static_cast<size_t>(*tier)] = static_cast<float>(backend.weight);
    }
  }
  return worth;
}

kvcache::ExactCaches::Options PrecisePrefixParameters::CacheOptions() const {
  kvcache::ExactCaches::Options options;
  options.index.block_tokens = BlockSize();
  // Each endpoint may need a slot for its events and one for claims.
  options.index.max_slots = 8192;
  if (indexer.block_index.cost_aware)
    options.index.max_bytes = indexer.block_index.cost_aware->size;
  return options;
}

kvcache::Claims::Options PrecisePrefixParameters::ClaimOptions() const {
  kvcache::Claims::Options options;
  options.after_first_chunk = speculative_ttl;
  return options;
}

sched::KvEventSettings PrecisePrefixParameters::EventSettings() const {
  return {.bind = kv_events.endpoint,
          .topic_filter = kv_events.topic_filter,
          .dials = kv_events.discover_pods.value_or(kv_events.endpoint.empty()),
          .label_selector = kv_events.pods.label_selector,
          .port = static_cast<uint16_t>(kv_events.pods.socket_port),
          .replay_port = static_cast<uint16_t>(kv_events.pods.replay_port),
          .only_sole = kv_events.pods.only_sole};
}

}  // namespace penstock::plugins
