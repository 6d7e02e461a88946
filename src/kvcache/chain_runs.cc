// Who holds what of a segment, changed by writers. What fits into one word is changed in place, the
// rest by putting a new Runs object where the old one was.
#include <algorithm>
#include <new>

#include "kvcache/chain_index.h"
#include "kvcache/chain_nodes.h"

namespace penstock::kvcache {
namespace {

// Up to so many slots that hold a whole segment are told by runs; above, a bitmap is smaller, but
// the segment cannot grow any more.
constexpr size_t kWholeRuns = 4;

bool InOrder(const Run& a, const Run& b) {
  return a.slot != b.slot ? a.slot < b.slot : a.begin < b.begin;
}

}  // namespace

void ChainIndex::Hold(Shard& shard, Node& node, uint16_t slot, uint8_t level, uint32_t begin,
                      uint32_t end) {
  const Run wanted{.slot = slot,
                   .begin = static_cast<uint16_t>(begin),
                   .end = static_cast<uint16_t>(end),
                   .level = level};
  Runs* const runs = node.runs.load(std::memory_order_relaxed);
  if (runs == nullptr) return Rebuild(shard, node, wanted, Change::kHold);
  if (runs->Bit(level, slot)) return;
  Runs::Word* touching = nullptr;
  Run found{};
  bool has_any = false;
  bool joins_next = false;
  for (size_t i = runs->Find(slot); i < runs->count; ++i) {
    const Run run = runs->run(i);
    if (run.slot != slot) break;
    if (run.level != level || run.blank()) continue;
    has_any = true;
    if (run.begin <= begin && begin <= run.end) {
      touching = runs->runs() + i;
      found = run;
    } else if (run.begin > begin && run.begin <= end) {
      joins_next = true;
    }
  }
  if (touching != nullptr && !joins_next) {
    if (end <= found.end) return;
    found.end = static_cast<uint16_t>(end);
    touching->store(found.Pack(), std::memory_order_release);
    return;
  }
  Runs::Word* const map = runs->bits(level);
  if (!has_any && map != nullptr && begin == 0 && end == runs->covered && end == node.length() &&
      slot / 64 < runs->words) {
    map[slot / 64].fetch_or(uint64_t{1} << (slot % 64), std::memory_order_release);
    ++node.held;
    return;
  }
  Rebuild(shard, node, wanted, Change::kHold);
}

void ChainIndex::Drop(Shard& shard, Node& node, uint16_t slot, uint8_t level, uint32_t begin,
                      uint32_t end) {
  Runs* const runs = node.runs.load(std::memory_order_relaxed);
  if (runs == nullptr) return;
  const Run unwanted{.slot = slot,
                     .begin = static_cast<uint16_t>(begin),
                     .end = static_cast<uint16_t>(end),
                     .level = level};
  if (runs->Bit(level, slot)) {
    if (begin > 0 || end < runs->covered) {
      Rebuild(shard, node, unwanted, Change::kDrop);
    } else {
      runs->bits(level)[slot / 64].fetch_and(~(uint64_t{1} << (slot % 64)),
                                             std::memory_order_release);
      --node.held;
    }
  } else {
    for (size_t i = runs->Find(slot); i < runs->count; ++i) {
      Run run = runs->run(i);
      if (run.slot != slot) break;
      if (run.level != level || run.blank() || run.end <= begin || end <= run.begin) continue;
      if (begin <= run.begin && run.end <= end) {
        run.end = run.begin;
        --node.held;
      } else if (begin > run.begin && run.end <= end) {
        run.end = static_cast<uint16_t>(begin);
      } else {
        Rebuild(shard, node, unwanted, Change::kDrop);
        break;
      }
      runs->runs()[i].store(run.Pack(), std::memory_order_release);
    }
  }
  if (node.held == 0) {
    Runs* const left = node.runs.load(std::memory_order_relaxed);
    node.runs.store(nullptr, std::memory_order_release);
    if (left != nullptr) Retire(shard, left, left->bytes());
  }
  if (end >= node.length()) Trim(node);
}

// A new Runs object, in which one slot holds an interval more or less at one level.
void ChainIndex::Rebuild(Shard& shard, Node& node, const Run& change, Change how) {
  rebuilds_.fetch_add(1, std::memory_order_relaxed);
  Runs* const old = node.runs.load(std::memory_order_relaxed);
  std::vector<Run>& all = shard.scratch;
  std::vector<Run>& own = shard.own;  // of the slot at the level, in order
  all.clear();
  own.clear();
  const bool had_bit = old != nullptr && old->Bit(change.level, change.slot);
  if (had_bit) {
    own.push_back({.slot = change.slot,
                   .begin = 0,
                   .end = static_cast<uint16_t>(old->covered),
                   .level = change.level});
  }
  for (size_t i = 0; old != nullptr && i < old->count; ++i) {
    const Run run = old->run(i);
    if (run.blank()) continue;
    const bool is_own = run.slot == change.slot && run.level == change.level;
    (is_own ? own : all).push_back(run);
  }
  const auto put = [&](const Run& run) {
    all.insert(std::upper_bound(all.begin(), all.end(), run, InOrder), run);
  };
  if (how == Change::kHold) {
    Run merged = change;
    for (const Run& run : own) {
      if (run.end < merged.begin || merged.end < run.begin) {
        put(run);
      } else {
        merged.begin = std::min(merged.begin, run.begin);
        merged.end = std::max(merged.end, run.end);
      }
    }
    put(merged);
  } else {
    for (const Run& run : own) {
      Run before = run;
      Run behind = run;
      before.end = std::min(run.end, change.begin);
      behind.begin = std::max(run.begin, change.end);
      if (before.begin < before.end) put(before);
      if (behind.begin < behind.end) put(behind);
    }
  }
  Runs* const now = MakeRuns(node, all, old);
  if (had_bit) {  // only when a part of the whole was dropped
    now->bits(change.level)[change.slot / 64].fetch_and(~(uint64_t{1} << (change.slot % 64)),
                                                        std::memory_order_relaxed);
    --node.held;
  }
  node.runs.store(now, std::memory_order_release);
  if (old != nullptr) Retire(shard, old, old->bytes());
}

// `runs` in order and none blank, and the bits of `old`, if any. Runs that cover all of the segment
// become bits where there are many. Sets node.held.
ChainIndex::Runs* ChainIndex::MakeRuns(Node& node, const std::vector<Run>& runs, const Runs* old) {
  const uint32_t length = node.length();
  size_t whole[kLevels] = {};
  size_t words = 0;
  uint8_t levels = 0;
  for (const Run& run : runs) {
    if (run.begin == 0 && run.end == length) ++whole[run.level];
  }
  const bool has_bits = old != nullptr && old->AnyBit();
  for (uint8_t level = 0; level < kLevels; ++level) {
    if (whole[level] > kWholeRuns) levels |= static_cast<uint8_t>(1U << level);
  }
  if (has_bits) levels |= old->levels;
  if (levels != 0) words = std::max<size_t>(has_bits ? old->words : 0, (slot_limit() + 63) / 64);
  const auto is_whole = [&](const Run& run) {
    return (levels >> run.level & 1) != 0 && run.begin == 0 && run.end == length;
  };
  for (const Run& run : runs) {
    if (is_whole(run)) words = std::max<size_t>(words, run.slot / 64 + 1);
  }
  const auto partial = static_cast<size_t>(
      std::count_if(runs.begin(), runs.end(), [&](const Run& run) { return !is_whole(run); }));
  const size_t map_words = size_t{kOnes[levels]} * words;
  auto* const now = new (Allocate(Runs::Bytes(map_words + partial)))
      Runs{.covered = length,
           .words = static_cast<uint16_t>(words),
           .levels = levels,
           .count = static_cast<uint32_t>(partial)};
  for (size_t i = 0; i < map_words + partial; ++i) new (now->data() + i) Runs::Word(0);
  const auto relaxed = std::memory_order_relaxed;
  for (uint8_t level = 0; has_bits && level < kLevels; ++level) {
    const Runs::Word* const from = old->bits(level);
    for (size_t w = 0; from != nullptr && w < old->words; ++w) {
      now->bits(level)[w].store(from[w].load(relaxed), relaxed);
    }
  }
  size_t next = 0;
  for (const Run& run : runs) {
    if (is_whole(run)) {
      now->bits(run.level)[run.slot / 64].fetch_or(uint64_t{1} << (run.slot % 64), relaxed);
    } else {
      now->runs()[next++].store(run.Pack(), relaxed);
    }
  }
  node.held = static_cast<uint32_t>(next);
  for (size_t i = 0; i < map_words; ++i) {
    node.held += static_cast<uint32_t>(std::popcount(now->data()[i].load(relaxed)));
  }
  return now;
}

// What is held of `from`, from its block `begin` on, as far as `to` is long.
void ChainIndex::CopyRuns(Shard& shard, const Node& from, uint32_t begin, Node& to) {
  const Runs* const old = from.runs.load(std::memory_order_relaxed);
  if (old == nullptr) return;
  std::vector<Run>& runs = shard.scratch;
  runs.clear();
  const uint32_t end = begin + to.length();
  for (size_t i = 0; i < old->count; ++i) {
    Run run = old->run(i);
    const uint32_t first = std::max<uint32_t>(run.begin, begin);
    const uint32_t last = std::min<uint32_t>(run.end, end);
    if (first >= last) continue;
    run.begin = static_cast<uint16_t>(first - begin);
    run.end = static_cast<uint16_t>(last - begin);
    runs.push_back(run);
  }
  std::sort(runs.begin(), runs.end(), InOrder);
  if (runs.empty() && !old->AnyBit()) return;
  to.runs.store(MakeRuns(to, runs, old), std::memory_order_relaxed);
}

// Forgets keys at the end that nobody holds. The memory goes with the segment.
void ChainIndex::Trim(Node& node) {
  const Runs* const runs = node.runs.load(std::memory_order_relaxed);
  if (node.children > 0 || node.pinned_past || runs == nullptr || runs->AnyBit()) return;
  uint32_t end = 0;
  for (size_t i = 0; i < runs->count; ++i) {
    const Run run = runs->run(i);
    if (!run.blank()) end = std::max<uint32_t>(end, run.end);
  }
  Keys& keys = *node.keys.load(std::memory_order_relaxed);
  if (end > 0 && end < keys.length.load(std::memory_order_relaxed)) {
    keys.length.store(end, std::memory_order_release);
  }
}

}  // namespace penstock::kvcache
