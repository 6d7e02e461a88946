// Which endpoints are likely to hold how much of a prompt, judged from what was sent to them: what
// the producers of a prefix match share.
//
// THREADS: the index locks internally; block size and capacities change under a mutex that only
// endpoint changes take.
// SOURCE: llm-d-router approx-prefix-cache-producer. Here a pick is known to the next decision at
// once, and an engine's block count is converted to blocks of our size.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "core/mutex.h"
#include "kvcache/prefix_index.h"
#include "model/columns.h"
#include "model/endpoint.h"
#include "sched/plugin.h"

namespace penstock::plugins {

class ApproxPrefix {
 public:
  static constexpr uint32_t kDefaultBlockSizeTokens = 16;
  static constexpr uint32_t kLeastBlockSizeTokens = 64;
  static constexpr uint32_t kMostBlockSizeTokens = 65536;
  // A bound on what an engine can make us keep for it: 268 million tokens of KV cache.
  static constexpr uint64_t kMostBlocksPerEndpoint = 1U << 22;

  struct Options {
    bool auto_tune = true;  // block size and cache size are the engines'
    uint32_t block_size_tokens = kDefaultBlockSizeTokens;  // where engines do not say
    uint64_t max_prefix_tokens = 131072;                   // 0: max_prefix_blocks counts
    uint64_t max_prefix_blocks = 2048;                     // 0: no limit
    uint32_t default_capacity_blocks = 31250;              // of an endpoint
  };
  explicit ApproxPrefix(const Options& options);

  // The keys of the request's prompts, at arrival.
  void Prepare(const model::Request& request, sched::PrefixKeys& keys) const;
  // Fills the column for all endpoints.
  void Match(const sched::PrefixKeys& keys, const model::PoolSnapshot& pool,
             model::PrefixColumn& column) const;
  // The prompts went to the endpoint in that slot.
  void Insert(uint32_t slot, const sched::PrefixKeys& keys) { index_.Insert(slot, keys.blocks); }

  void OnEndpointRemoved(uint32_t slot);
  void OnEndpointRestarted(uint32_t slot);
  void OnEndpointChanged(const model::EndpointInfo& endpoint);

  uint64_t MaxBytes() const { return index_.MaxBytes(); }
  std::vector<sched::PluginStat> Stats() const;

 private:
  struct Server {
    std::string address;  // "": nobody
    uint32_t block_size_tokens = 0;
    uint32_t gpu_blocks = 0;
    bool operator==(const Server&) const = default;
  };

  size_t MaxBlocks(uint32_t block_size_tokens) const;
  // Settles the block size after the server in `slot` changed, and how much it remembers; all of
  // them when the block size is another one.
  void Retune(uint32_t slot) REQUIRES_LOCK(mutex_);
  void SetCapacity(uint32_t slot, uint32_t block_size_tokens) REQUIRES_LOCK(mutex_);
  uint32_t CapacityOf(const Server& server, uint32_t block_size_tokens) const;

  const Options options_;
  std::atomic<uint32_t> block_size_tokens_;
  kvcache::PrefixIndex index_;
  // Taken when endpoints come, change or go.
  Mutex mutex_;
  std::vector<Server> servers_ GUARDED_BY(mutex_);  // by slot
};

}  // namespace penstock::plugins
