// Who is believed to hold which blocks, from what was sent where. Each slot remembers its most
// recently used blocks up to its capacity; a block nobody remembers is forgotten.
//
// A sequence is remembered tail first, because engines evict the end of a prefix before its
// beginning.
//
// THREADS: internally locked: a mutex per slot for its recency list, a mutex per shard of the map
// from key to holders. Readers take only shard locks, one block at a time.
// COST: 55 to 110 bytes per slot and block, by how many share it and how full the tables are.
// Lookup 11 ns a block, whatever the number of holders as long as neighbouring blocks have the same
// ones; insertion of a block that is known 30 ns, of a new one that displaces another 170 ns.
#pragma once

#include <array>
#include <atomic>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/mutex.h"
#include "kvcache/holder_set.h"

namespace penstock::kvcache {

class PrefixIndex {
 public:
  static constexpr uint64_t kBytesPerEntry = 112;  // measured: 55 to 110
  // Slots from here on are not tracked.
  static constexpr uint32_t kMaxSlots = 65536;

  explicit PrefixIndex(uint32_t default_capacity_blocks);
  ~PrefixIndex();

  // Adds to counts[slot] the number of blocks of the sequence that the slot holds, up to the first
  // block that nobody holds. Slots beyond `counts` are left out. Returns false when the first block
  // is held by nobody.
  bool Count(std::span<const uint64_t> sequence, std::span<float> counts) const;

  // The slot holds these blocks, and used them just now. Beyond its capacity it forgets those that
  // it used longest ago.
  void Insert(uint32_t slot, std::span<const uint64_t> sequence);

  // How many blocks the slot remembers; at least one. Shrinking forgets at once.
  void SetCapacity(uint32_t slot, uint32_t blocks);
  // Forgets all that the slot holds.
  // COST: in proportion to what the slot holds.
  void RemoveSlot(uint32_t slot);

  // Of all slots.
  uint64_t entries() const { return entries_.load(std::memory_order_relaxed); }
  // How often a slot forgot a block because its capacity was used up.
  uint64_t evictions() const { return evictions_.load(std::memory_order_relaxed); }
  // How many blocks are held by at least one slot.
  size_t blocks() const;
  // What all slots seen so far may hold at most.
  uint64_t MaxBytes() const;

 private:
  // Keys are hashes already.
  struct KeyHash {
    using is_avalanching = void;
    size_t operator()(uint64_t key) const { return key; }
  };
  template <class V>
  using Map = boost::unordered_flat_map<uint64_t, V, KeyHash>;

  // On cache lines of its own, so that loops in neighbouring shards do not disturb each other.
  struct alignas(64) Shard {
    // Held for one block's look-up or change.
    mutable Mutex mutex;
    Map<HolderSet> holders GUARDED_BY(mutex);
  };
  struct SlotBlocks;

  // The map uses the highest bits for the position and the lowest for the tag.
  static constexpr size_t kShards = 256;
  Shard& ShardOf(uint64_t key) const { return shards_[(key >> 16) % kShards]; }
  SlotBlocks* Slot(uint32_t slot, bool create) const;
  void AddHolder(uint64_t key, uint32_t slot);
  void RemoveHolder(uint64_t key, uint32_t slot);

  const uint32_t default_capacity_;
  mutable std::array<Shard, kShards> shards_;
  // Held for a look-up in the vector; what it points to lives as long as the index.
  mutable Mutex slots_mutex_;
  mutable std::vector<std::unique_ptr<SlotBlocks>> slots_ GUARDED_BY(slots_mutex_);
  std::atomic<uint64_t> entries_{0};
  std::atomic<uint64_t> evictions_{0};
};

}  // namespace penstock::kvcache
