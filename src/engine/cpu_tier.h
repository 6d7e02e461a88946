// The KV blocks that host memory holds beside an engine's own cache: a bounded set of content
// hashes in the order of their last use. Only which content is there is kept, not where.
//
// THREADS: none of its own; one owner. COST: O(1) a block; memory grows to `capacity` blocks.
// SOURCE: vLLM v1/kv_offload/lru_manager.py.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/block_listener.h"

namespace penstock::engine {

class CpuTier {
 public:
  // `capacity` in blocks; 0: it never holds anything. The listener, if any, outlives the tier.
  explicit CpuTier(uint32_t capacity, BlockListener* listener = nullptr)
      : capacity_(capacity), listener_(listener) {}

  uint32_t capacity() const { return capacity_; }
  uint32_t blocks() const { return static_cast<uint32_t>(by_hash_.size()); }
  // How many of the first hashes it holds without a gap.
  size_t Prefix(std::span<const uint64_t> hashes) const;
  // Makes them the most recently used, the first of `hashes` most of all, so that a sequence loses
  // its tail before its head. Store takes in what is not there, at the cost of what was used least
  // recently; Touch leaves it out.
  void Store(std::span<const uint64_t> hashes);
  void Touch(std::span<const uint64_t> hashes);
  void Clear();

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Entry {
    uint64_t hash = 0;
    uint32_t previous = kNone;
    uint32_t next = kNone;
  };
  void Unlink(uint32_t entry);
  void PushBack(uint32_t entry);
  uint32_t TakeEntry();

  const uint32_t capacity_;
  BlockListener* const listener_;  // null: nobody hears
  std::vector<Entry> entries_;
  boost::unordered_flat_map<uint64_t, uint32_t> by_hash_;
  uint32_t head_ = kNone;  // least recently used
  uint32_t tail_ = kNone;
};

}  // namespace penstock::engine
