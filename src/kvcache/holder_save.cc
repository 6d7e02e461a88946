// A holder's blocks as bytes, and back. Pages stand behind the page that they follow, with the keys
// of their own blocks; one whose way from the root nobody holds any more has the keys of all of it.
#include <algorithm>
#include <utility>

#include "kvcache/byte_stream.h"
#include "kvcache/holder.h"

namespace penstock::kvcache {
namespace {

constexpr uint32_t kPageBlocks = HolderBlocks::kPageBlocks;
constexpr uint64_t kMaxTokens = uint64_t{1} << 31;
constexpr uint32_t kMaxBlockTokens = 1U << 20;
constexpr size_t kMaxRoles = ChainIndex::kMaxGroups + 1;
// What engines make of one hash is one block, or a few where it is ambiguous. More would only make
// looking for it slow.
constexpr size_t kMaxSameHash = 1024;
constexpr size_t kMaxSameParent = 1024;

constexpr uint8_t kSavedMarks =
    HolderBlocks::kTierMask | HolderBlocks::kCounted | HolderBlocks::kAmbiguous;

// Of a page.
constexpr uint8_t kFollowsPage = 1;  // its parent is a block of a page before
constexpr uint8_t kHasParent = 2;    // it has one, which is not held any more
constexpr uint8_t kIsDoubtful = 4;
constexpr uint8_t kMarksAreOne = 8;  // all blocks have the same marks

}  // namespace

struct Holder::Saver {
  Saver(const Holder& from, std::string* bytes)
      : holder(from), out(bytes), places(from.blocks_.page_limit(), kNone) {}

  void Save(Time now) {
    const ChainIndex::EngineBlock block = holder.index_.engine_block(holder.slot_.index);
    out.Varint(block.tokens);
    out.Byte(block.is_irregular ? 1 : 0);
    out.Varint(holder.roles_.size());
    for (const Role& role : holder.roles_) {
      out.Varint(role.group);
      out.Byte(static_cast<uint8_t>(role.kind));
      out.Varint(role.window_blocks);
    }
    out.Varint(holder.main_group_ ? *holder.main_group_ + uint64_t{1} : 0);
    const bool has_doubt = holder.doubtful_pages_ > 0;
    const auto doubt = has_doubt ? ToNanos(now) - ToNanos(holder.doubtful_since_) : 0;
    out.Varint(static_cast<uint64_t>(std::max<int64_t>(0, doubt)) / 1'000'000'000);
    std::vector<uint32_t> pages;
    for (uint32_t page = holder.blocks_.oldest_page(); page != kNone;
         page = holder.blocks_.page(page).newer) {
      pages.push_back(page);
    }
    out.Varint(holder.blocks_.blocks());
    out.Varint(pages.size());
    std::vector<uint32_t> ranks(places.size());
    for (uint32_t rank = 0; rank < pages.size(); ++rank) ranks[pages[rank]] = rank;
    std::vector<uint32_t> way;
    for (const uint32_t page : pages) {
      // First those that it follows.
      way.clear();
      for (uint32_t at = page; at != kNone && places[at] == kNone;) {
        way.push_back(at);
        const uint32_t before = holder.BlockBefore(holder.blocks_.page(at));
        at = before == kNone ? kNone : HolderBlocks::PageOf(before);
      }
      for (; !way.empty(); way.pop_back()) {
        SavePage(way.back(), ranks[way.back()]);
        places[way.back()] = saved++;
      }
    }
  }

  void SavePage(uint32_t index, uint32_t rank) {
    const Page& page = holder.blocks_.page(index);
    const uint32_t before = holder.BlockBefore(page);
    marks.assign(page.marks.begin(), page.marks.begin() + page.used);
    for (uint8_t& mark : marks) mark &= kSavedMarks;
    const bool marks_are_one =
        std::all_of(marks.begin(), marks.end(), [&](uint8_t mark) { return mark == marks[0]; });
    uint8_t flags = page.is_doubtful ? kIsDoubtful : 0;
    if (marks_are_one) flags |= kMarksAreOne;
    if (before != kNone) flags |= kFollowsPage;
    if (before == kNone && page.has_parent) flags |= kHasParent;
    out.Byte(flags);
    uint32_t keys_from = page.first_token / holder.index_tokens_;
    if (before != kNone) {
      out.Varint(saved - places[HolderBlocks::PageOf(before)]);
      out.Byte(static_cast<uint8_t>(HolderBlocks::NumberOf(before)));
    } else {
      keys_from = 0;
      out.Word(holder.NamespaceOf(page));
      out.Varint(page.group);
      if (page.has_parent) {
        out.Word(page.parent_hash);
        out.Varint(page.first_token);
      }
    }
    out.Varint(page.block_tokens);
    out.Varint(rank);
    out.Byte(page.used);
    if (marks_are_one) marks.resize(1);
    out.Words(std::span<const uint8_t>(marks));
    for (uint32_t i = 0; i < page.used; ++i) {
      if ((page.marks[i] & HolderBlocks::kCounted) == 0) continue;
      out.Words(std::span<const uint8_t>(holder.blocks_.extra_counts.at(index * kPageBlocks + i)));
    }
    out.Words(std::span(page.hashes).first(page.used));
    keys.clear();
    const uint32_t keys_to = page.end_token(page.used - 1) / holder.index_tokens_;
    if (page.node != nullptr) holder.index_.PathKeys(page.node, keys_from, keys_to, &keys);
    out.Words(std::span<const uint64_t>(keys));
    if (page.loose == nullptr) return;
    out.Words(std::span<const uint32_t>(page.loose->tokens));
    out.Word(page.loose->extras_before);
    out.Words(std::span<const uint64_t>(page.loose->extras));
  }

  const Holder& holder;
  ByteWriter out;
  std::vector<uint32_t> places;  // by page: how many were saved before it
  uint32_t saved = 0;
  std::vector<uint8_t> marks;
  std::vector<uint64_t> keys;
};

void Holder::Save(Time now, std::string* out) const { Saver(*this, out).Save(now); }

struct Holder::Restorer {
  Restorer(Holder& to, std::string_view bytes) : holder(to), in(bytes) {}

  // What is wrong, or "".
  std::string_view Restore(Time now) {
    if (const std::string_view wrong = RestoreHead(now); !wrong.empty()) return wrong;
    const uint64_t blocks = in.Varint(in.left() / sizeof(uint64_t));
    const uint64_t pages = in.Varint(blocks);
    if (!in.ok()) return "it has more blocks than bytes";
    holder.blocks_.Reserve(blocks);
    for (uint64_t i = 0; i < pages; ++i) {
      if (i % 64 == 0) holder.ChargeBytes();
      if (IsTooMuch()) {
        holder.counters_.over_budget +=
            blocks - std::min<uint64_t>(blocks, holder.blocks_.blocks());
        break;
      }
      if (const std::string_view wrong = RestorePage(); !wrong.empty()) return wrong;
      if (!in.ok()) return "it breaks off";
    }
    std::sort(ranks.begin(), ranks.end());
    for (const auto& [rank, page] : ranks) holder.blocks_.MoveToFront(page);
    if (places.size() == pages && in.left() > 0) return "there is more behind its end";
    return "";
  }

 private:
  bool IsTooMuch() const {
    const uint64_t most = holder.index_.max_bytes();
    return holder.index_.bytes() > most + most / 8;
  }

  std::string_view RestoreHead(Time now) {
    ChainIndex::EngineBlock block;
    block.tokens = static_cast<uint32_t>(in.Varint(kMaxBlockTokens));
    block.is_irregular = in.Byte() != 0;
    const uint64_t roles = in.Varint(kMaxRoles);
    for (uint64_t i = 0; i < roles; ++i) {
      const auto group = static_cast<uint16_t>(in.Varint(UINT16_MAX));
      const auto kind = static_cast<CacheKind>(in.Byte());
      const auto window = static_cast<uint32_t>(in.Varint(kMaxTokens));
      const bool is_kind =
          kind == CacheKind::kFull || kind == CacheKind::kWindow || kind == CacheKind::kCheckpoint;
      if (!is_kind || HasRole(group)) return "a group of layers is told wrongly";
      holder.roles_.push_back({.group = group, .kind = kind, .window_blocks = window});
    }
    const uint64_t main = in.Varint(UINT16_MAX + 1);
    if (main != 0) holder.main_group_ = static_cast<uint16_t>(main - 1);
    if (main != 0 && !HasRole(*holder.main_group_)) return "its main group of layers is unknown";
    for (const Role& role : holder.roles_) {
      if (holder.main_group_ == role.group) continue;
      holder.index_.AddGroup(
          holder.slot_.index,
          {.group = role.group, .kind = role.kind, .window_blocks = role.window_blocks});
    }
    holder.index_.RestoreEngineBlock(holder.slot_.index, block);
    const auto doubt_s = static_cast<int64_t>(in.Varint(1U << 30));
    holder.doubtful_since_ = now - seconds(doubt_s);
    return in.ok() ? "" : "its head breaks off";
  }

  bool HasRole(uint16_t group) const {
    return std::any_of(holder.roles_.begin(), holder.roles_.end(),
                       [&](const Role& role) { return role.group == group; });
  }

  // What stands before a page.
  struct Before {
    ChainIndex::Node* node = nullptr;
    uint64_t name_space = 0;
    uint64_t hash = 0;
    uint64_t first_token = 0;
    uint16_t group = 0;
    bool has_parent = false;
    bool is_held = false;
  };
  std::string_view ReadBefore(uint8_t flags, Before* before) {
    if ((flags & kFollowsPage) != 0) {
      const uint64_t back = in.Varint(places.size());
      const uint8_t number = in.Byte();
      if (back == 0) return "a page follows one that is not there";
      const Page& parent = holder.blocks_.page(places[places.size() - back]);
      if (number >= parent.used) return "a page follows a block that is not there";
      *before = {.node = parent.node,
                 .name_space = holder.NamespaceOf(parent),
                 .hash = parent.hashes[number],
                 .first_token = parent.end_token(number),
                 .group = parent.group,
                 .has_parent = true,
                 .is_held = true};
      return "";
    }
    before->name_space = in.Word<uint64_t>();
    before->group = static_cast<uint16_t>(in.Varint(UINT16_MAX));
    if (!HasRole(before->group)) return "a page is of an unknown group of layers";
    before->has_parent = (flags & kHasParent) != 0;
    if (!before->has_parent) return "";
    before->hash = in.Word<uint64_t>();
    before->first_token = in.Varint(kMaxTokens);
    return before->first_token > 0 ? "" : "a page has a parent at the root";
  }

  std::string_view RestorePage() {
    const uint8_t flags = in.Byte();
    Before before;
    if (const std::string_view wrong = ReadBefore(flags, &before); !wrong.empty()) return wrong;
    const auto block_tokens = static_cast<uint32_t>(in.Varint(kMaxBlockTokens));
    const uint64_t rank = in.Varint();
    const uint8_t used = in.Byte();
    const uint64_t end = before.first_token + uint64_t{block_tokens} * used;
    if (block_tokens == 0 || used == 0 || used > kPageBlocks || end > kMaxTokens) {
      return "a page has no size that may be";
    }
    const uint32_t unit = holder.index_tokens_;
    const bool is_loose = before.first_token % unit != 0 || block_tokens % unit != 0;
    marks.resize(used);
    if ((flags & kMarksAreOne) != 0) {
      std::fill(marks.begin(), marks.end(), in.Byte());
    } else {
      for (uint8_t& mark : marks) mark = in.Byte();
    }
    if (!AreMarks(is_loose)) return "a block is marked as none can be";
    counts.clear();
    for (const uint8_t mark : marks) {
      if ((mark & HolderBlocks::kCounted) != 0) in.Words(kTiers, &counts);
    }
    hashes.clear();
    in.Words(used, &hashes);
    const auto keys_from = static_cast<uint32_t>(before.first_token / unit);
    keys.clear();
    in.Words(end / unit - (before.is_held ? keys_from : 0), &keys);
    std::unique_ptr<HolderBlocks::Loose> loose;
    if (is_loose) {
      loose = std::make_unique<HolderBlocks::Loose>();
      loose->name_space = before.name_space;
      in.Words(before.first_token % unit + size_t{used} * block_tokens, &loose->tokens);
      loose->extras_before = in.Word<uint64_t>();
      in.Words(used, &loose->extras);
    }
    if (!in.ok()) return "a page breaks off";
    if (HasTooMany(before, is_loose)) return "too many blocks have one hash or one parent";
    const uint32_t index = holder.blocks_.AddPage();
    if (index == kNone) return "it has more pages than there may be";
    places.push_back(index);
    ranks.emplace_back(rank, index);
    Page& page = holder.blocks_.page(index);
    page.parent_hash = before.hash;
    page.has_parent = before.has_parent;
    page.first_token = static_cast<uint32_t>(before.first_token);
    page.block_tokens = block_tokens;
    page.group = before.group;
    page.loose = std::move(loose);
    if (is_loose) {
      ChargeLoose(page);
      if (page.has_parent) holder.blocks_.followers.emplace(page.parent_hash, index);
    }
    AddBlocks(index, PutIntoChain(before, is_loose, page));
    if ((flags & kIsDoubtful) != 0) MarkDoubtful(page);
    return "";
  }

  // At least one block is held; the others are, or stand between, or are part of a loose page.
  bool AreMarks(bool is_loose) const {
    bool is_held = false;
    for (const uint8_t mark : marks) {
      if ((mark & ~kSavedMarks) != 0) return false;
      const bool has_tier = (mark & HolderBlocks::kTierMask) != 0;
      if (!has_tier && !is_loose && mark != 0) return false;
      is_held |= has_tier;
    }
    return is_held && (is_loose || marks.back() != 0);
  }

  bool HasTooMany(const Before& before, bool is_loose) const {
    if (is_loose && before.has_parent &&
        holder.blocks_.followers.count(before.hash) >= kMaxSameParent) {
      return true;
    }
    return std::any_of(hashes.begin(), hashes.end(), [&](uint64_t hash) {
      size_t same = 0;
      holder.blocks_.Find(hash, before.group, [&](uint32_t) { return ++same >= kMaxSameHash; });
      return same >= kMaxSameHash;
    });
  }

  void ChargeLoose(const Page& page) {
    holder.blocks_.ChargeLoose(static_cast<int64_t>(
        sizeof(HolderBlocks::Loose) + 64 + page.loose->tokens.capacity() * sizeof(uint32_t) +
        page.loose->extras.capacity() * sizeof(uint64_t)));
  }

  // Puts the keys behind what stands before. True when that also says that all blocks are held:
  // where all of them are in one tier.
  bool PutIntoChain(const Before& before, bool is_loose, Page& page) {
    if (keys.empty()) {
      if (before.node != nullptr) holder.index_.Pin(before.node);
      page.node = before.node;
      return false;
    }
    const auto tiers = static_cast<uint8_t>(marks[0] & HolderBlocks::kTierMask);
    const bool is_one_tier = !is_loose && std::has_single_bit(tiers) &&
                             std::all_of(marks.begin(), marks.end(), [&](uint8_t mark) {
                               return (mark & HolderBlocks::kTierMask) == tiers;
                             });
    const uint32_t position = before.is_held ? page.first_token / holder.index_tokens_ : 0;
    const uint32_t held_from = page.first_token / holder.index_tokens_;
    const auto tier = static_cast<uint8_t>(is_one_tier ? std::countr_zero(tiers) : 0);
    page.node = holder.index_.Store({.slot = holder.slot_.index,
                                     .level = tier,
                                     .name_space = before.name_space,
                                     .after = position == 0 ? nullptr : before.node,
                                     .position = position,
                                     .keys = keys,
                                     .held_from = is_one_tier ? held_from : ~uint32_t{0},
                                     .pinned_past = is_loose || position != held_from,
                                     .overlaps = &holder.scratch_parts_});
    holder.CountOverlaps(page.node, tier);
    return is_one_tier;
  }

  void AddBlocks(uint32_t index, bool is_held_at_once) {
    Page& page = holder.blocks_.page(index);
    auto count = counts.begin();
    for (uint32_t i = 0; i < marks.size(); ++i) {
      const uint8_t tiers = marks[i] & HolderBlocks::kTierMask;
      const uint32_t block = index * kPageBlocks + i;
      page.hashes[i] = hashes[i];
      page.marks[i] = static_cast<uint8_t>(marks[i] & ~HolderBlocks::kTierMask);
      page.used = static_cast<uint8_t>(i + 1);
      if (tiers == 0 && page.loose == nullptr) continue;
      if ((marks[i] & HolderBlocks::kCounted) != 0) {
        std::copy_n(count, kTiers, holder.blocks_.extra_counts[block].begin());
        count += kTiers;
      }
      holder.blocks_.Insert(block);
      if (tiers != 0) ++page.live;
      for (uint8_t tier = 0; tier < kTiers; ++tier) {
        if ((tiers >> tier & 1) == 0) continue;
        page.marks[i] |= static_cast<uint8_t>(1U << tier);
        ++holder.tier_blocks_[tier];
        if (page.loose != nullptr) holder.ChangeLoose(block, tier, Change::kGain);
      }
    }
    if (page.loose != nullptr || is_held_at_once) return;
    for (uint8_t tier = 0; tier < kTiers; ++tier) {
      for (uint32_t i = 0; i < page.used;) {
        uint32_t end = i;
        while (end < page.used && (page.marks[end] >> tier & 1) != 0) ++end;
        if (i < end) holder.ChangeRange(holder.RangeOf(page, i, end), tier, Change::kGain);
        i = end + 1;
      }
    }
  }

  void MarkDoubtful(Page& page) {
    holder.had_gap_ = true;
    if (page.node != nullptr) {
      for (uint8_t tier = 0; tier < kTiers; ++tier) {
        holder.index_.Move(holder.slot_.index, tier, tier + ChainIndex::kDoubtful,
                           holder.RangeOf(page, 0, page.used));
      }
    }
    holder.SetDoubtful(page, true);
  }

  Holder& holder;
  ByteReader in;
  std::vector<uint32_t> places;                      // pages in the order of the bytes
  std::vector<std::pair<uint64_t, uint32_t>> ranks;  // the oldest page first
  std::vector<uint8_t> marks;
  std::vector<uint8_t> counts;  // of those that are counted
  std::vector<uint64_t> hashes;
  std::vector<uint64_t> keys;
};

Result<> Holder::Restore(std::string_view saved, Time now) {
  const std::string wrong(Restorer(*this, saved).Restore(now));
  if (!wrong.empty()) {
    Forget();
    return Fail(Code::kInvalidArgument, wrong);
  }
  EnforceCapacity();
  ChargeBytes();
  if (index_.over_budget()) EnforceBudget(~size_t{0});
  return {};
}

// All that Restore put in place.
void Holder::Forget() {
  while (blocks_.oldest_page() != kNone) {
    const uint32_t page = blocks_.oldest_page();
    if (DropPage(page) == 0 && blocks_.has_page(page)) FreePage(page);
  }
  overlaps_.clear();
  had_gap_ = false;
  roles_.clear();
  main_group_.reset();
  index_.RestoreEngineBlock(slot_.index, {});
  index_.ForgetGroups(slot_.index);
  ChargeBytes();
}

}  // namespace penstock::kvcache
