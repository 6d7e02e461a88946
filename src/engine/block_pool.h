// The KV blocks of one engine: reference counts, a map from content hash to block, and a free list
// that is at once the cache's least-recently-used order. A block that nobody references keeps its
// content until it is taken for something else, so a later request can hit it.
//
// THREADS: none of its own; one owner. COST: O(1) a block; memory fixed at construction, 28 to 32
// bytes a block. SOURCE: vLLM V1 KVCacheManager and BlockPool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/block_listener.h"

namespace penstock::engine {

class BlockPool {
 public:
  using BlockId = uint32_t;

  // The listener, if any, outlives the pool.
  explicit BlockPool(uint32_t blocks, BlockListener* listener = nullptr);

  uint32_t total_blocks() const { return static_cast<uint32_t>(hashes_.size()); }
  uint32_t free_blocks() const { return free_count_; }  // referenced by nobody, cached or not
  size_t cached_blocks() const { return cached_count_; }
  // How often a block that nobody referenced was found and referenced.
  uint64_t revivals() const { return revivals_; }
  // Brings what Publish and Has look at first into the processor's cache.
  void Prefetch(uint64_t hash) const { __builtin_prefetch(&buckets_[BucketOf(hash)]); }
  bool Has(uint64_t hash) const { return Lookup(hash) != kNone; }
  uint32_t references(BlockId block) const { return states_[block].references; }

  // The blocks that hold the longest prefix of `hashes`, in order. Nothing is referenced yet.
  struct Match {
    std::vector<BlockId> blocks;
    uint32_t on_free_list = 0;  // of them; referencing these lowers free_blocks()
  };
  void Find(std::span<const uint64_t> hashes, Match* match) const;

  void Reference(std::span<const BlockId> blocks);
  // The least recently used free block, with one reference; its old content is forgotten.
  // REQUIRES: free_blocks() > 0.
  BlockId Take();
  // Says what a block holds. When another block already holds it, that one stays the cached copy.
  void Publish(BlockId block, uint64_t hash);
  // Takes it back: the content was never computed.
  void Unpublish(BlockId block) { Forget(block); }
  // Drops one reference each. `blocks` are in the order of the sequence: its tail becomes the first
  // to be reused.
  void Release(std::span<const BlockId> blocks);
  // Forgets all cached content that nobody references.
  void ForgetUnused();

 private:
  static constexpr BlockId kNone = UINT32_MAX;
  struct State {
    uint32_t references : 31 = 0;
    uint32_t is_cached : 1 = 0;
  };
  static_assert(sizeof(State) == 4);
  struct Links {
    BlockId previous = kNone;
    BlockId next = kNone;
  };

  // Hashes that follow each other, as lab's do, have buckets in one cache line.
  size_t BucketOf(uint64_t hash) const {
    return (((hash / kNeighbours) * kSpread >> line_shift_) * kNeighbours) + hash % kNeighbours;
  }
  BlockId Lookup(uint64_t hash) const;
  void Unlink(BlockId block);
  void PushBack(BlockId block);
  void Forget(BlockId block);

  static constexpr uint64_t kNeighbours = 64 / sizeof(BlockId);
  static constexpr uint64_t kSpread = 0x9e3779b97f4a7c15ULL;  // 2^64 / golden ratio

  BlockListener* const listener_;  // null: nobody hears
  // Of each block, apart, since a prompt's blocks are mostly shared with what runs: then only hash
  // and state are looked at, a few bytes of neighbours.
  std::vector<uint64_t> hashes_;
  std::vector<State> states_;
  std::vector<Links> free_list_;
  // The map: the first block of each bucket, and the others through `next_in_bucket_`.
  std::vector<BlockId> buckets_;
  std::vector<BlockId> next_in_bucket_;
  int line_shift_ = 63;  // from a spread hash to the line of its bucket
  size_t cached_count_ = 0;
  BlockId head_ = kNone;
  BlockId tail_ = kNone;
  uint32_t free_count_ = 0;
  uint64_t revivals_ = 0;
};

}  // namespace penstock::engine
