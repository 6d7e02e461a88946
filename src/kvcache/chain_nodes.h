// What the chain index is made of, as readers see it: segments of keys, who holds which part of
// them, and the edges from one segment to the next. Internal to kvcache/chain_*.cc.
//
// THREADS: readers inside an epoch look at atomics and at what these point to. Writers hold the
// shard's lock. A key once written at a position of a segment never changes; a Keys or Runs object
// that is replaced stays readable until the epoch has passed.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/mutex.h"
#include "kvcache/chain_index.h"

namespace penstock::kvcache {

struct alignas(8) ChainIndex::Keys {
  uint32_t capacity;
  std::atomic<uint32_t> length;

  uint64_t* data() { return reinterpret_cast<uint64_t*>(this + 1); }
  const uint64_t* data() const { return reinterpret_cast<const uint64_t*>(this + 1); }
  static size_t Bytes(uint32_t capacity) { return sizeof(Keys) + capacity * sizeof(uint64_t); }
};

// One slot's interval of a segment at one level, in a word, so that it changes at once. Ordered by
// slot, then begin. Empty when begin == end: a blank that waits for the next rebuild.
struct Run {
  uint16_t slot;
  uint16_t begin;
  uint16_t end;
  uint8_t level;

  uint64_t Pack() const {
    return uint64_t{slot} << 48 | uint64_t{begin} << 32 | uint64_t{level} << 16 | end;
  }
  static Run Of(uint64_t word) {
    return {.slot = static_cast<uint16_t>(word >> 48),
            .begin = static_cast<uint16_t>(word >> 32),
            .end = static_cast<uint16_t>(word),
            .level = static_cast<uint8_t>(word >> 16)};
  }
  bool blank() const { return begin == end; }
};

// The ones in a byte. std::popcount is a call on the processors that the program is compiled for:
// six for a block that is stored alone, a tenth of its time.
inline constexpr auto kOnes = [] {
  std::array<uint8_t, 256> ones{};
  for (size_t i = 1; i < ones.size(); ++i) ones[i] = static_cast<uint8_t>(ones[i / 2] + i % 2);
  return ones;
}();

// Who holds what of a segment. Behind the header: for each level in `levels` a bitmap of `words`
// words with the slots that hold all `covered` blocks, then `count` runs.
struct alignas(8) ChainIndex::Runs {
  uint32_t covered;
  uint16_t words;
  uint8_t levels;
  uint32_t count;

  using Word = std::atomic<uint64_t>;
  Word* data() { return reinterpret_cast<Word*>(this + 1); }
  const Word* data() const { return reinterpret_cast<const Word*>(this + 1); }
  // Null when no slot holds the whole segment at this level, or none is told by bitmap.
  Word* bits(uint8_t level) {
    const uint32_t below = levels & ((1U << level) - 1);
    return (levels >> level & 1) == 0 ? nullptr : data() + size_t{kOnes[below]} * words;
  }
  const Word* bits(uint8_t level) const { return const_cast<Runs*>(this)->bits(level); }
  bool Bit(uint8_t level, uint16_t slot) const {
    const Word* const map = bits(level);
    return map != nullptr && slot / 64 < words &&
           (map[slot / 64].load(std::memory_order_relaxed) >> (slot % 64) & 1) != 0;
  }
  size_t map_words() const { return size_t{kOnes[levels]} * words; }
  Word* runs() { return data() + map_words(); }
  const Word* runs() const { return data() + map_words(); }
  Run run(size_t i) const { return Run::Of(runs()[i].load(std::memory_order_relaxed)); }
  // The first run of this slot or a later one.
  size_t Find(uint16_t slot) const {
    size_t low = 0;
    for (size_t n = count; n > 0;) {
      const size_t half = n / 2;
      if (run(low + half).slot < slot) {
        low += half + 1;
        n -= half + 1;
      } else {
        n = half;
      }
    }
    return low;
  }
  bool AnyBit() const {
    for (size_t i = 0; i < map_words(); ++i) {
      if (data()[i].load(std::memory_order_relaxed) != 0) return true;
    }
    return false;
  }
  size_t bytes() const { return Bytes(map_words() + count); }
  static size_t Bytes(size_t words) { return sizeof(Runs) + words * sizeof(Word); }
};

// A segment. What it is, where it starts and what it follows never changes. When it is split, two
// new ones take its place and `forward` leads to the later of them; from there the way to any
// earlier position is up the parents.
struct ChainIndex::Node {
  Node(uint64_t id_, uint64_t parent_id_, uint64_t name_space_, uint32_t start_, uint32_t shard_)
      : id(id_), parent_id(parent_id_), name_space(name_space_), start(start_), shard(shard_) {}

  const uint64_t
      id;  // of what comes after it: edges start there. The later half of a split keeps it
  const uint64_t parent_id;  // of a root: its namespace
  const uint64_t name_space;
  const uint32_t start;  // blocks before it
  const uint32_t shard;
  std::atomic<Keys*> keys{nullptr};
  std::atomic<Runs*> runs{nullptr};

  // Under the shard's lock.
  Node* parent = nullptr;
  Node* forward = nullptr;
  uint32_t refs = 0;         // pins, and nodes whose parent or forward this is
  uint32_t children = 0;     // edges that start at `id`
  uint32_t held = 0;         // bits and runs that are not blank
  uint16_t written = 0;      // keys that were ever written
  bool pinned_past = false;  // somebody may go on behind blocks that nobody holds: keep all keys

  uint32_t length() const {
    return keys.load(std::memory_order_relaxed)->length.load(std::memory_order_relaxed);
  }
};

// From (id, next key) to the segment that starts with that key. Open addressing; an entry's hash
// never changes, so a reader that sees the node sees the hash that belongs to it.
struct ChainIndex::Edges {
  struct Entry {
    std::atomic<uint64_t> hash{0};
    std::atomic<Node*> node{nullptr};
  };
  size_t capacity;  // a power of two
  Entry* data() { return reinterpret_cast<Entry*>(this + 1); }
  const Entry* data() const { return reinterpret_cast<const Entry*>(this + 1); }
  static size_t Bytes(size_t capacity) { return sizeof(Edges) + capacity * sizeof(Entry); }

  static uint64_t Hash(uint64_t id, uint64_t key) {
    const auto product =
        static_cast<unsigned __int128>(id ^ 0x9e3779b97f4a7c15ULL) * (key ^ 0xd6e8feb86659fd93ULL);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  static Node* Removed() { return reinterpret_cast<Node*>(uintptr_t{1}); }
};

struct alignas(64) ChainIndex::Shard {
  // Held by writers for the blocks of one page of one event; readers never take it.
  Mutex mutex;
  std::atomic<Edges*> edges{nullptr};
  std::atomic<uint64_t> garbage_bytes{0};
  std::atomic<uint64_t> nodes{0};

  // Under the mutex; GUARDED_BY would need this type where the index declares its functions.
  size_t edges_used = 0;  // entries with a hash
  size_t edges_live = 0;
  struct Garbage {
    void* memory;
    size_t bytes;
    uint64_t tag;
  };
  std::vector<Garbage> garbage;
  size_t untagged_from = 0;
  size_t untagged_bytes = 0;
  std::vector<Run> scratch;
  std::vector<Run> own;
};

}  // namespace penstock::kvcache
