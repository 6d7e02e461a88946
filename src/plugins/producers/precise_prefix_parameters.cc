#include "plugins/producers/precise_prefix_parameters.h"

#include "config/serve_config.h"
#include "core/file.h"
#include "kvcache/event_decoder.h"

namespace penstock::plugins {
namespace {

constexpr size_t kMinSecret = 16;
constexpr size_t kMaxSecret = 4096;

// Without the end of its last line, so that copies made by hand agree.
Result<std::string> ReadSecret(const std::string& path) {
  auto secret = ReadFile(path, kMaxSecret);
  if (!secret) return secret;
  while (secret->ends_with('\n') || secret->ends_with('\r')) secret->pop_back();
  if (secret->size() >= kMinSecret) return secret;
  return Fail(Code::kInvalidArgument, path + ": has " + std::to_string(secret->size()) +
                                          " bytes, and a secret needs 16 random ones at least");
}

}  // namespace

std::string PrecisePrefixParameters::Snapshot::Problem() const {
  for (const std::string& sibling : siblings) {
    const auto url = config::ParseEngineUrl(sibling);
    if (!url || url->scheme != model::Scheme::kHttp) {
      return "kvSnapshot.siblings: '" + sibling +
             "' is no admin port of a router; write http://HOST:PORT";
    }
  }
  if (!siblings.empty() && secret_file.empty()) {
    return "kvSnapshot: siblings need secretFile, a file with the same random bytes for all of "
           "them: who has other ones cannot read what they know";
  }
  if (SecretFile().empty()) return "";
  const auto secret = ReadSecret(SecretFile());
  const bool may_come = secret_file.empty() && !secret && secret.error().code == Code::kNotFound;
  return secret || may_come ? "" : "kvSnapshot.secretFile: " + secret.error().message;
}

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
  return snapshot.Problem();
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
  // Problem() has told why it cannot be read; where it is still to be made, a random one counts.
  if (auto secret = ReadSecret(snapshot.SecretFile()); snapshot.is_on() && secret) {
    options.secret = std::move(*secret);
  }
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
          .only_sole = kv_events.pods.only_sole,
          .snapshot = {.file = snapshot.file,
                       .siblings = snapshot.siblings,
                       .interval = snapshot.interval,
                       .secret_file = snapshot.SecretFile()}};
}

}  // namespace penstock::plugins
