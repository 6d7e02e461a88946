// The blocks that finished requests leave for other engines to read: what a prefill engine keeps
// until the decode engine has the KV. A hold is a lease: it ends when it is released or when its
// time is over, whichever comes first, and keeps its blocks from everybody else until then.
//
//   kHeld ──Consume──► kConsumed ──Release──► (no blocks)
//     ├──Release──► kReleased      kHeld or kConsumed with blocks ──Expire──► kExpired
//
// Holds that ended are remembered, the last kMaxEnded of them, to tell a second reader and a late
// one from one that names what never was.
//
// THREADS: none of its own; one owner. OWNS: a reference to each block; borrows the pool, which
// must outlive it. COST: O(log holds).
// SOURCE: vLLM's NixlConnector and docs/design/nixl_kv_cache_lease.md.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/block_pool.h"

namespace penstock::engine {

enum class HoldState : uint8_t {
  kHeld,
  kConsumed,  // a peer reads or has read it
  kExpired,   // its time was over first
  kReleased,  // given back without having been read
};

struct Hold {
  HoldState state = HoldState::kHeld;
  uint32_t blocks = 0;  // still referenced
  uint32_t tokens = 0;  // whose KV they hold
  uint64_t prefix_hash = 0;
  Time expiry{};
};

// Monotonic, except the first two.
struct HoldStats {
  uint32_t holds = 0;
  uint32_t blocks = 0;  // one that several holds share counts for each
  uint64_t taken = 0;
  uint64_t consumed = 0;
  uint64_t expired = 0;
  uint64_t released = 0;      // unread
  uint64_t double_reads = 0;  // a second reader of the same hold
  uint64_t stale_reads = 0;   // after the end, or the end came while the reader read
  uint64_t wrong_reads = 0;   // for another prompt than was held
};

class HoldTable {
 public:
  static constexpr size_t kMaxEnded = 4096;

  explicit HoldTable(BlockPool& pool) : pool_(pool) {}

  // Takes over a reference to each block. REQUIRES: !IsHeld(id).
  void Add(uint64_t id, std::vector<BlockPool::BlockId> blocks, const Hold& hold);
  std::optional<Hold> Find(uint64_t id) const;
  bool IsHeld(uint64_t id) const;  // has blocks
  // A reader of `tokens` tokens of the prompt with that hash begins at `now`.
  Result<> Consume(uint64_t id, uint64_t prefix_hash, uint32_t tokens, Time now);
  // False when the hold has ended or never was.
  bool Release(uint64_t id, Time now);
  // Not before `expiry` will it end; false as above.
  bool Extend(uint64_t id, Time expiry, Time now);
  // Ends those whose time is over at `now`.
  void Expire(Time now);
  std::optional<Time> NextExpiry() const;
  // Ends and forgets all.
  void Clear();
  const HoldStats& stats() const { return stats_; }

 private:
  struct Entry {
    Hold hold;
    std::vector<BlockPool::BlockId> blocks;
    uint64_t serial = 0;  // tells two holds of one id apart
  };
  void End(uint64_t id, Entry& entry, HoldState state);

  BlockPool& pool_;
  boost::unordered_flat_map<uint64_t, Entry> entries_;
  std::set<std::pair<Time, uint64_t>> expiries_;     // of those with blocks
  std::deque<std::pair<uint64_t, uint64_t>> ended_;  // id and serial, oldest first
  uint64_t next_serial_ = 0;
  HoldStats stats_;
};

}  // namespace penstock::engine
