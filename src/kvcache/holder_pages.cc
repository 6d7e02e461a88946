// What a holder does with blocks that it has: tiers, engine blocks that are not whole index blocks,
// doubt, and what has to go.
#include <algorithm>
#include <bit>
#include <utility>

#include "kvcache/holder.h"

namespace penstock::kvcache {
namespace {

constexpr uint32_t kPageBlocks = HolderBlocks::kPageBlocks;

}  // namespace

// --- tiers

// The index blocks that end in these blocks of the page.
ChainIndex::Range Holder::RangeOf(Page& page, uint32_t begin, uint32_t end) const {
  return {.pin = &page.node,
          .begin = (page.first_token + begin * page.block_tokens) / index_tokens_,
          .end = (page.first_token + end * page.block_tokens) / index_tokens_};
}

void Holder::AddTier(uint32_t block, Tier tier) {
  const auto number = static_cast<uint8_t>(tier);
  const auto bit = static_cast<uint8_t>(1U << number);
  Page& page = blocks_.page(HolderBlocks::PageOf(block));
  const uint32_t i = HolderBlocks::NumberOf(block);
  uint8_t& marks = page.marks[i];
  if ((marks & bit) != 0) {
    ++counters_.stored_again;
    uint8_t& count = blocks_.extra_counts[block][number];
    if (count < UINT8_MAX) ++count;
    marks |= HolderBlocks::kCounted;
    if (page.is_doubtful) {
      index_.Move(slot_.index, number + ChainIndex::kDoubtful, number, RangeOf(page, i, i + 1));
    }
    return;
  }
  if ((marks & HolderBlocks::kTierMask) == 0) ++page.live;
  marks |= bit;
  ++tier_blocks_[number];
  ++counters_.stored;
  if (page.loose != nullptr) {
    ChangeLoose(block, number, Change::kGain);
  } else {
    ChangeRange(RangeOf(page, i, i + 1), number, Change::kGain);
  }
}

void Holder::DropTier(uint32_t block, Tier tier, Drop how) {
  const auto number = static_cast<uint8_t>(tier);
  const uint32_t index = HolderBlocks::PageOf(block);
  Page& page = blocks_.page(index);
  const uint32_t i = HolderBlocks::NumberOf(block);
  if (how == Drop::kOne && (page.marks[i] & HolderBlocks::kCounted) != 0) {
    uint8_t& count = blocks_.extra_counts[block][number];
    if (count > 0) {
      --count;
      return;
    }
  }
  if (page.loose != nullptr) {
    ChangeLoose(block, number, Change::kLose);
  } else {
    ChangeRange(RangeOf(page, i, i + 1), number, Change::kLose);
  }
  page.marks[i] &= static_cast<uint8_t>(~(1U << number));
  --tier_blocks_[number];
  if ((page.marks[i] & HolderBlocks::kTierMask) == 0) {
    --page.live;
    ForgetUnheld(index);
  }
}

// Calls visit(position, path) for index blocks on the way to the node; equal paths, equal blocks.
template <class F>
void Holder::ForEachPath(ChainIndex::Node* node, uint32_t begin, uint32_t end, F&& visit) {
  scratch_path_.clear();
  index_.PathKeys(node, 0, end, &scratch_path_);
  uint64_t path = ChainIndex::NamespaceOf(node);
  for (uint32_t k = 0; k < end; ++k) {
    const auto product =
        static_cast<unsigned __int128>(path ^ scratch_path_[k]) * 0x9e3779b97f4a7c15ULL;
    path = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    if (k >= begin) visit(k, path);
  }
}

// One more of the engine's blocks covers these index blocks in this tier, or one less.
void Holder::ChangeRange(const ChainIndex::Range& range, uint8_t tier, Change change) {
  if (change == Change::kGain) {
    index_.Mark(slot_.index, tier, range, &scratch_parts_);
    return CountOverlaps(*range.pin, tier);
  }
  const auto unmark = [&](const ChainIndex::Range& part) {
    index_.Unmark(slot_.index, tier, part);
    if (had_gap_) index_.Unmark(slot_.index, tier + ChainIndex::kDoubtful, part);
  };
  if (overlaps_.empty()) return unmark(range);
  ForEachPath(*range.pin, range.begin, range.end, [&](uint32_t position, uint64_t path) {
    const auto it = overlaps_.find(path);
    if (it == overlaps_.end() || it->second[tier] == 0) {
      return unmark({.pin = range.pin, .begin = position, .end = position + 1});
    }
    --it->second[tier];
    if (std::all_of(it->second.begin(), it->second.end(), [](uint16_t n) { return n == 0; })) {
      overlaps_.erase(it);
    }
  });
}

// The parts in scratch_parts_, on the way to the node, were held before.
void Holder::CountOverlaps(ChainIndex::Node* node, uint8_t tier) {
  for (const ChainIndex::Part& part : scratch_parts_) {
    ForEachPath(node, part.begin, part.end, [&](uint32_t, uint64_t path) {
      uint16_t& count = overlaps_[path][tier];
      if (count < UINT16_MAX) ++count;
    });
  }
  scratch_parts_.clear();
}

// --- engine blocks that are not made of whole index blocks

uint32_t Holder::FindLive(uint64_t hash, uint16_t group) const {
  return blocks_.Find(hash, group, [&](uint32_t block) {
    const Page& page = blocks_.page(HolderBlocks::PageOf(block));
    return (page.marks[HolderBlocks::NumberOf(block)] & HolderBlocks::kTierMask) != 0;
  });
}

// The block has come into the tier, or is about to leave it: so do the index blocks that it is part
// of, if all their other parts are there.
void Holder::ChangeLoose(uint32_t block, uint8_t tier, Change change) {
  const Page& page = blocks_.page(HolderBlocks::PageOf(block));
  const uint32_t end = page.end_token(HolderBlocks::NumberOf(block));
  const uint32_t last = end / index_tokens_;
  for (uint32_t k = (end - page.block_tokens) / index_tokens_; k < last; ++k) {
    ChangeIndexBlock(block, k, tier, change);
  }
  if (end % index_tokens_ != 0) ChangeFollowing(block, last, tier, change);
}

// REQUIRES: the index block ends in the block.
void Holder::ChangeIndexBlock(uint32_t block, uint32_t index_block, uint8_t tier, Change change) {
  if (!IsWhole(block, index_block, tier)) return;
  Page& page = blocks_.page(HolderBlocks::PageOf(block));
  ChangeRange({.pin = &page.node, .begin = index_block, .end = index_block + 1}, tier, change);
}

// The index block ends in one of the blocks that follow: there may be several.
void Holder::ChangeFollowing(uint32_t block, uint32_t index_block, uint8_t tier, Change change) {
  const uint32_t index = HolderBlocks::PageOf(block);
  const uint32_t i = HolderBlocks::NumberOf(block);
  const Page& page = blocks_.page(index);
  const auto check = [&](uint32_t next) {
    const Page& there = blocks_.page(HolderBlocks::PageOf(next));
    if (there.end_token(HolderBlocks::NumberOf(next)) / index_tokens_ > index_block) {
      ChangeIndexBlock(next, index_block, tier, change);
    } else {
      ChangeFollowing(next, index_block, tier, change);
    }
  };
  if (i + 1 < page.used) check(block + 1);
  const auto [first, last] = blocks_.followers.equal_range(page.hashes[i]);
  for (auto it = first; it != last; ++it) {
    const Page& next = blocks_.page(it->second);
    if (next.used > 0 && next.group == page.group && next.first_token == page.end_token(i) &&
        NamespaceOf(next) == NamespaceOf(page)) {
      check(it->second * kPageBlocks);
    }
  }
}

// Whether the blocks that an index block lies in, up to this one, are all in the tier.
bool Holder::IsWhole(uint32_t block, uint32_t index_block, uint8_t tier) const {
  for (;;) {
    const Page& page = blocks_.page(HolderBlocks::PageOf(block));
    const uint32_t i = HolderBlocks::NumberOf(block);
    if ((page.marks[i] >> tier & 1) == 0) return false;
    const uint32_t start = page.end_token(i) - page.block_tokens;
    if (start <= index_block * index_tokens_) return true;
    if (i > 0) {
      --block;
      continue;
    }
    if (!page.has_parent) return false;
    block = blocks_.Find(page.parent_hash, page.group, [&](uint32_t candidate) {
      const Page& before = blocks_.page(HolderBlocks::PageOf(candidate));
      return before.end_token(HolderBlocks::NumberOf(candidate)) == start &&
             NamespaceOf(before) == NamespaceOf(page);
    });
    if (block == kNone) return false;
  }
}

// --- forgetting

// Takes what no tier holds out of the table. Loose pages keep it until they go: index blocks reach
// over it.
void Holder::ForgetUnheld(uint32_t index) {
  Page& page = blocks_.page(index);
  if (page.live == 0) return FreePage(index);
  if (page.loose != nullptr) return;
  for (uint32_t i = 0; i < page.used; ++i) {
    const bool is_held = (page.marks[i] & HolderBlocks::kTierMask) != 0;
    if (!is_held && page.marks[i] != 0) blocks_.Erase(index * kPageBlocks + i);
  }
  while (page.marks[page.used - 1] == 0) --page.used;
}

void Holder::FreePage(uint32_t index) {
  Page& page = blocks_.page(index);
  if (page.loose != nullptr) {
    const auto [first, last] = blocks_.followers.equal_range(page.parent_hash);
    for (auto it = first; it != last; ++it) {
      if (it->second != index) continue;
      blocks_.followers.erase(it);
      break;
    }
    blocks_.ChargeLoose(-static_cast<int64_t>(sizeof(HolderBlocks::Loose) + 64 +
                                              page.loose->tokens.capacity() * sizeof(uint32_t) +
                                              page.loose->extras.capacity() * sizeof(uint64_t)));
  }
  SetDoubtful(page, false);
  if (page.node != nullptr) index_.Unpin(page.node);
  blocks_.FreePage(index);
}

// Drops all that the page holds in one tier. Returns the number of blocks. The page may be gone.
size_t Holder::DropPageTier(uint32_t index, uint8_t tier) {
  Page& page = blocks_.page(index);
  const auto bit = static_cast<uint8_t>(1U << tier);
  size_t dropped = 0;
  for (uint32_t i = 0; i < page.used;) {
    uint32_t end = i;
    for (; end < page.used && (page.marks[end] & bit) != 0; ++end) {
      if (page.loose != nullptr) ChangeLoose(index * kPageBlocks + end, tier, Change::kLose);
      page.marks[end] &= static_cast<uint8_t>(~bit);
      if ((page.marks[end] & HolderBlocks::kTierMask) == 0) --page.live;
    }
    if (page.loose == nullptr && i < end) ChangeRange(RangeOf(page, i, end), tier, Change::kLose);
    dropped += end - i;
    i = end + 1;
  }
  tier_blocks_[tier] -= dropped;
  if (dropped > 0) ForgetUnheld(index);
  return dropped;
}

// Returns the number of blocks that are no more. REQUIRES: the page is used.
size_t Holder::DropPage(uint32_t index) {
  const size_t live = blocks_.page(index).live;
  for (uint8_t tier = 0; tier < kTiers && blocks_.has_page(index); ++tier) {
    DropPageTier(index, tier);
  }
  return live;
}

void Holder::SetCapacity(uint32_t engine_blocks) {
  capacity_ = engine_blocks;
  // Room for what the table will hold: a size that is just right saves a fifth of it.
  blocks_.Reserve(std::min<uint32_t>(engine_blocks, 1U << 20));
  EnforceCapacity();
  ChargeBytes();
}

// An engine cannot hold more than it has: what is above was removed without our knowing.
void Holder::EnforceCapacity() {
  constexpr auto kGpu = static_cast<size_t>(Tier::kGpu);
  const uint64_t most = capacity_ + uint64_t{capacity_} * options_.capacity_slack_permille / 1000;
  if (capacity_ == 0 || tier_blocks_[kGpu] <= most) return;
  for (uint32_t page = blocks_.oldest_page(); page != kNone && tier_blocks_[kGpu] > capacity_;) {
    const uint32_t newer = blocks_.page(page).newer;
    counters_.missed_removals += DropPageTier(page, kGpu);
    page = newer;
  }
}

// Who has at least an average share of a budget that is used up drops its oldest blocks; beyond an
// eighth more everybody who grows does. Returns the number of blocks.
size_t Holder::EnforceBudget(size_t max_blocks) {
  size_t dropped = 0;
  while (dropped < max_blocks && blocks_.oldest_page() != kNone) {
    const uint64_t used = index_.bytes() - index_.garbage_bytes();
    const uint64_t most = index_.max_bytes();
    if (used <= most) break;
    const bool is_large = bytes() * index_.slots() >= index_.charged();
    if (!is_large && used <= most + most / 8) break;
    dropped += DropPage(blocks_.oldest_page());
    ChargeBytes();
  }
  counters_.over_budget += dropped;
  return dropped;
}

void Holder::ChargeBytes() {
  const auto now = static_cast<int64_t>(bytes());
  if (now == charged_bytes_) return;
  index_.Charge(now - charged_bytes_);
  charged_bytes_ = now;
}

// --- age and doubt

// The block, and so all before it, is known to be there now.
void Holder::Touch(uint32_t block, uint32_t stamp) {
  while (block != kNone) {
    const uint32_t index = HolderBlocks::PageOf(block);
    Page& page = blocks_.page(index);
    const uint32_t i = HolderBlocks::NumberOf(block);
    if (page.stamp == stamp && !page.is_doubtful) return;
    page.stamp = stamp;
    blocks_.MoveToFront(index);
    if (page.is_doubtful) {
      for (uint8_t tier = 0; tier < kTiers; ++tier) {
        index_.Move(slot_.index, tier + ChainIndex::kDoubtful, tier, RangeOf(page, 0, i + 1));
      }
      if (i + 1 == page.used) SetDoubtful(page, false);
    }
    block = BlockBefore(page);
  }
}

uint32_t Holder::BlockBefore(const Page& page) const {
  if (!page.has_parent) return kNone;
  return blocks_.Find(page.parent_hash, page.group, [&](uint32_t candidate) {
    const Page& before = blocks_.page(HolderBlocks::PageOf(candidate));
    return before.end_token(HolderBlocks::NumberOf(candidate)) == page.first_token &&
           NamespaceOf(before) == NamespaceOf(page);
  });
}

void Holder::SetDoubtful(Page& page, bool is_doubtful) {
  if (page.is_doubtful == is_doubtful) return;
  page.is_doubtful = is_doubtful;
  doubtful_pages_ += is_doubtful ? 1 : uint64_t{0} - 1;
}

void Holder::MarkGap(Time now) {
  if (doubtful_pages_ == 0) {
    doubtful_since_ = now;
    sweep_ = 0;
  }
  had_gap_ = true;
  for (uint32_t index = 0; index < blocks_.page_limit(); ++index) {
    if (!blocks_.has_page(index)) continue;
    Page& page = blocks_.page(index);
    if (page.node != nullptr) {
      for (uint8_t tier = 0; tier < kTiers; ++tier) {
        index_.Move(slot_.index, tier, tier + ChainIndex::kDoubtful, RangeOf(page, 0, page.used));
      }
    }
    SetDoubtful(page, true);
  }
}

void Holder::Confirm(uint64_t name_space, std::span<const uint64_t> keys) {
  if (doubtful_pages_ > 0) index_.Confirm(slot_.index, name_space, keys);
}

// Drops what is still doubtful of a page; what is not, was confirmed. Returns the blocks.
size_t Holder::AgeOut(uint32_t index) {
  Page& page = blocks_.page(index);
  size_t dropped = 0;
  for (uint8_t tier = 0; tier < kTiers && blocks_.has_page(index); ++tier) {
    for (uint32_t i = 0; blocks_.has_page(index) && i < page.used; ++i) {
      if ((page.marks[i] >> tier & 1) == 0) continue;
      const auto range = RangeOf(page, i, i + 1);
      const bool is_doubtful = page.node != nullptr &&
                               index_.Count(slot_.index, tier + ChainIndex::kDoubtful, range) > 0;
      if (!is_doubtful) continue;
      ++dropped;
      DropTier(index * kPageBlocks + i, static_cast<Tier>(tier), Drop::kAll);
    }
  }
  if (blocks_.has_page(index)) SetDoubtful(page, false);
  counters_.aged_out += dropped;
  return dropped;
}

bool Holder::Tend(Time now, size_t max_blocks) {
  if (has_left_) return false;
  size_t done = EnforceBudget(max_blocks);
  if (doubtful_pages_ > 0 && now - doubtful_since_ >= options_.doubt_lifetime) {
    for (; done < max_blocks && doubtful_pages_ > 0; ++sweep_) {
      if (sweep_ >= blocks_.page_limit()) sweep_ = 0;
      done += 1;
      if (blocks_.has_page(sweep_) && blocks_.page(sweep_).is_doubtful) done += AgeOut(sweep_);
    }
  }
  ChargeBytes();
  return done >= max_blocks;
}

}  // namespace penstock::kvcache
