// The reverse map of a holder: from an engine's hash to the block's place, and the blocks in pages
// of neighbours on a chain, so that what neighbours share is told once. Internal to Holder.
//
// THREADS: not synchronised. COST: 16 to 18 bytes per block on full pages: 10.8 in pages, the rest
// in the table of 4 bytes a slot. UNITS: offsets in tokens.
#pragma once

#include <array>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <vector>

#include "kvcache/chain_index.h"

namespace penstock::kvcache {

class HolderBlocks {
 public:
  static constexpr uint32_t kPageBlocks = 32;
  static constexpr uint32_t kNone = ~uint32_t{0};

  // What pages need whose blocks are not made of whole blocks of the index.
  struct Loose {
    uint64_t name_space = 0;
    // From the last boundary of index blocks before the page on.
    std::vector<uint32_t> tokens;
    uint64_t extras_before = 0;    // of the blocks before the page that reach over that boundary
    std::vector<uint64_t> extras;  // per block
  };

  // Blocks that follow each other on a chain.
  struct Page {
    ChainIndex::Node* node = nullptr;  // pinned; leads to the page's last whole index block
    std::unique_ptr<Loose> loose;
    uint64_t parent_hash = 0;
    uint32_t first_token = 0;
    uint32_t block_tokens = 0;
    uint32_t newer = kNone;
    uint32_t older = kNone;
    uint32_t stamp = 0;
    uint16_t group = 0;
    uint8_t used = 0;
    uint8_t live = 0;
    bool has_parent = false;
    bool is_doubtful = false;  // some of its blocks may be
    std::array<uint8_t, kPageBlocks> marks{};
    std::array<uint64_t, kPageBlocks> hashes{};

    uint32_t end_token(uint32_t i) const { return first_token + (i + 1) * block_tokens; }
    // Of the block before block i; whether there is one.
    bool HashBefore(uint32_t i, uint64_t* hash) const {
      *hash = i > 0 ? hashes[i - 1] : parent_hash;
      return i > 0 || has_parent;
    }
  };

  // Marks of a block.
  static constexpr uint8_t kTierMask = (1 << kTiers) - 1;
  static constexpr uint8_t kCounted = 1 << kTiers;          // stored more than once in some tier
  static constexpr uint8_t kAmbiguous = 1 << (kTiers + 1);  // its hash stands for others, too
  static constexpr uint8_t kListed = 1 << (kTiers + 2);     // in the table

  explicit HolderBlocks(uint64_t secret) : secret_(secret) {}

  // A block: its page and its number there.
  static uint32_t PageOf(uint32_t block) { return block / kPageBlocks; }
  static uint32_t NumberOf(uint32_t block) { return block % kPageBlocks; }
  Page& page(uint32_t index) { return *pages_[index]; }
  const Page& page(uint32_t index) const { return *pages_[index]; }
  uint8_t& marks(uint32_t block) { return page(PageOf(block)).marks[NumberOf(block)]; }

  // The first block with this hash for which accept(block) holds, or kNone.
  template <class F>
  uint32_t Find(uint64_t hash, uint16_t group, F&& accept) const {
    if (table_.empty()) return kNone;
    const uint64_t mixed = Mix(hash, group);
    for (size_t i = Home(mixed);; i = i + 1 == table_.size() ? 0 : i + 1) {
      i = NextLike(i, static_cast<uint32_t>(mixed & kTagMask));
      const uint32_t value = table_[i];
      if (value == 0) return kNone;
      if (value == kTombstone) continue;
      const uint32_t block = (value & kIndexMask) - 2;
      const Page& there = page(PageOf(block));
      if (there.hashes[NumberOf(block)] == hash && there.group == group && accept(block)) {
        return block;
      }
    }
  }
  void Prefetch(uint64_t hash, uint16_t group) const {
    if (!table_.empty()) __builtin_prefetch(&table_[Home(Mix(hash, group))]);
  }

  // A page without blocks, the most recently touched one. kNone when kMaxPages are used.
  uint32_t AddPage();
  // Its blocks leave the table.
  void FreePage(uint32_t index);
  // Into the table. The hash is in the page.
  void Insert(uint32_t block);
  // Out of the table, and its count forgotten. REQUIRES: it is there.
  void Erase(uint32_t block);
  // Room for so many blocks without growing.
  void Reserve(size_t blocks);

  void MoveToFront(uint32_t index);
  uint32_t oldest_page() const { return oldest_; }
  // Pages have smaller numbers than this; those between may be free.
  uint32_t page_limit() const { return static_cast<uint32_t>(pages_.size()); }
  bool has_page(uint32_t index) const { return pages_[index] != nullptr; }
  size_t blocks() const { return live_; }
  size_t bytes() const { return bytes_; }
  void ChargeLoose(int64_t bytes) { bytes_ += static_cast<size_t>(bytes); }

  // How often more than once a block was stored, per tier.
  boost::unordered_flat_map<uint32_t, std::array<uint8_t, kTiers>> extra_counts;
  // From a hash to the loose pages whose first block follows it.
  std::unordered_multimap<uint64_t, uint32_t> followers;

 private:
  static constexpr uint32_t kIndexBits = 26;
  static constexpr uint32_t kIndexMask = (1U << kIndexBits) - 1;
  static constexpr uint64_t kTagMask = (1U << (32 - kIndexBits)) - 1;
  static constexpr uint32_t kTombstone = 1;
  static constexpr uint32_t kMaxPages = (kIndexMask - 2) / kPageBlocks;

  uint64_t Mix(uint64_t hash, uint16_t group) const {
    const auto product = static_cast<unsigned __int128>(hash ^ secret_) *
                         (0x9e3779b97f4a7c15ULL + 2 * uint64_t{group});
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  size_t Home(uint64_t mixed) const {
    return static_cast<size_t>(static_cast<unsigned __int128>(mixed) * table_.size() >> 64);
  }
  // The first slot from `i` on that is free or has this tag (a tombstone's is 0). Four at once: a
  // table of three quarters makes one look at eight slots to learn that a hash is new.
  size_t NextLike(size_t i, uint32_t tag) const {
    typedef uint32_t Four __attribute__((vector_size(16)));
    const size_t size = table_.size();
    for (;;) {
      if (i + 4 > size) {
        if (table_[i] == 0 || table_[i] >> kIndexBits == tag) return i;
        i = i + 1 == size ? 0 : i + 1;
        continue;
      }
      Four slots;
      std::memcpy(&slots, &table_[i], sizeof slots);
      const auto like = (slots >> kIndexBits == tag) | (slots == 0);
      uint64_t halves[2];
      std::memcpy(halves, &like, sizeof halves);
      if (halves[0] != 0) return i + (static_cast<uint32_t>(halves[0]) == 0 ? 1 : 0);
      if (halves[1] != 0) return i + (static_cast<uint32_t>(halves[1]) == 0 ? 3 : 2);
      i = i + 4 == size ? 0 : i + 4;
    }
  }
  void Put(uint32_t block);
  void Resize(size_t slots);
  void Unlink(uint32_t index);

  const uint64_t secret_;
  std::vector<std::unique_ptr<Page>> pages_;
  std::vector<uint32_t> free_pages_;
  std::vector<uint32_t> table_;
  size_t table_used_ = 0;  // tombstones included
  size_t live_ = 0;
  size_t bytes_ = 0;
  uint32_t newest_ = kNone;
  uint32_t oldest_ = kNone;
};

}  // namespace penstock::kvcache
