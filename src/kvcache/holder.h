// One publisher's blocks: from its events to what its slot holds in the chains.
//
// An engine's hashes are names of places in the chains, nothing else. What an event does not say
// for certain is not guessed: a store whose parent is unknown waits until the parent appears, and
// what could stand in two places counts in none.
//
// THREADS: one thread. OWNS: the slot, from construction until Leave has ended; borrows the index
// and the keys, which must outlive it.
// COST: 0.4 to 0.6 us per block stored alone, 0.2 in long events; 16 to 18 bytes per block beside
// the chains. Removing, clearing and leaving cost in proportion to what is removed.
// SOURCE: vLLM's, SGLang's and Dynamo's events.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "kvcache/chain_index.h"
#include "kvcache/content_keys.h"
#include "kvcache/holder_blocks.h"
#include "kvcache/kv_event.h"

namespace penstock::kvcache {

// UNITS: blocks of the engine, unless the name says events.
struct HolderCounters {
  uint64_t stored = 0;
  uint64_t stored_again = 0;  // in a tier in which they were already
  uint64_t removed = 0;
  uint64_t removed_unknown = 0;  // hashes that name nothing here
  uint64_t cleared = 0;
  uint64_t unkeyed = 0;  // stored without tokens, and never seen with them
  uint64_t orphans_parked = 0;
  uint64_t orphans_attached = 0;
  uint64_t orphans_dropped = 0;  // beyond the bound, or cleared
  uint64_t ambiguous = 0;        // one hash in two places
  uint64_t missed_removals = 0;  // dropped: more than the engine can have
  uint64_t over_budget = 0;      // dropped: more than there is memory for
  uint64_t aged_out = 0;         // dropped: doubtful for too long
  uint64_t events_malformed = 0;
  uint64_t events_self_referencing = 0;
  uint64_t events_misplaced = 0;   // offset or namespace are not the parent's
  uint64_t events_remote = 0;      // not the engine's own memory
  uint64_t events_other_kind = 0;  // groups of layers that have no prefix to reuse
};

class Holder {
 public:
  struct Options {
    std::string model;  // the namespace of blocks without adapter
    uint64_t max_orphan_bytes = uint64_t{1} << 20;
    Duration doubt_lifetime = seconds(600);
    // How far above its capacity, of a thousand, an engine's blocks may be counted.
    uint32_t capacity_slack_permille = 20;
  };
  // Takes over the slot. REQUIRES: the slot is fresh from index.Join(); keys and index have the
  // same block_tokens.
  Holder(ChainIndex& index, const ContentKeys& keys, ChainIndex::Slot slot, Options options);
  ~Holder();
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  enum class Outcome : uint8_t { kApplied, kParked, kSkipped, kRefused };
  // Counts why an event is not applied. After Leave everything is skipped.
  Outcome Apply(const KvEvent& event, Time now);

  // The number of blocks that the engine says it has in its GPU memory; 0: unknown.
  void SetCapacity(uint32_t engine_blocks);
  // Events were lost: what is held now may have been removed. It stays, at lower confidence, until
  // a store that follows it or Confirm says otherwise, or its time is over.
  void MarkGap(Time now);
  // The engine has used these blocks of a prompt just now.
  void Confirm(uint64_t name_space, std::span<const uint64_t> keys);
  // Drops what is doubtful for too long and what is beyond the budget, at most about `max_blocks`
  // of it, each some 100 ns. Returns whether there is more to do. To be called every second or so.
  bool Tend(Time now, size_t max_blocks);
  // Appends all that it holds, so that another holder can go on from here. Stores that wait for
  // their parent are left out: to go without them can only under-credit.
  void Save(Time now, std::string* out) const;
  // Takes over what was saved, by a holder whose index and keys have the same secret and block
  // size. An error says what is wrong with the bytes; nothing is held then.
  // REQUIRES: nothing was applied yet.
  Result<> Restore(std::string_view saved, Time now);
  // The endpoint is gone. Drops at most about `max_blocks`; true when nothing is left, and the slot
  // was given back.
  bool Leave(size_t max_blocks);

  ChainIndex::Slot slot() const { return slot_; }
  size_t blocks() const { return blocks_.blocks(); }
  uint64_t gpu_blocks() const { return tier_blocks_[0]; }
  uint64_t tier_blocks(Tier tier) const { return tier_blocks_[static_cast<size_t>(tier)]; }
  bool holds_outside_gpu() const {
    return std::any_of(std::begin(tier_blocks_) + 1, std::end(tier_blocks_),
                       [](uint64_t blocks) { return blocks > 0; });
  }
  uint64_t doubtful_pages() const { return doubtful_pages_; }
  uint64_t bytes() const { return blocks_.bytes() + orphan_bytes_; }
  size_t orphans() const { return orphans_.size(); }
  const HolderCounters& counters() const { return counters_; }

 private:
  using Page = HolderBlocks::Page;
  static constexpr uint32_t kNone = HolderBlocks::kNone;

  // The point behind a block, at which the next one goes on.
  struct Cursor {
    uint32_t block = kNone;
    ChainIndex::Node* node = nullptr;
    uint32_t tokens = 0;
    uint64_t name_space = 0;
    uint64_t hash = 0;
    bool has_block = false;           // none at the root
    std::vector<uint64_t> path_keys;  // the parent stands in another group's forest
  };
  // An event with its blocks, while it is applied.
  struct Batch {
    const KvEvent& event;
    uint16_t group;
    bool is_main;
    uint32_t block_tokens;
    uint32_t stamp;
  };
  // Where a block of an event stands if it is where it should be.
  struct Expected {
    uint32_t start;
    uint64_t name_space;
    uint64_t before;  // the hash before it
    bool has_before;
  };
  struct Role {
    uint16_t group;
    CacheKind kind;
    uint32_t window_blocks;
  };
  struct Orphan {
    KvEvent event;
    std::vector<uint64_t> hashes;
    std::vector<uint32_t> tokens;
    std::vector<uint64_t> extras;
    std::vector<bool> removed;
    std::string adapter;
    std::string salt;
    uint64_t bytes = 0;
  };
  using Orphans = std::list<Orphan>;

  Outcome Stored(const KvEvent& event, Time now);
  Outcome StoredWithTokens(const KvEvent& event, uint16_t group, bool is_main, uint32_t stamp);
  Outcome StoredAgain(const KvEvent& event, uint16_t group, uint32_t stamp);
  Outcome Removed(const KvEvent& event);
  void RemoveHash(const KvEvent& event, uint64_t hash, uint16_t group);
  void Clear();
  const Role* RoleOf(const KvEvent& event);
  bool IsWellFormed(const KvEvent& event);
  bool RefersToItself(const KvEvent& event);
  uint64_t NamespaceOf(const KvEvent& event);
  uint64_t NamespaceOf(const Page& page) const;

  enum class Found : uint8_t { kYes, kUnknown, kMisplaced, kAmbiguous };
  Found FindParent(const Batch& batch, uint64_t name_space, Cursor* cursor);
  Cursor CursorAt(uint32_t block) const;
  void Place(const Batch& batch, Cursor& cursor);
  uint32_t FindSame(const Batch& batch, const Expected& expected, size_t i, bool* is_elsewhere);
  void MarkAmbiguous(uint64_t hash, uint16_t group);
  bool Append(const Batch& batch, Cursor& cursor, size_t begin, size_t end);
  size_t AppendToPage(const Batch& batch, Cursor& cursor, size_t begin, size_t end);
  uint32_t PageFor(const Batch& batch, const Cursor& cursor, bool is_loose);
  void AppendAlignedKeys(std::span<const uint32_t> tokens, uint64_t extras);
  void LooseKeys(const Batch& batch, const Cursor& cursor, Page& page, size_t begin, size_t end);
  uint64_t LooseExtras(const Page& page, uint32_t index_block, uint32_t blocks) const;
  void StorePage(const Batch& batch, const Cursor& cursor, Page& page, bool is_loose,
                 size_t tokens_left);

  enum class Drop : uint8_t { kOne, kAll };  // of a block that was stored several times
  void AddTier(uint32_t block, Tier tier);
  void DropTier(uint32_t block, Tier tier, Drop how);
  ChainIndex::Range RangeOf(Page& page, uint32_t begin, uint32_t end) const;
  enum class Change : uint8_t { kGain, kLose };
  void ChangeRange(const ChainIndex::Range& range, uint8_t tier, Change change);
  void CountOverlaps(ChainIndex::Node* node, uint8_t tier);
  template <class F>
  void ForEachPath(ChainIndex::Node* node, uint32_t begin, uint32_t end, F&& visit);
  void ChangeLoose(uint32_t block, uint8_t tier, Change change);
  void ChangeIndexBlock(uint32_t block, uint32_t index_block, uint8_t tier, Change change);
  void ChangeFollowing(uint32_t block, uint32_t index_block, uint8_t tier, Change change);
  bool IsWhole(uint32_t block, uint32_t index_block, uint8_t tier) const;
  uint32_t FindLive(uint64_t hash, uint16_t group) const;
  void ForgetUnheld(uint32_t page);
  void FreePage(uint32_t page);
  size_t DropPage(uint32_t page);
  size_t DropPageTier(uint32_t page, uint8_t tier);
  void Touch(uint32_t block, uint32_t stamp);
  void SetDoubtful(Page& page, bool is_doubtful);
  size_t AgeOut(uint32_t page);
  void EnforceCapacity();
  size_t EnforceBudget(size_t max_blocks);
  void ChargeBytes();

  struct Saver;
  struct Restorer;
  void Forget();
  // The block before the page's first one, or kNone.
  uint32_t BlockBefore(const Page& page) const;

  void Park(const KvEvent& event);
  void UnlistOrphan(Orphans::iterator orphan);
  void DropOrphan(Orphans::iterator orphan);
  void Attach(std::span<const uint64_t> hashes, Time now);

  ChainIndex& index_;
  const ContentKeys& keys_;
  const ChainIndex::Slot slot_;
  const Options options_;
  const uint32_t index_tokens_;
  HolderBlocks blocks_;
  bool has_left_ = false;
  uint64_t tier_blocks_[kTiers] = {};
  uint32_t capacity_ = 0;
  // Index blocks that lie in several of the engine's blocks: by the path to them and the tier, how
  // many more than one.
  boost::unordered_flat_map<uint64_t, std::array<uint16_t, kTiers>> overlaps_;
  bool had_gap_ = false;  // some blocks may be held at a doubtful level
  uint64_t doubtful_pages_ = 0;
  Time doubtful_since_{};
  uint32_t sweep_ = 0;  // the page that AgeOut looks at next
  int64_t charged_bytes_ = 0;
  std::vector<Role> roles_;
  std::optional<uint16_t> main_group_;

  Orphans orphans_;
  std::unordered_multimap<uint64_t, Orphans::iterator> orphans_by_parent_;
  std::unordered_multimap<uint64_t, std::pair<Orphans::iterator, size_t>> orphans_by_hash_;
  uint64_t orphan_bytes_ = 0;

  std::vector<uint64_t> scratch_keys_;
  std::vector<uint64_t> scratch_path_;
  std::vector<ChainIndex::Part> scratch_parts_;
  std::vector<uint64_t> scratch_set_;
  uint64_t set_round_ = 0;
  std::string last_adapter_;
  std::string last_salt_;
  uint64_t last_namespace_ = 0;
  HolderCounters counters_;
};

}  // namespace penstock::kvcache
