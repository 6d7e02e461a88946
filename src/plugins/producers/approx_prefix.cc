#include "plugins/producers/approx_prefix.h"

#include <algorithm>

#include "kvcache/block_keys.h"

namespace penstock::plugins {

ApproxPrefix::ApproxPrefix(const Options& options)
    : options_(options),
      block_size_tokens_(std::max(kLeastBlockSizeTokens, options.block_size_tokens)),
      index_(options.default_capacity_blocks) {}

void ApproxPrefix::Prepare(const model::Request& request, sched::PrefixKeys& keys) const {
  const uint32_t block_size = block_size_tokens_.load(std::memory_order_relaxed);
  if (keys.block_size_tokens != block_size) keys.blocks.clear();
  keys.block_size_tokens = block_size;
  const size_t block_bytes = block_size * model::kBytesPerToken;
  const uint64_t seed = kvcache::KeySeed(request.target_model, request.cache_salt, block_bytes);
  kvcache::AppendBlockKeys(request.prompt, seed, block_bytes, MaxBlocks(block_size), &keys.blocks,
                           &keys.sequence_ends);
}

void ApproxPrefix::Match(const sched::PrefixKeys& keys, const model::PoolSnapshot& pool,
                         model::PrefixColumn& column) const {
  column.total_blocks = static_cast<uint32_t>(keys.blocks.size());
  column.block_size_tokens = keys.block_size_tokens;
  const std::vector<uint32_t>& slots = pool.slots;
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

std::vector<sched::PluginStat> ApproxPrefix::Stats() const {
  return {{"prefix_indexer_size", static_cast<double>(index_.entries())},
          {"prefix_indexer_evictions_total", static_cast<double>(index_.evictions())}};
}

size_t ApproxPrefix::MaxBlocks(uint32_t block_size_tokens) const {
  if (options_.max_prefix_tokens > 0) {
    return std::max<uint64_t>(1, options_.max_prefix_tokens / block_size_tokens);
  }
  return options_.max_prefix_blocks > 0 ? options_.max_prefix_blocks : SIZE_MAX;
}

void ApproxPrefix::OnEndpointRestarted(uint32_t slot) {
  MutexLock lock(mutex_);
  index_.RemoveSlot(slot);
}

void ApproxPrefix::OnEndpointRemoved(uint32_t slot) {
  MutexLock lock(mutex_);
  index_.RemoveSlot(slot);
  if (slot >= servers_.size()) return;
  servers_[slot] = {};
  Retune(slot);
}

void ApproxPrefix::OnEndpointChanged(const model::EndpointInfo& endpoint) {
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

void ApproxPrefix::Retune(uint32_t slot) {
  uint32_t engines = 0;
  if (options_.auto_tune) {
    for (const Server& server : servers_) engines = std::max(engines, server.block_size_tokens);
    engines = std::min(engines, kMostBlockSizeTokens);
  }
  const uint32_t block_size =
      std::max(kLeastBlockSizeTokens, engines != 0 ? engines : options_.block_size_tokens);
  if (block_size_tokens_.exchange(block_size, std::memory_order_relaxed) == block_size) {
    SetCapacity(slot, block_size);
    return;
  }
  for (uint32_t i = 0; i < servers_.size(); ++i) SetCapacity(i, block_size);
}

void ApproxPrefix::SetCapacity(uint32_t slot, uint32_t block_size_tokens) {
  if (servers_[slot].address.empty()) return;
  index_.SetCapacity(slot, CapacityOf(servers_[slot], block_size_tokens));
}

uint32_t ApproxPrefix::CapacityOf(const Server& server, uint32_t block_size_tokens) const {
  if (!options_.auto_tune || server.gpu_blocks == 0) return options_.default_capacity_blocks;
  const uint64_t engine_block =
      server.block_size_tokens != 0 ? server.block_size_tokens : options_.block_size_tokens;
  const uint64_t blocks = server.gpu_blocks * engine_block / block_size_tokens;
  return static_cast<uint32_t>(std::clamp<uint64_t>(blocks, 1, kMostBlocksPerEndpoint));
}

}  // namespace penstock::plugins
