#include "kvcache/chain_index.h"

#include <algorithm>
#include <new>
#include <thread>

#include "kvcache/chain_nodes.h"
#include "kvcache/chain_slots.h"

namespace penstock::kvcache {
namespace {

constexpr size_t kFirstEdges = 16;

size_t WordsFor(uint32_t slots) { return (slots + 63) / 64; }

void SetBit(std::atomic<uint64_t>* words, uint16_t slot, bool on) {
  const uint64_t bit = uint64_t{1} << (slot % 64);
  if (on) {
    words[slot / 64].fetch_or(bit, std::memory_order_relaxed);
  } else {
    words[slot / 64].fetch_and(~bit, std::memory_order_relaxed);
  }
}

}  // namespace

ChainIndex::ChainIndex(const Options& options)
    : options_(options),
      shards_(std::make_unique<Shard[]>(kShards)),
      slot_infos_(std::make_unique<SlotInfo[]>(options.max_slots)),
      rounded_(std::make_unique<std::atomic<uint64_t>[]>(WordsFor(options.max_slots))),
      grouped_(std::make_unique<std::atomic<uint64_t>[]>(WordsFor(options.max_slots))) {}

ChainIndex::~ChainIndex() {
  for (size_t s = 0; s < kShards; ++s) {
    Shard& shard = shards_[s];
    MutexLock lock(shard.mutex);
    for (const Shard::Garbage& garbage : shard.garbage) ::operator delete(garbage.memory);
    Edges* const edges = shard.edges.load(std::memory_order_relaxed);
    if (edges == nullptr) continue;
    // What a forwarded node led to is in the table; the forwarded ones hang on their pins.
    for (size_t i = 0; i < edges->capacity; ++i) {
      Node* const node = edges->data()[i].node.load(std::memory_order_relaxed);
      if (node == nullptr || node == Edges::Removed()) continue;
      ::operator delete(node->keys.load(std::memory_order_relaxed));
      ::operator delete(node->runs.load(std::memory_order_relaxed));
      ::operator delete(node);
    }
    ::operator delete(edges);
  }
}

// --- slots

std::optional<ChainIndex::Slot> ChainIndex::Join() {
  MutexLock lock(slots_mutex_);
  for (uint32_t i = 0; i < options_.max_slots; ++i) {
    SlotInfo& info = slot_infos_[i];
    const uint32_t generation = info.generation.load(std::memory_order_relaxed);
    if (generation % 2 != 0) continue;
    info.generation.store(generation + 1, std::memory_order_relaxed);
    slots_taken_.fetch_add(1, std::memory_order_relaxed);
    if (i >= slot_limit()) slot_limit_.store(i + 1, std::memory_order_relaxed);
    return Slot{.index = static_cast<uint16_t>(i), .generation = generation + 1};
  }
  return std::nullopt;
}

void ChainIndex::Leave(Slot slot) {
  MutexLock lock(slots_mutex_);
  if (!IsCurrent(slot)) return;
  SlotInfo& info = slot_infos_[slot.index];
  info.generation.store(slot.generation + 1, std::memory_order_relaxed);
  ForgetGroups(slot.index);
  SetEngineBlock(slot.index, 0);
  slots_taken_.fetch_sub(1, std::memory_order_relaxed);
}

bool ChainIndex::IsCurrent(Slot slot) const {
  return slot.index < options_.max_slots &&
         slot_infos_[slot.index].generation.load(std::memory_order_relaxed) == slot.generation;
}

void ChainIndex::SetEngineBlock(uint16_t slot, uint32_t tokens) {
  SlotInfo& info = slot_infos_[slot];
  const uint32_t now = info.engine_block.load(std::memory_order_relaxed);
  const uint32_t known = now & ~SlotInfo::kIrregular;
  if (tokens == known) return;
  uint32_t next = tokens == 0 ? 0 : std::max(known, tokens) | (now & SlotInfo::kIrregular);
  if (tokens != 0 && known != 0 && std::max(known, tokens) % std::min(known, tokens) != 0) {
    next |= SlotInfo::kIrregular;
  }
  const uint32_t unit = next & ~SlotInfo::kIrregular;
  RestoreEngineBlock(slot, {.tokens = unit, .is_irregular = next != unit});
}

ChainIndex::EngineBlock ChainIndex::engine_block(uint16_t slot) const {
  const uint32_t word = slot_infos_[slot].engine_block.load(std::memory_order_relaxed);
  const uint32_t unit = word & ~SlotInfo::kIrregular;
  return {.tokens = unit, .is_irregular = word != unit};
}

void ChainIndex::RestoreEngineBlock(uint16_t slot, const EngineBlock& block) {
  const uint32_t word = block.tokens | (block.is_irregular ? SlotInfo::kIrregular : 0);
  slot_infos_[slot].engine_block.store(word, std::memory_order_relaxed);
  const bool is_even =
      !block.is_irregular && block.tokens != 0 && options_.block_tokens % block.tokens == 0;
  SetBit(rounded_.get(), slot, block.tokens != 0 && !is_even);
}

bool ChainIndex::AddGroup(uint16_t slot, const Group& group) {
  const uint64_t word = SlotInfo::Pack(group);
  for (std::atomic<uint64_t>& known : slot_infos_[slot].groups) {
    const uint64_t now = known.load(std::memory_order_relaxed);
    if (now != 0 && SlotInfo::Unpack(now).group != group.group) continue;
    known.store(word, std::memory_order_relaxed);
    SetBit(grouped_.get(), slot, true);
    return true;
  }
  return false;
}

void ChainIndex::ForgetGroups(uint16_t slot) {
  for (auto& group : slot_infos_[slot].groups) group.store(0, std::memory_order_relaxed);
  SetBit(grouped_.get(), slot, false);
}

// --- memory

void* ChainIndex::Allocate(size_t bytes) {
  chain_bytes_.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  return ::operator new(bytes);
}

void ChainIndex::Retire(Shard& shard, void* memory, size_t bytes) {
  constexpr size_t kBatchBytes = 16 * 1024;
  shard.garbage.push_back({.memory = memory, .bytes = bytes, .tag = 0});
  shard.garbage_bytes.fetch_add(bytes, std::memory_order_relaxed);
  shard.untagged_bytes += bytes;
  if (shard.untagged_bytes >= kBatchBytes) CollectShard(shard);
  while (shard.garbage_bytes.load(std::memory_order_relaxed) > kMaxGarbage) {
    garbage_waits_.fetch_add(1, std::memory_order_relaxed);
    std::this_thread::yield();
    CollectShard(shard);
  }
}

void ChainIndex::CollectShard(Shard& shard) {
  if (shard.garbage.empty()) return;
  if (shard.untagged_from < shard.garbage.size()) {
    const uint64_t tag = epochs_.Tag();
    for (size_t i = shard.untagged_from; i < shard.garbage.size(); ++i) shard.garbage[i].tag = tag;
    shard.untagged_bytes = 0;
  }
  const uint64_t oldest = epochs_.Oldest();
  size_t freed = 0;
  uint64_t bytes = 0;
  for (; freed < shard.garbage.size() && shard.garbage[freed].tag < oldest; ++freed) {
    ::operator delete(shard.garbage[freed].memory);
    bytes += shard.garbage[freed].bytes;
  }
  shard.garbage.erase(shard.garbage.begin(),
                      shard.garbage.begin() + static_cast<std::ptrdiff_t>(freed));
  shard.untagged_from = shard.garbage.size();
  shard.garbage_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  chain_bytes_.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed);
}

void ChainIndex::Collect() {
  for (size_t s = 0; s < kShards; ++s) {
    MutexLock lock(shards_[s].mutex);
    CollectShard(shards_[s]);
  }
}

uint64_t ChainIndex::bytes() const {
  // Asked for after every event: one sum, not one of each shard.
  const int64_t charged = charged_.load(std::memory_order_relaxed);
  return static_cast<uint64_t>(std::max<int64_t>(0, charged) +
                               chain_bytes_.load(std::memory_order_relaxed));
}

uint64_t ChainIndex::garbage_bytes() const {
  uint64_t bytes = 0;
  for (size_t s = 0; s < kShards; ++s) {
    bytes += shards_[s].garbage_bytes.load(std::memory_order_relaxed);
  }
  return bytes;
}

uint64_t ChainIndex::segments() const {
  uint64_t nodes = 0;
  for (size_t s = 0; s < kShards; ++s) nodes += shards_[s].nodes.load(std::memory_order_relaxed);
  return nodes;
}

// --- edges

ChainIndex::Shard& ChainIndex::ShardOf(uint64_t name_space, uint64_t first_key) const {
  return shards_[Edges::Hash(name_space, first_key) % kShards];
}

ChainIndex::Node* ChainIndex::FindEdge(const Shard& shard, uint64_t from, uint64_t key,
                                       uint32_t position) {
  const Edges* const edges = shard.edges.load(std::memory_order_acquire);
  if (edges == nullptr) return nullptr;
  const uint64_t hash = Edges::Hash(from, key);
  const size_t mask = edges->capacity - 1;
  for (size_t i = hash >> 32 & mask, n = 0; n <= mask; i = (i + 1) & mask, ++n) {
    const Edges::Entry& entry = edges->data()[i];
    Node* const node = entry.node.load(std::memory_order_acquire);
    if (node == nullptr) return nullptr;
    if (node == Edges::Removed() || entry.hash.load(std::memory_order_relaxed) != hash) continue;
    if (node->parent_id == from && node->start == position &&
        node->keys.load(std::memory_order_acquire)->data()[0] == key) {
      return node;
    }
  }
  return nullptr;
}

void ChainIndex::GrowEdges(Shard& shard) {
  Edges* const old = shard.edges.load(std::memory_order_relaxed);
  // At most two thirds full afterwards.
  const size_t capacity = std::bit_ceil(std::max(kFirstEdges, shard.edges_live * 3 / 2 + 1));
  auto* const edges = new (Allocate(Edges::Bytes(capacity))) Edges{.capacity = capacity};
  for (size_t i = 0; i < capacity; ++i) new (edges->data() + i) Edges::Entry();
  shard.edges_used = shard.edges_live;
  for (size_t i = 0; old != nullptr && i < old->capacity; ++i) {
    Node* const node = old->data()[i].node.load(std::memory_order_relaxed);
    if (node == nullptr || node == Edges::Removed()) continue;
    const uint64_t hash = old->data()[i].hash.load(std::memory_order_relaxed);
    size_t at = hash >> 32 & (capacity - 1);
    while (edges->data()[at].node.load(std::memory_order_relaxed) != nullptr) {
      at = (at + 1) & (capacity - 1);
    }
    edges->data()[at].hash.store(hash, std::memory_order_relaxed);
    edges->data()[at].node.store(node, std::memory_order_relaxed);
  }
  shard.edges.store(edges, std::memory_order_release);
  if (old != nullptr) Retire(shard, old, Edges::Bytes(old->capacity));
}

void ChainIndex::AddEdge(Shard& shard, uint64_t from, uint64_t key, Node* node) {
  const Edges* const edges = shard.edges.load(std::memory_order_relaxed);
  if (edges == nullptr || (shard.edges_used + 1) * 6 > edges->capacity * 5) GrowEdges(shard);
  Edges& table = *shard.edges.load(std::memory_order_relaxed);
  const uint64_t hash = Edges::Hash(from, key);
  size_t i = hash >> 32 & (table.capacity - 1);
  for (;; i = (i + 1) & (table.capacity - 1)) {
    Edges::Entry& entry = table.data()[i];
    Node* const there = entry.node.load(std::memory_order_relaxed);
    const bool is_free = there == nullptr;
    const bool was_mine =
        there == Edges::Removed() && entry.hash.load(std::memory_order_relaxed) == hash;
    if (!is_free && !was_mine) continue;
    if (is_free) {
      entry.hash.store(hash, std::memory_order_relaxed);
      ++shard.edges_used;
    }
    entry.node.store(node, std::memory_order_release);
    ++shard.edges_live;
    return;
  }
}

// `node` null: removes it.
void ChainIndex::ReplaceEdge(Shard& shard, uint64_t from, uint64_t key, Node* old, Node* node) {
  Edges& table = *shard.edges.load(std::memory_order_relaxed);
  size_t i = Edges::Hash(from, key) >> 32 & (table.capacity - 1);
  while (table.data()[i].node.load(std::memory_order_relaxed) != old) {
    i = (i + 1) & (table.capacity - 1);
  }
  table.data()[i].node.store(node == nullptr ? Edges::Removed() : node, std::memory_order_release);
  if (node == nullptr) --shard.edges_live;
}

// --- nodes

ChainIndex::Node* ChainIndex::Resolve(Node* node) {
  while (node->forward != nullptr) node = node->forward;
  return node;
}

// The segment with block `position` - 1. REQUIRES: position > 0, and on the way to the node.
ChainIndex::Node* ChainIndex::Locate(Node* node, uint32_t position) {
  node = Resolve(node);
  while (position <= node->start) node = Resolve(node->parent);
  return node;
}

ChainIndex::Node* ChainIndex::NewNode(Shard& shard, Node* parent, const Piece& piece,
                                      uint32_t position, std::span<const uint64_t> keys,
                                      size_t expected) {
  const auto length = static_cast<uint32_t>(std::min<size_t>(keys.size(), kMaxSegment));
  const auto capacity = static_cast<uint32_t>(std::min<size_t>(length + expected, kMaxSegment));
  const uint64_t parent_id = parent == nullptr ? piece.name_space : parent->id;
  auto* const node = new (Allocate(sizeof(Node)))
      Node(next_id_.fetch_add(1, std::memory_order_relaxed), parent_id, piece.name_space, position,
           static_cast<uint32_t>(&shard - shards_.get()));
  auto* const copy =
      new (Allocate(Keys::Bytes(capacity))) Keys{.capacity = capacity, .length = length};
  std::copy_n(keys.begin(), length, copy->data());
  node->keys.store(copy, std::memory_order_relaxed);
  node->written = static_cast<uint16_t>(length);
  node->parent = parent;
  if (parent != nullptr) {
    ++parent->refs;
    ++parent->children;
  }
  shard.nodes.fetch_add(1, std::memory_order_relaxed);
  AddEdge(shard, parent_id, keys[0], node);
  return node;
}

// Appends as many keys as may be: a segment that others share as a whole, that has children or that
// once went on otherwise does not grow. Returns their number.
size_t ChainIndex::Extend(Shard& shard, Node& node, std::span<const uint64_t> keys,
                          size_t expected) {
  Keys* old = node.keys.load(std::memory_order_relaxed);
  const uint32_t length = old->length.load(std::memory_order_relaxed);
  const Runs* const runs = node.runs.load(std::memory_order_relaxed);
  if (node.children > 0 || length == kMaxSegment || (runs != nullptr && runs->AnyBit())) return 0;
  if (length < node.written) {
    const uint64_t* const left = old->data() + length;
    const size_t most = std::min<size_t>(keys.size(), node.written - length);
    const auto same =
        static_cast<size_t>(std::mismatch(left, left + most, keys.begin()).first - left);
    old->length.store(static_cast<uint32_t>(length + same), std::memory_order_release);
    return same;
  }
  const auto added = static_cast<uint32_t>(std::min<size_t>(keys.size(), kMaxSegment - length));
  const uint32_t wanted = length + added;
  if (wanted > old->capacity) {
    const size_t spare = std::max<size_t>(expected, wanted / 4);
    const auto capacity = static_cast<uint32_t>(std::min<size_t>(wanted + spare, kMaxSegment));
    auto* const longer =
        new (Allocate(Keys::Bytes(capacity))) Keys{.capacity = capacity, .length = length};
    std::copy_n(old->data(), length, longer->data());
    node.keys.store(longer, std::memory_order_release);
    Retire(shard, old, Keys::Bytes(old->capacity));
    old = longer;
  }
  std::copy_n(keys.begin(), added, old->data() + length);
  old->length.store(wanted, std::memory_order_release);
  node.written = static_cast<uint16_t>(wanted);
  return added;
}

// Puts two segments where one was. Returns the first of them, which has `at` blocks.
// REQUIRES: 0 < at < its length.
ChainIndex::Node* ChainIndex::Split(Shard& shard, Node& node, uint32_t at) {
  splits_.fetch_add(1, std::memory_order_relaxed);
  Keys* const keys = node.keys.load(std::memory_order_relaxed);
  const uint32_t length = keys->length.load(std::memory_order_relaxed);
  const auto make = [&](uint64_t id, uint64_t parent_id, uint32_t begin, uint32_t end) {
    auto* const half = new (Allocate(sizeof(Node)))
        Node(id, parent_id, node.name_space, node.start + begin, node.shard);
    auto* const copy = new (Allocate(Keys::Bytes(end - begin)))
        Keys{.capacity = end - begin, .length = end - begin};
    std::copy_n(keys->data() + begin, end - begin, copy->data());
    half->keys.store(copy, std::memory_order_relaxed);
    half->written = static_cast<uint16_t>(end - begin);
    half->pinned_past = node.pinned_past;
    CopyRuns(shard, node, begin, *half);
    shard.nodes.fetch_add(1, std::memory_order_relaxed);
    return half;
  };
  Node* const head = make(next_id_.fetch_add(1, std::memory_order_relaxed), node.parent_id, 0, at);
  Node* const tail = make(node.id, head->id, at, length);
  head->parent = node.parent;
  head->children = 1;
  head->refs = 1;
  tail->parent = head;
  tail->children = node.children;
  AddEdge(shard, head->id, tail->keys.load(std::memory_order_relaxed)->data()[0], tail);
  ReplaceEdge(shard, node.parent_id, keys->data()[0], &node, head);

  Runs* const runs = node.runs.load(std::memory_order_relaxed);
  Retire(shard, keys, Keys::Bytes(keys->capacity));
  if (runs != nullptr) Retire(shard, runs, runs->bytes());
  shard.nodes.fetch_sub(1, std::memory_order_relaxed);
  // Readers that are still at it need what they find there, so the pointers stay; nobody else
  // follows them behind a forward.
  if (node.refs == 0) {
    Retire(shard, &node, sizeof(Node));
  } else {
    node.forward = tail;
    ++tail->refs;
  }
  return head;
}

// One reference to it is gone.
void ChainIndex::Release(Shard& shard, Node* node) {
  --node->refs;
  while (node != nullptr && node->refs == 0) {
    Node* next = node->forward;
    if (next == nullptr) {
      if (node->held > 0) return;
      Keys* const keys = node->keys.load(std::memory_order_relaxed);
      ReplaceEdge(shard, node->parent_id, keys->data()[0], node, nullptr);
      Runs* const runs = node->runs.load(std::memory_order_relaxed);
      Retire(shard, keys, Keys::Bytes(keys->capacity));
      if (runs != nullptr) Retire(shard, runs, runs->bytes());
      shard.nodes.fetch_sub(1, std::memory_order_relaxed);
      next = node->parent;
      if (next != nullptr) {
        Node* const parent = Resolve(next);
        --parent->children;
        Trim(*parent);
      }
    }
    Retire(shard, node, sizeof(Node));
    if (next != nullptr) --next->refs;
    node = next;
  }
}

void ChainIndex::Repin(Shard& shard, Node** pin) {
  Node* const now = Resolve(*pin);
  if (now == *pin) return;
  ++now->refs;
  Release(shard, *pin);
  *pin = now;
}

// --- writing

template <class F>
void ChainIndex::ForEachHeld(Node& node, uint16_t slot, uint8_t level, uint32_t begin, uint32_t end,
                             F&& visit) {
  const Runs* const runs = node.runs.load(std::memory_order_relaxed);
  if (runs == nullptr) return;
  if (runs->Bit(level, slot)) return visit(begin, std::min(end, runs->covered));
  for (size_t i = runs->Find(slot); i < runs->count; ++i) {
    const Run run = runs->run(i);
    if (run.slot != slot) return;
    const uint32_t from = std::max<uint32_t>(begin, run.begin);
    const uint32_t to = std::min<uint32_t>(end, run.end);
    if (run.level == level && from < to) visit(from, to);
  }
}

void ChainIndex::FindOverlaps(Node& node, uint16_t slot, uint8_t level, uint32_t begin,
                              uint32_t end, std::vector<Part>* overlaps) {
  if (overlaps == nullptr) return;
  const auto add = [&](uint32_t first, uint32_t last) {
    overlaps->push_back({.begin = node.start + first, .end = node.start + last});
  };
  ForEachHeld(node, slot, level, begin, end, add);
  if (level < kDoubtful) ForEachHeld(node, slot, level + kDoubtful, begin, end, add);
}

ChainIndex::Node* ChainIndex::Store(const Piece& piece) {
  Shard& shard = piece.after != nullptr ? shards_[piece.after->shard]
                                        : ShardOf(piece.name_space, piece.keys[0]);
  MutexLock lock(shard.mutex);
  Node* node = piece.after == nullptr ? nullptr : Locate(piece.after, piece.position);
  std::span<const uint64_t> keys = piece.keys;
  uint32_t position = piece.position;
  if (node != nullptr) ++node->refs;  // may not go away while it is worked on
  while (!keys.empty()) {
    Node* const next = Descend(shard, node, position, keys, piece);
    next->pinned_past |= piece.pinned_past;
    if (next == node) continue;
    ++next->refs;
    if (node != nullptr) Release(shard, node);
    node = next;
  }
  if (piece.pinned != nullptr) Release(shard, piece.pinned);
  return node;
}

// One step along the keys: within the segment with the block before `position`, to a child, or to a
// new segment. Returns where it ended, with `position` and `keys` moved on.
ChainIndex::Node* ChainIndex::Descend(Shard& shard, Node*& node, uint32_t& position,
                                      std::span<const uint64_t>& keys, const Piece& piece) {
  const size_t left = keys.size();
  enum class Blocks : uint8_t { kOld, kNew };  // nobody holds what is new
  const auto advance = [&](Node& at, size_t blocks, Blocks which = Blocks::kOld) {
    const uint32_t begin = std::max(position, piece.held_from);
    position += static_cast<uint32_t>(blocks);
    keys = keys.subspan(blocks);
    if (begin < position) {
      if (which == Blocks::kOld) {
        FindOverlaps(at, piece.slot, piece.level, begin - at.start, position - at.start,
                     piece.overlaps);
      }
      Hold(shard, at, piece.slot, piece.level, begin - at.start, position - at.start);
    }
  };
  if (node != nullptr) {
    const uint32_t offset = position - node->start;
    const uint32_t length = node->length();
    if (offset < length) {
      const uint64_t* const there = node->keys.load(std::memory_order_relaxed)->data() + offset;
      const size_t most = std::min<size_t>(left, length - offset);
      const auto same =
          static_cast<size_t>(std::mismatch(there, there + most, keys.begin()).first - there);
      if (same > 0) {
        advance(*node, same);
        return node;
      }
      Node* const old = node;
      Node* const head = Split(shard, *old, offset);
      ++head->refs;
      head->pinned_past |= piece.pinned_past;
      Release(shard, old);
      node = head;
    } else if (const size_t added = Extend(shard, *node, keys, piece.expected); added > 0) {
      advance(*node, added, Blocks::kNew);
      return node;
    }
  }
  const uint64_t from = node == nullptr ? piece.name_space : node->id;
  Node* next = FindEdge(shard, from, keys[0], position);
  if (next == nullptr) {
    next = NewNode(shard, node, piece, position, keys, piece.expected);
    advance(*next, next->length(), Blocks::kNew);
    return next;
  }
  const uint64_t* const there = next->keys.load(std::memory_order_relaxed)->data();
  const size_t most = std::min<size_t>(left, next->length());
  advance(*next,
          static_cast<size_t>(std::mismatch(there, there + most, keys.begin()).first - there));
  return next;
}

// Calls visit(node, begin, end) for the parts of a range, last first, within each segment.
template <class F>
void ChainIndex::ForEachPart(Shard& shard, const Range& range, F&& visit) {
  Repin(shard, range.pin);
  uint32_t end = range.end;
  Node* node = Locate(*range.pin, end);
  for (;;) {
    const uint32_t begin = std::max(range.begin, node->start);
    visit(*node, begin - node->start, end - node->start);
    end = begin;
    if (end <= range.begin) return;
    node = Resolve(node->parent);
  }
}

void ChainIndex::Mark(uint16_t slot, uint8_t level, const Range& range,
                      std::vector<Part>* overlaps) {
  if (range.begin >= range.end) return;
  Shard& shard = shards_[(*range.pin)->shard];
  MutexLock lock(shard.mutex);
  ForEachPart(shard, range, [&](Node& node, uint32_t begin, uint32_t end) {
    FindOverlaps(node, slot, level, begin, end, overlaps);
    Hold(shard, node, slot, level, begin, end);
  });
}

void ChainIndex::Unmark(uint16_t slot, uint8_t level, const Range& range) {
  if (range.begin >= range.end) return;
  Shard& shard = shards_[(*range.pin)->shard];
  MutexLock lock(shard.mutex);
  ForEachPart(shard, range, [&](Node& node, uint32_t begin, uint32_t end) {
    Drop(shard, node, slot, level, begin, end);
  });
}

void ChainIndex::Unpin(Node* node) {
  Shard& shard = shards_[node->shard];
  MutexLock lock(shard.mutex);
  Release(shard, node);
}

void ChainIndex::Pin(Node* node) {
  Shard& shard = shards_[node->shard];
  MutexLock lock(shard.mutex);
  Node* const now = Resolve(node);
  ++node->refs;
  now->pinned_past = true;
}

bool ChainIndex::HasKeys(Node* node, uint32_t begin, std::span<const uint64_t> keys) {
  if (keys.empty()) return true;
  Shard& shard = shards_[node->shard];
  MutexLock lock(shard.mutex);
  auto end = static_cast<uint32_t>(begin + keys.size());
  for (node = Locate(node, end);; node = Resolve(node->parent)) {
    const uint32_t from = std::max(begin, node->start);
    if (end > node->start + node->length()) return false;
    const uint64_t* const there = node->keys.load(std::memory_order_relaxed)->data();
    if (!std::equal(there + (from - node->start), there + (end - node->start),
                    keys.begin() + (from - begin))) {
      return false;
    }
    end = from;
    if (end <= begin) return true;
  }
}

void ChainIndex::PathKeys(Node* node, uint32_t begin, uint32_t end, std::vector<uint64_t>* keys) {
  if (begin >= end) return;
  Shard& shard = shards_[node->shard];
  MutexLock lock(shard.mutex);
  const size_t before = keys->size();
  keys->resize(before + (end - begin));
  for (node = Locate(node, end);; node = Resolve(node->parent)) {
    const uint32_t from = std::max(begin, node->start);
    std::copy_n(node->keys.load(std::memory_order_relaxed)->data() + (from - node->start),
                end - from, keys->begin() + static_cast<std::ptrdiff_t>(before + (from - begin)));
    end = from;
    if (end <= begin) return;
  }
}

uint64_t ChainIndex::NamespaceOf(const Node* node) { return node->name_space; }

void ChainIndex::Move(uint16_t slot, uint8_t from, uint8_t to, const Range& range) {
  if (range.begin >= range.end) return;
  Shard& shard = shards_[(*range.pin)->shard];
  MutexLock lock(shard.mutex);
  ForEachPart(shard, range, [&](Node& node, uint32_t begin, uint32_t end) {
    std::vector<Run> held;
    ForEachHeld(node, slot, from, begin, end, [&](uint32_t first, uint32_t last) {
      held.push_back({.begin = static_cast<uint16_t>(first), .end = static_cast<uint16_t>(last)});
    });
    for (const Run& part : held) {
      Hold(shard, node, slot, to, part.begin, part.end);
      Drop(shard, node, slot, from, part.begin, part.end);
    }
  });
}

uint32_t ChainIndex::Count(uint16_t slot, uint8_t level, const Range& range) {
  if (range.begin >= range.end) return 0;
  Shard& shard = shards_[(*range.pin)->shard];
  MutexLock lock(shard.mutex);
  uint32_t count = 0;
  ForEachPart(shard, range, [&](Node& node, uint32_t begin, uint32_t end) {
    ForEachHeld(node, slot, level, begin, end,
                [&](uint32_t first, uint32_t last) { count += last - first; });
  });
  return count;
}

void ChainIndex::Confirm(uint16_t slot, uint64_t name_space, std::span<const uint64_t> keys) {
  if (keys.empty()) return;
  Shard& shard = ShardOf(name_space, keys[0]);
  MutexLock lock(shard.mutex);
  uint64_t from = name_space;
  std::vector<Run> held;
  for (uint32_t position = 0; position < keys.size();) {
    Node* const node = FindEdge(shard, from, keys[position], position);
    if (node == nullptr) return;
    const uint64_t* const there = node->keys.load(std::memory_order_relaxed)->data();
    const size_t most = std::min<size_t>(keys.size() - position, node->length());
    const auto same = static_cast<uint32_t>(
        std::mismatch(there, there + most, keys.begin() + position).first - there);
    for (uint8_t level = kDoubtful; level < kLevels; ++level) {
      held.clear();
      ForEachHeld(*node, slot, level, 0, same, [&](uint32_t first, uint32_t last) {
        held.push_back({.begin = static_cast<uint16_t>(first), .end = static_cast<uint16_t>(last)});
      });
      for (const Run& part : held) {
        Hold(shard, *node, slot, level - kDoubtful, part.begin, part.end);
        Drop(shard, *node, slot, level, part.begin, part.end);
      }
    }
    position += same;
    if (same < node->length()) return;
    from = node->id;
  }
}

}  // namespace penstock::kvcache
