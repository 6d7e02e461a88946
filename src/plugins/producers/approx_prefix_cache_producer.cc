// Which endpoints are likely to hold how much of the prompt, judged from what was sent to them.
//
// THREADS: the index locks internally; block size and capacities change under a mutex that only
// endpoint changes take.
// SOURCE: llm-d-router approx-prefix-cache-producer. Here a pick is known to the next decision at
// once, and an engine's block count is converted to blocks of our size.
#include <algorithm>
#include <atomic>

#include "core/mutex.h"
#include "kvcache/block_keys.h"
#include "kvcache/prefix_index.h"
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

constexpr uint32_t kDefaultBlockSizeTokens = 16;
constexpr uint32_t kLeastBlockSizeTokens = 64;
constexpr uint32_t kMostBlockSizeTokens = 65536;
// A bound on what an engine can make us keep for it: 268 million tokens of KV cache.
constexpr uint64_t kMostBlocksPerEndpoint = 1U << 22;

class ApproxPrefixCacheProducer : public sched::Producer {
 public:
  struct Params {
    bool auto_tune = true;
    uint32_t block_size_tokens = kDefaultBlockSizeTokens;
    std::optional<uint32_t> block_size;
    // The older name counts only where the newer one stands at its default.
    uint32_t ConfiguredBlockSize() const {
      return block_size_tokens == kDefaultBlockSizeTokens ? block_size.value_or(block_size_tokens)
                                                          : block_size_tokens;
    }
    uint64_t max_prefix_tokens_to_match = 131072;
    uint64_t max_prefix_blocks_to_match = 2048;
    uint32_t lru_capacity_per_server = 31250;
    template <class V>
    void Describe(V& v) {
      v.Field("autoTune", auto_tune,
              {.text = "Take block size and cache size from the engines' metrics."});
      v.Field("blockSizeTokens", block_size_tokens,
              {.text = "Block size where engines do not say; 64 at least is used.",
               .unit = "tokens",
               .min = 1,
               .max = kMostBlockSizeTokens});
      v.Field("blockSize", block_size,
              {.text = "The same.",
               .min = 1,
               .max = kMostBlockSizeTokens,
               .deprecated = "use blockSizeTokens."});
      v.Field("maxPrefixTokensToMatch", max_prefix_tokens_to_match,
              {.text = "Longest prefix that is looked at; 0 leaves it to maxPrefixBlocksToMatch.",
               .unit = "tokens"});
      v.Field("maxPrefixBlocksToMatch", max_prefix_blocks_to_match,
              {.text = "The same in blocks; 0 for no limit.",
               .unit = "blocks",
               .deprecated = "use maxPrefixTokensToMatch."});
      v.Field("lruCapacityPerServer", lru_capacity_per_server,
              {.text = "Blocks remembered per endpoint where its cache size is not known.",
               .unit = "blocks",
               .min = 1,
               .max = kMostBlocksPerEndpoint});
    }
  };

  explicit ApproxPrefixCacheProducer(Params params)
      : params_(std::move(params)),
        configured_block_size_(params_.ConfiguredBlockSize()),
        block_size_tokens_(std::max(kLeastBlockSizeTokens, configured_block_size_)),
        index_(params_.lru_capacity_per_server) {}

  std::vector<sched::Need> Needs() override { return {{DataKey::kTokens, ""}}; }
  std::vector<DataKey> Produces() const override { return {DataKey::kPrefixMatch}; }
  void SetIndex(DataKey, uint32_t index) override { column_ = index; }

  void Prepare(sched::RequestContext& context, Time) const override {
    sched::PrefixKeys& keys = context.prefix_keys[column_];
    const uint32_t block_size = block_size_tokens_.load(std::memory_order_relaxed);
    if (keys.block_size_tokens != block_size) keys.blocks.clear();
    keys.block_size_tokens = block_size;
    const size_t block_bytes = block_size * model::kBytesPerToken;
    const uint64_t seed =
        kvcache::KeySeed(context.request.target_model, context.request.cache_salt, block_bytes);
    kvcache::AppendBlockKeys(context.request.prompt, seed, block_bytes, MaxBlocks(block_size),
                             &keys.blocks, &keys.sequence_ends);
  }

  void Produce(const sched::RequestContext& context,
               model::EndpointColumns& columns) const override;

  void OnPicked(sched::RequestContext& context, const model::EndpointColumns&,
                const sched::Picked& picked) override {
    index_.Insert(picked.slot, context.prefix_keys[column_].blocks);
  }
  void OnEndpointRemoved(uint32_t slot) override;
  void OnEndpointRestarted(uint32_t slot) override {
    MutexLock lock(mutex_);
    index_.RemoveSlot(slot);
  }
  void OnEndpointChanged(const model::EndpointInfo& endpoint) override;
  uint64_t MaxBytes() const override { return index_.MaxBytes(); }
  std::vector<sched::PluginStat> Stats() const override {
    return {{"prefix_indexer_size", static_cast<double>(index_.entries())},
            {"prefix_indexer_evictions_total", static_cast<double>(index_.evictions())}};
  }

 private:
  struct Server {
    std::string address;  // "": nobody
    uint32_t block_size_tokens = 0;
    uint32_t gpu_blocks = 0;
    bool operator==(const Server&) const = default;
  };

  size_t MaxBlocks(uint32_t block_size_tokens) const {
    if (params_.max_prefix_tokens_to_match > 0) {
      return std::max<uint64_t>(1, params_.max_prefix_tokens_to_match / block_size_tokens);
    }
    return params_.max_prefix_blocks_to_match > 0 ? params_.max_prefix_blocks_to_match : SIZE_MAX;
  }
  // Settles the block size after the server in `slot` changed, and how much it remembers; all of
  // them when the block size is another one.
  void Retune(uint32_t slot) REQUIRES_LOCK(mutex_);
  void SetCapacity(uint32_t slot, uint32_t block_size_tokens) REQUIRES_LOCK(mutex_);
  uint32_t CapacityOf(const Server& server, uint32_t block_size_tokens) const;

  const Params params_;
  const uint32_t configured_block_size_;
  std::atomic<uint32_t> block_size_tokens_;
  uint32_t column_ = 0;
  kvcache::PrefixIndex index_;
  // Taken when endpoints come, change or go.
  Mutex mutex_;
  std::vector<Server> servers_ GUARDED_BY(mutex_);  // by slot
};

void ApproxPrefixCacheProducer::Produce(const sched::RequestContext& context,
                                        model::EndpointColumns& columns) const {
  const sched::PrefixKeys& keys = context.prefix_keys[column_];
  model::PrefixColumn& column = columns.prefix[column_];
  column.total_blocks = static_cast<uint32_t>(keys.blocks.size());
  column.block_size_tokens = keys.block_size_tokens;
  const std::vector<uint32_t>& slots = columns.pool->slots;
  column.matched_blocks.assign(slots.size(), 0.0F);
  if (keys.blocks.empty() || slots.empty()) return;

  thread_local std::vector<float> counts;  // by slot
  counts.assign(*std::max_element(slots.begin(), slots.end()) + size_t{1}, 0.0F);
  bool any = false;
  size_t begin = 0;
  for (const uint32_t end : keys.sequence_ends) {
    any |= index_.Count(std::span(keys.blocks).subspan(begin, end - begin), counts);
    begin = end;
  }
  if (!any) return;
  float* const matched = column.matched_blocks.data();
  for (size_t i = 0; i < slots.size(); ++i) matched[i] = counts[slots[i]];
}

void ApproxPrefixCacheProducer::OnEndpointRemoved(uint32_t slot) {
  MutexLock lock(mutex_);
  index_.RemoveSlot(slot);
  if (slot >= servers_.size()) return;
  servers_[slot] = {};
  Retune(slot);
}

void ApproxPrefixCacheProducer::OnEndpointChanged(const model::EndpointInfo& endpoint) {
  MutexLock lock(mutex_);
  if (endpoint.slot >= kvcache::PrefixIndex::kMaxSlots) return;
  if (endpoint.slot >= servers_.size()) servers_.resize(endpoint.slot + 1);
  Server& server = servers_[endpoint.slot];
  const Server now{endpoint.address, endpoint.block_size_tokens, endpoint.gpu_blocks};
  if (server == now) return;
  // A decision that was under way when the slot's last endpoint left may have claimed blocks since.
  if (server.address != now.address) index_.RemoveSlot(endpoint.slot);
  server = now;
  Retune(endpoint.slot);
}

void ApproxPrefixCacheProducer::Retune(uint32_t slot) {
  uint32_t engines = 0;
  if (params_.auto_tune) {
    for (const Server& server : servers_) engines = std::max(engines, server.block_size_tokens);
    engines = std::min(engines, kMostBlockSizeTokens);
  }
  const uint32_t block_size =
      std::max(kLeastBlockSizeTokens, engines != 0 ? engines : configured_block_size_);
  if (block_size_tokens_.exchange(block_size, std::memory_order_relaxed) == block_size) {
    SetCapacity(slot, block_size);
    return;
  }
  for (uint32_t i = 0; i < servers_.size(); ++i) SetCapacity(i, block_size);
}

void ApproxPrefixCacheProducer::SetCapacity(uint32_t slot, uint32_t block_size_tokens) {
  if (servers_[slot].address.empty()) return;
  index_.SetCapacity(slot, CapacityOf(servers_[slot], block_size_tokens));
}

uint32_t ApproxPrefixCacheProducer::CapacityOf(const Server& server,
                                               uint32_t block_size_tokens) const {
  if (!params_.auto_tune || server.gpu_blocks == 0) return params_.lru_capacity_per_server;
  const uint64_t engine_block =
      server.block_size_tokens != 0 ? server.block_size_tokens : configured_block_size_;
  const uint64_t blocks = server.gpu_blocks * engine_block / block_size_tokens;
  return static_cast<uint32_t>(std::clamp<uint64_t>(blocks, 1, kMostBlocksPerEndpoint));
}

}  // namespace

sched::PluginType ApproxPrefixCacheProducerType() {
  auto type = sched::MakeType<ApproxPrefixCacheProducer>(
      "approx-prefix-cache-producer", sched::Kind::kProducer,
      "Remembers which blocks of which prompts were sent where, and matches the prompt against "
      "that.");
  type.formula =
      "blocks of max(64, engine's or configured size) tokens, each keyed by its bytes and the key "
      "before; an endpoint's match is the number of blocks it has, up to the first that nobody "
      "has";
  type.default_producer_of = {DataKey::kPrefixMatch};
  return type;
}

}  // namespace penstock::plugins
