// Who holds which KV blocks, exactly: path-compressed chains of content keys, and for every segment
// of a chain the endpoint slots that hold it, per tier.
//
// A slot is a publisher's number here, dense and used again; its generation tells whose turn it is.
// Blocks that an engine may have lost without telling are held at a doubtful level.
//
// THREADS: Match on a Reader per thread, never blocked and without locks. Everything else from any
// thread; writers of one tree take its shard's lock in turn. One slot is written by one thread.
// COST: Match does not allocate; see docs/performance.md for times. 8 bytes per block of a chain,
// however many hold it, about 200 per segment, and 8 per slot that holds a part of a segment.
// What readers may still see is freed after their epoch; beyond kMaxGarbage writers wait for it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/epoch.h"
#include "core/mutex.h"
#include "kvcache/kv_event.h"

namespace penstock::kvcache {

// What one slot holds of a prompt. UNITS: blocks of the index, rounded down to whole blocks of the
// engine. All but in_tier are lengths of a contiguous prefix.
struct PrefixHold {
  uint32_t blocks = 0;    // in any tier
  uint32_t sure = 0;      // and none of them doubtful
  uint32_t gpu = 0;       // all of them in the GPU's memory
  uint32_t reusable = 0;  // for models with several groups of layers, what all groups can use
  // Of `blocks`, by the fastest tier that has them.
  uint32_t in_tier[kTiers] = {};

  bool operator==(const PrefixHold&) const = default;
};

struct Run;

class ChainIndex {
 public:
  struct Node;
  class Reader;

  struct Options {
    uint32_t block_tokens = 16;
    uint32_t max_slots = 4096;
    uint64_t max_bytes = uint64_t{1} << 30;  // of chains and reverse maps together
  };
  // REQUIRES: block_tokens > 0; 0 < max_slots <= 65,535.
  explicit ChainIndex(const Options& options);
  ~ChainIndex();
  ChainIndex(const ChainIndex&) = delete;
  ChainIndex& operator=(const ChainIndex&) = delete;

  uint32_t block_tokens() const { return options_.block_tokens; }

  // --- slots

  struct Slot {
    uint16_t index = 0;
    uint32_t generation = 0;
    bool operator==(const Slot&) const = default;
  };
  // The lowest free one; none when all are taken.
  std::optional<Slot> Join();
  // REQUIRES: the slot holds nothing any more, and was not left before.
  void Leave(Slot slot);
  bool IsCurrent(Slot slot) const;
  uint32_t slots() const { return slots_taken_.load(std::memory_order_relaxed); }
  // One above the highest slot ever taken: the length that Match's answer needs.
  uint32_t slot_limit() const { return slot_limit_.load(std::memory_order_relaxed); }
  // Answers for the slot are rounded down to whole blocks of this many tokens; the largest counts
  // when told several. 0 forgets all.
  void SetEngineBlock(uint16_t slot, uint32_t tokens);
  // What all calls together made of it.
  struct EngineBlock {
    uint32_t tokens = 0;        // of the largest
    bool is_irregular = false;  // some sizes do not divide each other
  };
  EngineBlock engine_block(uint16_t slot) const;
  void RestoreEngineBlock(uint16_t slot, const EngineBlock& block);

  // What a group of layers that is not prefix-closed needs, of the slot's model.
  struct Group {
    uint16_t group = 0;
    CacheKind kind = CacheKind::kFull;
    uint32_t window_blocks = 0;
  };
  static constexpr size_t kMaxGroups = 7;  // beside the main one
  // False when kMaxGroups are known already.
  bool AddGroup(uint16_t slot, const Group& group);
  void ForgetGroups(uint16_t slot);

  // --- writing

  // A tier, and whether the engine may have dropped the block meanwhile.
  static constexpr uint8_t kDoubtful = kTiers;
  static constexpr uint8_t kLevels = 2 * kTiers;

  // Blocks [begin, end), counted from the root.
  struct Part {
    uint32_t begin;
    uint32_t end;
  };
  struct Piece {
    uint16_t slot = 0;
    uint8_t level = 0;
    uint64_t name_space = 0;
    Node* after = nullptr;  // the segment that holds the block before, pinned; none at the root
    uint32_t position = 0;  // blocks before the first
    std::span<const uint64_t> keys;
    uint32_t held_from = 0;    // blocks before this position are put in the chain, not held
    size_t expected = 0;       // keys that will follow at once
    Node* pinned = nullptr;    // a pin of the caller's on the same chain that is given up
    bool pinned_past = false;  // the caller may go on after a block that it does not hold
    // Gets the blocks that the slot held before, surely or not.
    std::vector<Part>* overlaps = nullptr;
  };
  // Puts the keys into the chain and marks them as held. Returns the segment with the last of them,
  // pinned once for the caller.
  // REQUIRES: at least one key.
  Node* Store(const Piece& piece);

  // Blocks [begin, end) on the way to a pinned segment. An empty range needs no pin.
  struct Range {
    Node** pin;
    uint32_t begin;
    uint32_t end;
  };
  // Whether they are held at this level, is changed; blocks that were as wanted stay so.
  // REQUIRES: the end is not behind the pinned segment.
  // `overlaps` gets the blocks that the slot held before at this level, or the doubtful one of it.
  void Mark(uint16_t slot, uint8_t level, const Range& range, std::vector<Part>* overlaps);
  void Unmark(uint16_t slot, uint8_t level, const Range& range);
  // What is held at the one level is held at the other instead.
  void Move(uint16_t slot, uint8_t from, uint8_t to, const Range& range);
  // How many of them are held at this level.
  uint32_t Count(uint16_t slot, uint8_t level, const Range& range);
  void Unpin(Node* node);
  // Another pin of the caller's, who may go on after a block that it does not hold.
  void Pin(Node* node);
  // Whether these are the keys from block `begin` on, on the way to the node.
  bool HasKeys(Node* node, uint32_t begin, std::span<const uint64_t> keys);
  // Appends the keys of blocks [begin, end) on the way to the node.
  void PathKeys(Node* node, uint32_t begin, uint32_t end, std::vector<uint64_t>* keys);
  static uint64_t NamespaceOf(const Node* node);
  // The slot is known to hold the first blocks of this prompt: what is doubtful of them is no more.
  void Confirm(uint16_t slot, uint64_t name_space, std::span<const uint64_t> keys);

  // --- memory

  // Chains, garbage and what was charged.
  uint64_t bytes() const;
  uint64_t max_bytes() const { return options_.max_bytes; }
  bool over_budget() const { return bytes() > options_.max_bytes; }
  // What reverse maps take, so that the budget covers both.
  void Charge(int64_t bytes) { charged_.fetch_add(bytes, std::memory_order_relaxed); }
  uint64_t charged() const {
    return static_cast<uint64_t>(charged_.load(std::memory_order_relaxed));
  }
  uint64_t garbage_bytes() const;
  uint64_t segments() const;
  uint64_t splits() const { return splits_.load(std::memory_order_relaxed); }
  uint64_t rebuilds() const { return rebuilds_.load(std::memory_order_relaxed); }
  // How often a writer had to wait for a reader, because kMaxGarbage was reached.
  uint64_t garbage_waits() const { return garbage_waits_.load(std::memory_order_relaxed); }
  // Frees what no reader can see any more. For quiet times: writers do so as they go.
  void Collect();

  static constexpr uint32_t kMaxSegment = 1024;
  static constexpr uint64_t kMaxGarbage = uint64_t{1} << 20;  // per shard

 private:
  struct Keys;
  struct Runs;
  struct Edges;
  struct Shard;
  struct SlotInfo;
  static constexpr size_t kShards = 64;

  // All of these under the shard's lock.
  Node* Descend(Shard& shard, Node*& node, uint32_t& position, std::span<const uint64_t>& keys,
                const Piece& piece);
  Node* NewNode(Shard& shard, Node* parent, const Piece& piece, uint32_t position,
                std::span<const uint64_t> keys, size_t expected);
  size_t Extend(Shard& shard, Node& node, std::span<const uint64_t> keys, size_t expected);
  Node* Split(Shard& shard, Node& node, uint32_t at);
  void Hold(Shard& shard, Node& node, uint16_t slot, uint8_t level, uint32_t begin, uint32_t end);
  void Drop(Shard& shard, Node& node, uint16_t slot, uint8_t level, uint32_t begin, uint32_t end);
  enum class Change : uint8_t { kHold, kDrop };
  void Rebuild(Shard& shard, Node& node, const Run& run, Change change);
  Runs* MakeRuns(Node& node, const std::vector<Run>& runs, const Runs* old);
  void CopyRuns(Shard& shard, const Node& from, uint32_t begin, Node& to);
  void Trim(Node& node);
  void Release(Shard& shard, Node* node);
  void Repin(Shard& shard, Node** pin);
  static void FindOverlaps(Node& node, uint16_t slot, uint8_t level, uint32_t begin, uint32_t end,
                           std::vector<Part>* overlaps);
  template <class F>
  void ForEachPart(Shard& shard, const Range& range, F&& visit);
  template <class F>
  static void ForEachHeld(Node& node, uint16_t slot, uint8_t level, uint32_t begin, uint32_t end,
                          F&& visit);
  void AddEdge(Shard& shard, uint64_t from, uint64_t key, Node* node);
  void ReplaceEdge(Shard& shard, uint64_t from, uint64_t key, Node* old, Node* node);
  static Node* FindEdge(const Shard& shard, uint64_t from, uint64_t key, uint32_t position);
  void GrowEdges(Shard& shard);
  void* Allocate(size_t bytes);
  void Retire(Shard& shard, void* memory, size_t bytes);
  void CollectShard(Shard& shard);

  Shard& ShardOf(uint64_t name_space, uint64_t first_key) const;
  static Node* Resolve(Node* node);
  static Node* Locate(Node* node, uint32_t position);

  const Options options_;
  const std::unique_ptr<Shard[]> shards_;
  const std::unique_ptr<SlotInfo[]> slot_infos_;
  // A bit for every slot whose answers need rounding, and for every one with several groups.
  const std::unique_ptr<std::atomic<uint64_t>[]> rounded_;
  const std::unique_ptr<std::atomic<uint64_t>[]> grouped_;
  mutable EpochDomain epochs_;
  // Held to take or give back a slot.
  mutable Mutex slots_mutex_;
  std::atomic<uint32_t> slots_taken_{0};
  std::atomic<uint32_t> slot_limit_{0};
  std::atomic<uint64_t> next_id_{1};
  std::atomic<int64_t> charged_{0};
  std::atomic<int64_t> chain_bytes_{0};  // garbage included
  std::atomic<uint64_t> splits_{0};
  std::atomic<uint64_t> rebuilds_{0};
  std::atomic<uint64_t> garbage_waits_{0};
};

// Reads the index, and keeps what it needs for that.
//
// THREADS: one thread at a time. OWNS: scratch memory, which grows with the number of slots.
// REQUIRES: the index outlives it.
class ChainIndex::Reader {
 public:
  explicit Reader(const ChainIndex& index);
  ~Reader();

  // Writes for every slot what it holds of this prompt. Slots beyond `holds` are left out.
  // Returns the number of blocks that at least one of them holds from the start, not rounded.
  uint32_t Match(uint64_t name_space, std::span<const uint64_t> keys, std::span<PrefixHold> holds);
  // Writes for every slot how many blocks from the start it holds in this tier, doubtful ones
  // included, rounded down to whole blocks of its engine. Groups of layers do not matter. Slots
  // beyond `lengths` are left out.
  void MatchTier(Tier tier, uint64_t name_space, std::span<const uint64_t> keys,
                 std::span<uint32_t> lengths);

 private:
  struct Interval;

  template <class F>
  uint32_t ForEachSegment(uint64_t name_space, std::span<const uint64_t> keys, F&& visit);
  void SetAllAlive(size_t slots);
  bool Visit(const Runs* runs, uint32_t position, uint32_t matched, std::span<PrefixHold> holds);
  bool VisitTier(const Runs* runs, uint32_t levels, uint32_t position, uint32_t matched,
                 std::span<uint32_t> lengths);
  bool VisitSlot(const Runs& runs, uint16_t slot, std::pair<size_t, size_t> own, uint32_t position,
                 uint32_t matched, PrefixHold& hold);
  void EndSlot(size_t slot, uint32_t position, PrefixHold& hold);
  void EndSlots(uint64_t slots, size_t word, uint32_t position, std::span<PrefixHold> holds);
  uint32_t RoundDown(uint32_t engine_block, uint32_t blocks) const;
  void Round(std::span<PrefixHold> holds) const;
  void MatchGroups(uint64_t name_space, std::span<const uint64_t> keys,
                   std::span<PrefixHold> holds);
  void CollectIntervals(const Runs* runs, uint16_t group, uint32_t position, uint32_t matched);
  static uint32_t Usable(const Group& group, std::span<const Interval> held, uint32_t limit);

  const ChainIndex& index_;
  EpochDomain::Reader epoch_;
  uint32_t most_ = 0;            // blocks that a slot holds
  std::vector<uint64_t> alive_;  // hold everything so far
  std::vector<uint64_t> next_;   // and the segment at hand
  std::vector<uint64_t> gpu_;    // hold everything so far in the GPU's memory
  std::vector<uint64_t> sure_;   // and surely
  std::vector<uint16_t> groups_;
  std::vector<Interval> intervals_;
};

}  // namespace penstock::kvcache
