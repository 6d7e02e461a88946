// The reading side of the chain index.
#include <algorithm>
#include <compare>
#include <utility>

#include "kvcache/chain_index.h"
#include "kvcache/chain_nodes.h"
#include "kvcache/chain_slots.h"
#include "kvcache/content_keys.h"

namespace penstock::kvcache {
namespace {

constexpr uint32_t Level(Tier tier) { return static_cast<uint32_t>(tier); }
constexpr uint32_t kGpuLevels = 1U << Level(Tier::kGpu) | 1U << (Level(Tier::kGpu) + kTiers);
constexpr uint32_t kSureLevels = (1U << kTiers) - 1;

// How far ahead of what is read memory is asked for, in words: what was last looked at a while ago
// is not in the core's own caches, and the processor itself begins to fetch ahead too late for it.
constexpr size_t kAhead = 128;

// The first words of so many.
template <class Word>
void FetchAhead(const Word* words, size_t count) {
  for (size_t i = 0; i < std::min(count, kAhead); i += 8) __builtin_prefetch(words + i);
}

// How many keys are the same from the start. Eight at a time: 0.14 ns a key where one at a time
// costs 0.4.
uint32_t CommonPrefix(const uint64_t* a, const uint64_t* b, uint32_t n) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    __builtin_prefetch(a + i + kAhead);
    const uint64_t* const x = a + i;
    const uint64_t* const y = b + i;
    const uint64_t differ = (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) |
                            (x[4] ^ y[4]) | (x[5] ^ y[5]) | (x[6] ^ y[6]) | (x[7] ^ y[7]);
    if (differ != 0) break;
  }
  while (i < n && a[i] == b[i]) ++i;
  return i;
}

template <class F>
void ForEachBit(uint64_t bits, size_t word, F&& visit) {
  for (; bits != 0; bits &= bits - 1) {
    visit(word * 64 + static_cast<size_t>(std::countr_zero(bits)));
  }
}

}  // namespace

// What a slot holds of a prompt in one group of layers, once more than prefixes matter.
struct ChainIndex::Reader::Interval {
  uint32_t slot;
  uint16_t group;
  uint32_t begin;
  uint32_t end;

  auto operator<=>(const Interval&) const = default;
};

ChainIndex::Reader::Reader(const ChainIndex& index) : index_(index), epoch_(index.epochs_) {}
ChainIndex::Reader::~Reader() = default;

// Calls visit(runs, position, matched) for the segments along the keys until it returns false.
// Returns the number of keys that are in the chain as far as was looked.
template <class F>
uint32_t ChainIndex::Reader::ForEachSegment(uint64_t name_space, std::span<const uint64_t> keys,
                                            F&& visit) {
  if (keys.empty()) return 0;
  const Shard& shard = index_.ShardOf(name_space, keys[0]);
  uint64_t from = name_space;
  uint32_t position = 0;
  while (position < keys.size()) {
    const Node* const node = FindEdge(shard, from, keys[position], position);
    if (node == nullptr) break;
    const Keys& there = *node->keys.load(std::memory_order_acquire);
    const uint32_t length = there.length.load(std::memory_order_acquire);
    __builtin_prefetch(node->runs.load(std::memory_order_relaxed));
    const auto most = static_cast<uint32_t>(std::min<size_t>(length, keys.size() - position));
    FetchAhead(there.data(), most);
    const uint32_t matched = CommonPrefix(there.data(), keys.data() + position, most);
    // After the keys: so what is held was so when or after the segment was that long.
    const Runs* const runs = node->runs.load(std::memory_order_acquire);
    if (!visit(runs, position, matched)) return position;
    position += matched;
    if (matched < length) break;
    from = node->id;
  }
  return position;
}

void ChainIndex::Reader::SetAllAlive(size_t slots) {
  const size_t words = (slots + 63) / 64;
  alive_.assign(words, ~uint64_t{0});
  if (slots % 64 != 0) alive_.back() = (uint64_t{1} << (slots % 64)) - 1;
  next_.resize(words);
}

uint32_t ChainIndex::Reader::Match(uint64_t name_space, std::span<const uint64_t> keys,
                                   std::span<PrefixHold> holds) {
  std::fill(holds.begin(), holds.end(), PrefixHold{});
  SetAllAlive(holds.size());
  const size_t words = alive_.size();
  gpu_ = alive_;
  sure_ = alive_;
  most_ = 0;
  bool any_alive = words > 0;
  {
    const EpochDomain::Guard guard(epoch_);
    const uint32_t end = ForEachSegment(name_space, keys,
                                        [&](const Runs* runs, uint32_t position, uint32_t matched) {
                                          any_alive = Visit(runs, position, matched, holds);
                                          return any_alive;
                                        });
    for (size_t w = 0; w < words; ++w) EndSlots(alive_[w], w, end, holds);
    most_ = any_alive ? end : most_;
  }
  Round(holds);
  if (most_ > 0) MatchGroups(name_space, keys, holds);
  return most_;
}

// The slot held everything up to `position`, and nothing behind it.
void ChainIndex::Reader::EndSlot(size_t slot, uint32_t position, PrefixHold& hold) {
  const uint64_t bit = uint64_t{1} << (slot % 64);
  most_ = std::max(most_, position);
  if ((gpu_[slot / 64] & sure_[slot / 64] & bit) != 0) {
    hold = {position, position, position, position, {position}};
    return;
  }
  hold.blocks = hold.reusable = position;
  if ((gpu_[slot / 64] & bit) != 0) hold.gpu = position;
  if ((sure_[slot / 64] & bit) != 0) hold.sure = position;
  hold.in_tier[0] = position - hold.in_tier[1] - hold.in_tier[2] - hold.in_tier[3];
}

void ChainIndex::Reader::EndSlots(uint64_t slots, size_t word, uint32_t position,
                                  std::span<PrefixHold> holds) {
  if (position == 0) return;  // as it is already
  ForEachBit(slots, word, [&](size_t slot) { EndSlot(slot, position, holds[slot]); });
}

// Goes through one segment, of which `matched` blocks from `position` on are the prompt's. Returns
// whether a slot holds all of them.
bool ChainIndex::Reader::Visit(const Runs* runs, uint32_t position, uint32_t matched,
                               std::span<PrefixHold> holds) {
  const size_t words = alive_.size();
  if (runs == nullptr) {
    for (size_t w = 0; w < words; ++w) EndSlots(std::exchange(alive_[w], 0), w, position, holds);
    return false;
  }
  // Most slots hold a whole segment in the GPU's memory; they take no step of their own.
  const Runs::Word* const fast =
      matched <= runs->covered ? runs->bits(static_cast<uint8_t>(Tier::kGpu)) : nullptr;
  for (size_t w = 0; w < words; ++w) {
    const bool is_there = fast != nullptr && w < runs->words;
    next_[w] = is_there ? alive_[w] & fast[w].load(std::memory_order_acquire) : 0;
    alive_[w] &= ~next_[w];
  }
  const auto visit = [&](size_t slot, size_t first, size_t last) {
    const uint64_t bit = uint64_t{1} << (slot % 64);
    const bool goes_on = VisitSlot(*runs, static_cast<uint16_t>(slot), {first, last}, position,
                                   matched, holds[slot]);
    alive_[slot / 64] &= ~bit;
    if (goes_on) next_[slot / 64] |= bit;
  };
  // A slot with a run from the start, in the GPU's memory and with a gap behind it is as simple: 4
  // ns where VisitSlot takes 60.
  const bool are_simple = (runs->levels & ~(1U << static_cast<uint32_t>(Tier::kGpu))) == 0;
  FetchAhead(runs->runs(), runs->count);
  for (size_t i = 0; i < runs->count;) {
    const Run run = runs->run(i);
    const uint16_t slot = run.slot;
    const size_t first = i++;
    while (i < runs->count && runs->run(i).slot == slot) {
      if (i % 8 == 0) __builtin_prefetch(runs->runs() + i + kAhead);
      ++i;
    }
    if (slot >= holds.size()) break;
    const uint64_t bit = uint64_t{1} << (slot % 64);
    if ((alive_[slot / 64] & bit) == 0) continue;
    const bool stands_alone = i == first + 1 || runs->run(first + 1).begin > run.end;
    if (!are_simple || !stands_alone || run.begin != 0 ||
        run.level != static_cast<uint8_t>(Tier::kGpu)) {
      visit(slot, first, i);
    } else {
      alive_[slot / 64] &= ~bit;
      if (run.end >= matched) {
        next_[slot / 64] |= bit;
      } else {
        EndSlot(slot, position + run.end, holds[slot]);
      }
    }
  }
  uint64_t any = 0;
  for (size_t w = 0; w < words; ++w) {
    uint64_t others = 0;  // whole, but not simply in the GPU's memory
    for (uint32_t left = runs->levels; left != 0 && w < runs->words; left &= left - 1) {
      const auto level = static_cast<uint8_t>(std::countr_zero(left));
      others |= runs->bits(level)[w].load(std::memory_order_acquire);
    }
    ForEachBit(others & alive_[w], w, [&](size_t slot) { visit(slot, 0, 0); });
    EndSlots(alive_[w], w, position, holds);
    alive_[w] = next_[w];
    any |= next_[w];
  }
  return any != 0;
}

// What one slot that was alive before the segment holds of it. Returns whether that is all.
bool ChainIndex::Reader::VisitSlot(const Runs& runs, uint16_t slot, std::pair<size_t, size_t> own,
                                   uint32_t position, uint32_t matched, PrefixHold& hold) {
  uint32_t whole = 0;  // levels at which it holds the whole segment
  for (uint32_t left = runs.levels; left != 0; left &= left - 1) {
    const auto level = static_cast<uint8_t>(std::countr_zero(left));
    if (runs.Bit(level, slot)) whole |= 1U << level;
  }
  const uint32_t covered = std::min(matched, runs.covered);
  // From the start of the segment, at any of these levels.
  const auto contiguous = [&](uint32_t levels) {
    uint32_t end = (whole & levels) != 0 ? covered : 0;
    for (size_t i = own.first; i < own.second; ++i) {
      const Run run = runs.run(i);
      if (run.begin > end) break;
      if ((levels >> run.level & 1) != 0) end = std::max<uint32_t>(end, run.end);
    }
    return std::min(end, matched);
  };
  // A writer may change runs between the looks at them.
  const uint32_t blocks = contiguous(~0U);
  const uint32_t gpu = std::min(blocks, contiguous(kGpuLevels));
  const uint32_t sure = std::min(blocks, contiguous(kSureLevels));
  const bool goes_on = blocks == matched;
  const uint64_t bit = uint64_t{1} << (slot % 64);
  if ((gpu_[slot / 64] & bit) != 0 && gpu < blocks) {
    hold.gpu = position + gpu;
    gpu_[slot / 64] &= ~bit;
  }
  if ((sure_[slot / 64] & bit) != 0 && sure < blocks) {
    hold.sure = position + sure;
    sure_[slot / 64] &= ~bit;
  }
  if (gpu == blocks) {
    if (!goes_on) EndSlot(slot, position + blocks, hold);
    return goes_on;
  }
  // How many of the blocks are in one of the fastest tiers, ever more of them.
  uint32_t before = 0;
  uint32_t levels = 0;
  for (size_t tier = 0; tier < kTiers; ++tier) {
    levels |= 1U << tier | 1U << (tier + kTiers);
    uint32_t end = (whole & levels) != 0 ? std::min(covered, blocks) : 0;
    uint32_t sum = end;
    for (size_t i = own.first; i < own.second; ++i) {
      const Run run = runs.run(i);
      if ((levels >> run.level & 1) == 0) continue;
      const uint32_t from = std::max<uint32_t>(run.begin, end);
      const uint32_t to = std::min<uint32_t>(run.end, blocks);
      if (from >= to) continue;
      sum += to - from;
      end = to;
    }
    hold.in_tier[tier] += std::max(sum, before) - before;
    before = std::max(sum, before);
  }
  if (!goes_on) EndSlot(slot, position + blocks, hold);
  return goes_on;
}

uint32_t ChainIndex::Reader::RoundDown(uint32_t engine_block, uint32_t blocks) const {
  const uint32_t unit = engine_block & ~SlotInfo::kIrregular;
  if (unit == 0) return blocks;
  const uint64_t tokens = uint64_t{blocks} * index_.block_tokens();
  // Where boundaries are not known, one is at most a block less a token before.
  const uint64_t excess =
      unit != engine_block ? std::min<uint64_t>(tokens, unit - 1) : tokens % unit;
  return static_cast<uint32_t>((tokens - excess) / index_.block_tokens());
}

// An engine uses whole blocks of its own. Those that are cut off count as the slowest.
void ChainIndex::Reader::Round(std::span<PrefixHold> holds) const {
  for (size_t w = 0; w < alive_.size(); ++w) {
    const uint64_t rounded = index_.rounded_[w].load(std::memory_order_relaxed);
    ForEachBit(rounded, w, [&](size_t slot) {
      if (slot >= holds.size()) return;
      PrefixHold& hold = holds[slot];
      const uint32_t engine_block =
          index_.slot_infos_[slot].engine_block.load(std::memory_order_relaxed);
      uint32_t cut = hold.blocks - RoundDown(engine_block, hold.blocks);
      hold.blocks -= cut;
      hold.reusable = hold.blocks;
      hold.gpu = RoundDown(engine_block, hold.gpu);
      hold.sure = RoundDown(engine_block, hold.sure);
      for (size_t tier = kTiers - 1; tier > 0 && cut > 0; --tier) {
        const uint32_t part = std::min(cut, hold.in_tier[tier]);
        hold.in_tier[tier] -= part;
        cut -= part;
      }
      hold.in_tier[0] -= cut;
    });
  }
}

// --- one tier

void ChainIndex::Reader::MatchTier(Tier tier, uint64_t name_space, std::span<const uint64_t> keys,
                                   std::span<uint32_t> lengths) {
  std::fill(lengths.begin(), lengths.end(), 0);
  SetAllAlive(lengths.size());
  if (lengths.empty()) return;
  const uint32_t levels = 1U << Level(tier) | 1U << (Level(tier) + kTiers);
  {
    const EpochDomain::Guard guard(epoch_);
    const uint32_t end = ForEachSegment(
        name_space, keys, [&](const Runs* runs, uint32_t position, uint32_t matched) {
          return VisitTier(runs, levels, position, matched, lengths);
        });
    for (size_t w = 0; w < alive_.size(); ++w) {
      ForEachBit(alive_[w], w, [&](size_t slot) { lengths[slot] = end; });
    }
  }
  for (size_t w = 0; w < alive_.size(); ++w) {
    ForEachBit(index_.rounded_[w].load(std::memory_order_relaxed), w, [&](size_t slot) {
      if (slot >= lengths.size()) return;
      const SlotInfo& info = index_.slot_infos_[slot];
      lengths[slot] = RoundDown(info.engine_block.load(std::memory_order_relaxed), lengths[slot]);
    });
  }
}

// Like Visit. The slots that end here get their lengths.
bool ChainIndex::Reader::VisitTier(const Runs* runs, uint32_t levels, uint32_t position,
                                   uint32_t matched, std::span<uint32_t> lengths) {
  for (size_t w = 0; w < alive_.size(); ++w) {
    uint64_t whole = 0;
    for (uint32_t left = runs == nullptr ? 0 : runs->levels & levels; left != 0; left &= left - 1) {
      const auto level = static_cast<uint8_t>(std::countr_zero(left));
      if (w < runs->words) whole |= runs->bits(level)[w].load(std::memory_order_acquire);
    }
    const uint32_t covered = runs == nullptr ? 0 : std::min(matched, runs->covered);
    next_[w] = covered == matched ? alive_[w] & whole : 0;
    alive_[w] &= ~next_[w];
    ForEachBit(alive_[w], w, [&](size_t slot) {
      lengths[slot] = position + ((whole >> (slot % 64) & 1) != 0 ? covered : 0);
    });
  }
  for (size_t i = 0; runs != nullptr && i < runs->count; ++i) {
    const Run run = runs->run(i);
    if (run.slot >= lengths.size()) break;
    if ((levels >> run.level & 1) == 0 || (alive_[run.slot / 64] >> (run.slot % 64) & 1) == 0) {
      continue;
    }
    uint32_t& length = lengths[run.slot];
    if (position + run.begin > length) continue;
    length = std::max(length, position + std::min<uint32_t>(run.end, matched));
    if (length == position + matched) next_[run.slot / 64] |= uint64_t{1} << (run.slot % 64);
  }
  uint64_t any = 0;
  for (size_t w = 0; w < alive_.size(); ++w) any |= alive_[w] = next_[w];
  return any != 0;
}

// --- models with several groups of layers

// The largest number of blocks up to `limit` behind which the group can go on. `held` in order,
// apart from each other.
uint32_t ChainIndex::Reader::Usable(const Group& group, std::span<const Interval> held,
                                    uint32_t limit) {
  const uint32_t window = group.kind == CacheKind::kWindow ? group.window_blocks : 1;
  if (group.kind == CacheKind::kFull) {
    return held.empty() || held[0].begin > 0 ? 0 : std::min(limit, held[0].end);
  }
  if (window == 0) return limit;
  for (size_t i = held.size(); i-- > 0;) {
    const uint32_t end = std::min(limit, held[i].end);
    const uint32_t need =
        held[i].begin == 0 && group.kind == CacheKind::kWindow ? 0 : held[i].begin + window;
    if (end >= need) return end;
  }
  return 0;
}

void ChainIndex::Reader::CollectIntervals(const Runs* runs, uint16_t group, uint32_t position,
                                          uint32_t matched) {
  if (runs == nullptr) return;
  const uint32_t covered = std::min(matched, runs->covered);
  for (size_t w = 0; w < runs->words; ++w) {
    uint64_t slots = 0;
    for (uint32_t left = runs->levels; left != 0; left &= left - 1) {
      const auto level = static_cast<uint8_t>(std::countr_zero(left));
      slots |= runs->bits(level)[w].load(std::memory_order_acquire);
    }
    ForEachBit(slots, w, [&](size_t slot) {
      intervals_.push_back({static_cast<uint32_t>(slot), group, position, position + covered});
    });
  }
  for (size_t i = 0; i < runs->count; ++i) {
    const Run run = runs->run(i);
    const uint32_t end = std::min<uint32_t>(run.end, matched);
    if (run.begin < end) {
      intervals_.push_back({run.slot, group, position + run.begin, position + end});
    }
  }
}

void ChainIndex::Reader::MatchGroups(uint64_t name_space, std::span<const uint64_t> keys,
                                     std::span<PrefixHold> holds) {
  const auto for_each_group = [&](size_t slot, auto&& visit) {
    for (const auto& word : index_.slot_infos_[slot].groups) {
      const uint64_t group = word.load(std::memory_order_relaxed);
      if (group != 0) visit(SlotInfo::Unpack(group));
    }
  };
  groups_.clear();
  for (size_t w = 0; w < alive_.size(); ++w) {
    alive_[w] = index_.grouped_[w].load(std::memory_order_relaxed);
    ForEachBit(alive_[w], w, [&](size_t slot) {
      if (slot >= holds.size() || holds[slot].blocks == 0) return;
      for_each_group(slot, [&](const Group& group) {
        if (std::find(groups_.begin(), groups_.end(), group.group) == groups_.end()) {
          groups_.push_back(group.group);
        }
      });
    });
  }
  if (groups_.empty()) return;
  intervals_.clear();
  {
    const EpochDomain::Guard guard(epoch_);
    for (const uint16_t group : groups_) {
      ForEachSegment(ContentKeys::GroupNamespace(name_space, group), keys,
                     [&](const Runs* runs, uint32_t position, uint32_t matched) {
                       CollectIntervals(runs, group, position, matched);
                       return true;
                     });
    }
  }
  std::sort(intervals_.begin(), intervals_.end());
  size_t count = 0;
  for (const Interval& next : intervals_) {  // joins what touches
    Interval* const last = count == 0 ? nullptr : &intervals_[count - 1];
    if (last != nullptr && last->slot == next.slot && last->group == next.group &&
        next.begin <= last->end) {
      last->end = std::max(last->end, next.end);
    } else {
      intervals_[count++] = next;
    }
  }
  intervals_.resize(count);
  for (size_t w = 0; w < alive_.size(); ++w) {
    ForEachBit(alive_[w], w, [&](size_t slot) {
      if (slot >= holds.size()) return;
      uint32_t& usable = holds[slot].reusable;
      for (uint32_t before = usable + 1; usable > 0 && usable < before;) {
        before = usable;
        for_each_group(slot, [&](const Group& group) {
          const Interval low{static_cast<uint32_t>(slot), group.group, 0, 0};
          const auto first = std::lower_bound(intervals_.begin(), intervals_.end(), low);
          auto last = first;
          while (last != intervals_.end() && last->slot == slot && last->group == group.group) {
            ++last;
          }
          usable = Usable(group, {first, last}, usable);
        });
        usable = RoundDown(index_.slot_infos_[slot].engine_block.load(std::memory_order_relaxed),
                           usable);
      }
    });
  }
}

}  // namespace penstock::kvcache
