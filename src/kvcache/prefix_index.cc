#include "kvcache/prefix_index.h"

#include <algorithm>

namespace penstock::kvcache {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};
constexpr size_t kBlocksPerLock = 256;

// Adds holders to counts. Neighbouring blocks that many slots hold mostly have the same holders: a
// bitmap that repeats is counted once, with the length of its run.
class Counter {
 public:
  explicit Counter(std::span<float> counts) : counts_(counts) { run_.clear(); }

  void Add(const HolderSet& holders) {
    if (!holders.is_bitmap()) {
      for (const uint16_t slot : holders.slots()) {
        if (slot < counts_.size()) counts_[slot] += 1.0F;
      }
      return;
    }
    const std::span<const uint64_t> words = holders.words();
    if (!std::equal(words.begin(), words.end(), run_.begin(), run_.end())) {
      Flush();
      run_.assign(words.begin(), words.end());
    }
    length_ += 1.0F;
  }

  void Flush() {
    if (length_ == 0.0F) return;
    for (size_t w = 0; w < run_.size(); ++w) {
      for (uint64_t bits = run_[w]; bits != 0; bits &= bits - 1) {
        const size_t slot = w * 64 + static_cast<size_t>(std::countr_zero(bits));
        if (slot < counts_.size()) counts_[slot] += length_;
      }
    }
    length_ = 0.0F;
  }

 private:
  std::span<float> counts_;
  float length_ = 0.0F;
  static thread_local std::vector<uint64_t> run_;  // reused, so that counting does not allocate
};
thread_local std::vector<uint64_t> Counter::run_;

}  // namespace

// One slot's blocks by recency: a list through `nodes`, newest at head.
struct PrefixIndex::SlotBlocks {
  struct Node {
    uint64_t key;
    uint32_t newer;  // itself: the node is free
    uint32_t older;
  };

  // Held for at most kBlocksPerLock blocks of an insertion, or to forget.
  Mutex mutex;
  Map<uint32_t> where GUARDED_BY(mutex);
  std::vector<Node> nodes GUARDED_BY(mutex);
  std::vector<uint32_t> free GUARDED_BY(mutex);
  uint32_t head GUARDED_BY(mutex) = kNone;
  uint32_t tail GUARDED_BY(mutex) = kNone;
  uint32_t last_touched GUARDED_BY(mutex) = 0;
  std::atomic<uint32_t> capacity{1};

  void Unlink(uint32_t i) REQUIRES_LOCK(mutex) {
    const Node& node = nodes[i];
    (node.newer == kNone ? head : nodes[node.newer].older) = node.older;
    (node.older == kNone ? tail : nodes[node.older].newer) = node.newer;
  }
  void PushHead(uint32_t i) REQUIRES_LOCK(mutex) {
    nodes[i].newer = kNone;
    nodes[i].older = head;
    (head == kNone ? tail : nodes[head].newer) = i;
    head = i;
  }
  // Whether the block was there; then it is the newest now. A sequence that comes again finds its
  // blocks side by side in `nodes`, where a look costs less than in the map.
  bool Touch(uint64_t key) REQUIRES_LOCK(mutex) {
    uint32_t i = last_touched + 1;
    if (i >= nodes.size() || nodes[i].key != key || nodes[i].newer == i) {
      const auto it = where.find(key);
      if (it == where.end()) return false;
      i = it->second;
    }
    last_touched = i;
    if (i != head) {
      Unlink(i);
      PushHead(i);
    }
    return true;
  }
  void Add(uint64_t key) REQUIRES_LOCK(mutex) {
    uint32_t i;
    if (free.empty()) {
      i = static_cast<uint32_t>(nodes.size());
      nodes.push_back({});
    } else {
      i = free.back();
      free.pop_back();
    }
    nodes[i].key = key;
    PushHead(i);
    where.emplace(key, i);
  }
  // REQUIRES: not empty. Returns the key that was used longest ago.
  uint64_t PopOldest() REQUIRES_LOCK(mutex) {
    const uint32_t i = tail;
    const uint64_t key = nodes[i].key;
    Unlink(i);
    where.erase(key);
    nodes[i].newer = i;
    free.push_back(i);
    return key;
  }
};

PrefixIndex::PrefixIndex(uint32_t default_capacity_blocks)
    : default_capacity_(std::max(1U, default_capacity_blocks)) {}

PrefixIndex::~PrefixIndex() = default;

bool PrefixIndex::Count(std::span<const uint64_t> sequence, std::span<float> counts) const {
  Counter counter(counts);
  bool any = false;
  for (const uint64_t key : sequence) {
    const Shard& shard = ShardOf(key);
    MutexLock lock(shard.mutex);
    const auto it = shard.holders.find(key);
    if (it == shard.holders.end()) break;
    counter.Add(it->second);
    any = true;
  }
  counter.Flush();
  return any;
}

void PrefixIndex::Insert(uint32_t slot, std::span<const uint64_t> sequence) {
  SlotBlocks* const blocks = Slot(slot, true);
  if (blocks == nullptr) return;
  const size_t capacity = blocks->capacity.load(std::memory_order_relaxed);
  // What would be forgotten again at once is not inserted: the tail goes first.
  size_t end = std::min(sequence.size(), capacity);
  while (end > 0) {
    const size_t begin = end > kBlocksPerLock ? end - kBlocksPerLock : 0;
    MutexLock lock(blocks->mutex);
    size_t added = 0;
    size_t evicted = 0;
    for (size_t i = end; i-- > begin;) {
      if (blocks->Touch(sequence[i])) continue;
      for (; blocks->where.size() >= capacity; ++evicted) RemoveHolder(blocks->PopOldest(), slot);
      blocks->Add(sequence[i]);
      AddHolder(sequence[i], slot);
      ++added;
    }
    entries_.fetch_add(added - evicted, std::memory_order_relaxed);  // modulo 2^64
    evictions_.fetch_add(evicted, std::memory_order_relaxed);
    end = begin;
  }
}

void PrefixIndex::SetCapacity(uint32_t slot, uint32_t blocks) {
  SlotBlocks* const held = Slot(slot, true);
  if (held == nullptr) return;
  const uint32_t capacity = std::max(1U, blocks);
  held->capacity.store(capacity, std::memory_order_relaxed);
  MutexLock lock(held->mutex);
  while (held->where.size() > capacity) {
    RemoveHolder(held->PopOldest(), slot);
    entries_.fetch_sub(1, std::memory_order_relaxed);
    evictions_.fetch_add(1, std::memory_order_relaxed);
  }
}

void PrefixIndex::RemoveSlot(uint32_t slot) {
  SlotBlocks* const blocks = Slot(slot, false);
  if (blocks == nullptr) return;
  MutexLock lock(blocks->mutex);
  for (const auto& [key, node] : blocks->where) RemoveHolder(key, slot);
  entries_.fetch_sub(blocks->where.size(), std::memory_order_relaxed);
  blocks->where = {};
  blocks->nodes = {};
  blocks->free = {};
  blocks->head = blocks->tail = kNone;
  blocks->capacity.store(default_capacity_, std::memory_order_relaxed);
}

size_t PrefixIndex::blocks() const {
  size_t n = 0;
  for (const Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    n += shard.holders.size();
  }
  return n;
}

uint64_t PrefixIndex::MaxBytes() const {
  uint64_t blocks = 0;
  MutexLock lock(slots_mutex_);
  for (const auto& slot : slots_) {
    if (slot != nullptr) blocks += slot->capacity.load(std::memory_order_relaxed);
  }
  return blocks * kBytesPerEntry;
}

PrefixIndex::SlotBlocks* PrefixIndex::Slot(uint32_t slot, bool create) const {
  if (slot >= kMaxSlots) return nullptr;
  MutexLock lock(slots_mutex_);
  if (slot >= slots_.size()) {
    if (!create) return nullptr;
    slots_.resize(slot + 1);
  }
  if (slots_[slot] == nullptr && create) {
    slots_[slot] = std::make_unique<SlotBlocks>();
    slots_[slot]->capacity.store(default_capacity_, std::memory_order_relaxed);
  }
  return slots_[slot].get();
}

void PrefixIndex::AddHolder(uint64_t key, uint32_t slot) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  shard.holders[key].Add(static_cast<uint16_t>(slot));
}

void PrefixIndex::RemoveHolder(uint64_t key, uint32_t slot) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto it = shard.holders.find(key);
  if (it == shard.holders.end()) return;
  it->second.Remove(static_cast<uint16_t>(slot));
  if (it->second.empty()) shard.holders.erase(it);
}

}  // namespace penstock::kvcache
