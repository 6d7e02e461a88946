#include "kvcache/holder.h"

#include <algorithm>
#include <utility>

namespace penstock::kvcache {
namespace {

constexpr size_t kMaxBlocksPerEvent = 65536;
constexpr uint32_t kMaxBlockTokens = 1U << 20;
constexpr uint64_t kMaxTokens = uint64_t{1} << 31;  // in one chain
constexpr size_t kPrefetch = 8;

uint32_t StampOf(Time now) { return static_cast<uint32_t>(ToNanos(now) / 1'000'000'000) + 1; }

}  // namespace

Holder::Holder(ChainIndex& index, const ContentKeys& keys, ChainIndex::Slot slot, Options options)
    : index_(index),
      keys_(keys),
      slot_(slot),
      options_(std::move(options)),
      index_tokens_(index.block_tokens()),
      // Known to nobody outside, so that nobody can fill one place of the table.
      blocks_(keys.Namespace("reverse map", "")) {
  last_namespace_ = keys_.Namespace(options_.model, "");
}

Holder::~Holder() {
  while (!Leave(~size_t{0})) {
  }
}

Holder::Outcome Holder::Apply(const KvEvent& event, Time now) {
  if (has_left_) return Outcome::kSkipped;
  if (event.type == KvEvent::Type::kCleared) {
    Clear();
    return Outcome::kApplied;
  }
  if (event.remote) {
    ++counters_.events_remote;
    return Outcome::kSkipped;
  }
  return event.type == KvEvent::Type::kStored ? Stored(event, now) : Removed(event);
}

// --- stores

Holder::Outcome Holder::Stored(const KvEvent& event, Time now) {
  if (!IsWellFormed(event)) {
    ++counters_.events_malformed;
    return Outcome::kRefused;
  }
  const Role* const role = RoleOf(event);
  if (role == nullptr) {
    ++counters_.events_other_kind;
    return Outcome::kSkipped;
  }
  const uint32_t stamp = StampOf(now);
  if (event.tokens.empty()) return StoredAgain(event, role->group, stamp);
  if (RefersToItself(event)) {
    ++counters_.events_self_referencing;
    return Outcome::kRefused;
  }
  const Outcome outcome = StoredWithTokens(event, role->group, main_group_ == role->group, stamp);
  if (outcome == Outcome::kApplied && !orphans_.empty()) Attach(event.hashes, now);
  EnforceCapacity();
  ChargeBytes();
  if (index_.over_budget()) EnforceBudget(~size_t{0});
  return outcome;
}

bool Holder::IsWellFormed(const KvEvent& event) {
  const size_t blocks = event.hashes.size();
  if (blocks == 0 || blocks > kMaxBlocksPerEvent) return false;
  if (event.tokens.empty()) return true;
  return event.block_size > 0 && event.block_size <= kMaxBlockTokens &&
         event.tokens.size() == blocks * event.block_size &&
         (event.extras.empty() || event.extras.size() == blocks);
}

// Whether a block follows itself, or one stands twice in the event.
bool Holder::RefersToItself(const KvEvent& event) {
  if (event.hashes.size() == 1) return event.parent == event.hashes[0];
  // A set of hashes, forgotten by counting rounds: 3 ns a hash.
  const size_t wanted = std::bit_ceil((event.hashes.size() + 1) * 2) * 2;
  if (scratch_set_.size() < wanted) {
    scratch_set_.assign(wanted, 0);
    set_round_ = 0;
  }
  const size_t mask = scratch_set_.size() / 2 - 1;
  ++set_round_;
  const auto add = [&](uint64_t hash) {
    for (size_t i = (hash * 0x9e3779b97f4a7c15ULL) >> 32 & mask;; i = (i + 1) & mask) {
      if (scratch_set_[2 * i] != set_round_) {
        scratch_set_[2 * i] = set_round_;
        scratch_set_[2 * i + 1] = hash;
        return true;
      }
      if (scratch_set_[2 * i + 1] == hash) return false;
    }
  };
  if (event.parent) add(*event.parent);
  return !std::all_of(event.hashes.begin(), event.hashes.end(), add);
}

// Null for groups whose blocks say nothing about a prefix.
const Holder::Role* Holder::RoleOf(const KvEvent& event) {
  const uint16_t group = event.has_group ? event.group : 0;
  for (const Role& role : roles_) {
    if (role.group == group) return &role;
  }
  // Engines that tell groups without kinds have one group of the usual kind, number 0.
  const CacheKind kind =
      event.kind == CacheKind::kUnknown && group == 0 ? CacheKind::kFull : event.kind;
  if (event.type != KvEvent::Type::kStored || kind == CacheKind::kUnknown ||
      kind == CacheKind::kOther) {
    return nullptr;
  }
  const uint32_t before = event.window_tokens == 0 ? 0 : event.window_tokens - 1;
  const Role role{
      .group = group, .kind = kind, .window_blocks = (before + index_tokens_ - 1) / index_tokens_};
  if (kind == CacheKind::kFull && !main_group_) {
    main_group_ = group;
  } else if (!index_.AddGroup(
                 slot_.index,
                 {.group = group, .kind = kind, .window_blocks = role.window_blocks})) {
    return nullptr;
  }
  return &roles_.emplace_back(role);
}

uint64_t Holder::NamespaceOf(const KvEvent& event) {
  if (event.adapter != last_adapter_ || event.salt != last_salt_) {
    last_adapter_ = event.adapter;
    last_salt_ = event.salt;
    last_namespace_ =
        keys_.Namespace(event.adapter.empty() ? options_.model : event.adapter, event.salt);
  }
  return last_namespace_;
}

uint64_t Holder::NamespaceOf(const Page& page) const {
  return page.loose != nullptr ? page.loose->name_space : ChainIndex::NamespaceOf(page.node);
}

Holder::Outcome Holder::StoredWithTokens(const KvEvent& event, uint16_t group, bool is_main,
                                         uint32_t stamp) {
  const Batch batch{.event = event,
                    .group = group,
                    .is_main = is_main,
                    .block_tokens = event.block_size,
                    .stamp = stamp};
  const uint64_t base = NamespaceOf(event);
  Cursor cursor;
  cursor.name_space = is_main ? base : ContentKeys::GroupNamespace(base, group);
  if (event.parent) {
    switch (FindParent(batch, cursor.name_space, &cursor)) {
      case Found::kUnknown:
        if (*event.parent == 0) break;  // what some engines say for the root
        Park(event);
        return Outcome::kParked;
      case Found::kMisplaced:
        ++counters_.events_misplaced;
        return Outcome::kRefused;
      case Found::kAmbiguous:
        counters_.ambiguous += event.hashes.size();
        return Outcome::kRefused;
      case Found::kYes:
        break;
    }
  }
  if ((event.token_offset && *event.token_offset != cursor.tokens) ||
      cursor.tokens + event.tokens.size() > kMaxTokens) {
    ++counters_.events_misplaced;
    return Outcome::kRefused;
  }
  index_.SetEngineBlock(slot_.index, event.block_size);
  if (cursor.block != kNone) Touch(cursor.block, stamp);
  Place(batch, cursor);
  if (cursor.block != kNone) Touch(cursor.block, stamp);
  return Outcome::kApplied;
}

Holder::Found Holder::FindParent(const Batch& batch, uint64_t name_space, Cursor* cursor) {
  const uint64_t hash = *batch.event.parent;
  uint32_t found = kNone;
  uint32_t fitting = kNone;  // in the namespace that the event tells
  size_t count = 0;
  size_t fits = 0;
  blocks_.Find(hash, batch.group, [&](uint32_t block) {
    if ((blocks_.marks(block) & HolderBlocks::kTierMask) == 0) return false;
    found = block;
    ++count;
    if (NamespaceOf(blocks_.page(HolderBlocks::PageOf(block))) == name_space) {
      fitting = block;
      ++fits;
    }
    return false;
  });
  if (count > 1 && fits != 1) return Found::kAmbiguous;
  if (count > 1) found = fitting;
  if (found != kNone) {
    // A salt that is told is the block's; none may mean the parent's.
    if (fits == 0 && !batch.event.salt.empty()) return Found::kMisplaced;
    *cursor = CursorAt(found);
    return Found::kYes;
  }
  if (batch.is_main || !main_group_) return Found::kUnknown;
  // Groups that keep only some blocks follow blocks of the main group: the way to them is copied.
  const uint32_t main = FindLive(hash, *main_group_);
  if (main == kNone) return Found::kUnknown;
  const Page& page = blocks_.page(HolderBlocks::PageOf(main));
  const uint32_t end = page.end_token(HolderBlocks::NumberOf(main));
  if (end % index_tokens_ != 0 || batch.block_tokens % index_tokens_ != 0) return Found::kUnknown;
  cursor->tokens = end;
  cursor->name_space = ContentKeys::GroupNamespace(NamespaceOf(page), batch.group);
  cursor->hash = hash;
  cursor->has_block = true;
  index_.PathKeys(page.node, 0, end / index_tokens_, &cursor->path_keys);
  return Found::kYes;
}

Holder::Cursor Holder::CursorAt(uint32_t block) const {
  const Page& page = blocks_.page(HolderBlocks::PageOf(block));
  const uint32_t i = HolderBlocks::NumberOf(block);
  return {.block = block,
          .node = page.node,
          .tokens = page.end_token(i),
          .name_space = NamespaceOf(page),
          .hash = page.hashes[i],
          .has_block = true,
          .path_keys = {}};
}

// Puts the blocks of an event behind the cursor, and moves it to the last of them.
void Holder::Place(const Batch& batch, Cursor& cursor) {
  const std::span<const uint64_t> hashes = batch.event.hashes;
  const uint32_t start = cursor.tokens;
  const uint64_t before_first = cursor.hash;
  const bool has_before = cursor.has_block;
  const uint64_t name_space = cursor.name_space;
  for (size_t i = 0; i < std::min(hashes.size(), kPrefetch); ++i) {
    blocks_.Prefetch(hashes[i], batch.group);
  }
  size_t fresh_from = 0;
  for (size_t i = 0; i < hashes.size(); ++i) {
    if (i + kPrefetch < hashes.size()) blocks_.Prefetch(hashes[i + kPrefetch], batch.group);
    bool is_elsewhere = false;
    const Expected expected{
        .start = static_cast<uint32_t>(start + i * batch.block_tokens),
        .name_space = name_space,
        .before = i > 0 ? hashes[i - 1] : before_first,
        .has_before = i > 0 || has_before,
    };
    const uint32_t same = FindSame(batch, expected, i, &is_elsewhere);
    if (same == kNone && !is_elsewhere) continue;
    if (!Append(batch, cursor, fresh_from, i)) return;
    fresh_from = i + 1;
    if (is_elsewhere && batch.block_tokens % index_tokens_ != 0) {
      // Which of them an index block that reaches over several blocks lies in, could not be told.
      counters_.ambiguous += hashes.size() - i;
      return;
    }
    if (same != kNone) {
      AddTier(same, batch.event.tier);
      cursor = CursorAt(same);
    } else {
      if (!Append(batch, cursor, i, i + 1)) return;
      MarkAmbiguous(hashes[i], batch.group);
    }
  }
  Append(batch, cursor, fresh_from, hashes.size());
}

// The block of this hash when it stands where block i of the event would. Says whether the hash
// stands for a block somewhere else.
uint32_t Holder::FindSame(const Batch& batch, const Expected& expected, size_t i,
                          bool* is_elsewhere) {
  const KvEvent& event = batch.event;
  const std::span<const uint32_t> tokens =
      event.tokens.subspan(i * batch.block_tokens, batch.block_tokens);
  const uint64_t extras = event.extras.empty() ? 0 : event.extras[i];
  return blocks_.Find(event.hashes[i], batch.group, [&](uint32_t block) {
    const Page& page = blocks_.page(HolderBlocks::PageOf(block));
    const uint32_t number = HolderBlocks::NumberOf(block);
    uint64_t before = 0;
    const bool has_before = page.HashBefore(number, &before);
    bool is_same = page.block_tokens == batch.block_tokens &&
                   page.end_token(number) - batch.block_tokens == expected.start &&
                   has_before == expected.has_before &&
                   (!has_before || before == expected.before) &&
                   NamespaceOf(page) == expected.name_space;
    if (is_same && page.loose != nullptr) {
      const uint32_t base = page.first_token - page.first_token % index_tokens_;
      is_same = page.loose->extras[number] == extras &&
                std::equal(tokens.begin(), tokens.end(),
                           page.loose->tokens.begin() + (expected.start - base));
    } else if (is_same) {
      scratch_keys_.clear();
      AppendAlignedKeys(tokens, extras);
      is_same = index_.HasKeys(page.node, expected.start / index_tokens_, scratch_keys_);
    }
    if (!is_same && (page.marks[number] & HolderBlocks::kTierMask) != 0) *is_elsewhere = true;
    return is_same;
  });
}

void Holder::MarkAmbiguous(uint64_t hash, uint16_t group) {
  ++counters_.ambiguous;
  blocks_.Find(hash, group, [&](uint32_t block) {
    blocks_.marks(block) |= HolderBlocks::kAmbiguous;
    return false;
  });
}

void Holder::AppendAlignedKeys(std::span<const uint32_t> tokens, uint64_t extras) {
  for (; !tokens.empty(); tokens = tokens.subspan(index_tokens_)) {
    scratch_keys_.push_back(keys_.Key(tokens.first(index_tokens_), extras));
  }
}

// Blocks [begin, end) of the event are new. False when there are more pages than may be.
bool Holder::Append(const Batch& batch, Cursor& cursor, size_t begin, size_t end) {
  while (begin < end) {
    const size_t placed = AppendToPage(batch, cursor, begin, end);
    if (placed == 0) {
      counters_.over_budget += end - begin;
      return false;
    }
    begin += placed;
  }
  return true;
}

size_t Holder::AppendToPage(const Batch& batch, Cursor& cursor, size_t begin, size_t end) {
  const bool is_loose =
      cursor.tokens % index_tokens_ != 0 || batch.block_tokens % index_tokens_ != 0;
  const uint32_t index = PageFor(batch, cursor, is_loose);
  if (index == kNone) return 0;
  Page& page = blocks_.page(index);
  const auto count =
      static_cast<uint32_t>(std::min<size_t>(end - begin, HolderBlocks::kPageBlocks - page.used));
  scratch_keys_.clear();
  if (is_loose) {
    LooseKeys(batch, cursor, page, begin, begin + count);
  } else {
    if (!cursor.path_keys.empty()) scratch_keys_ = std::exchange(cursor.path_keys, {});
    const std::span<const uint64_t> extras = batch.event.extras;
    for (size_t i = begin; i < begin + count; ++i) {
      AppendAlignedKeys(batch.event.tokens.subspan(i * batch.block_tokens, batch.block_tokens),
                        extras.empty() ? 0 : extras[i]);
    }
  }
  StorePage(batch, cursor, page, is_loose, (end - begin - count) * batch.block_tokens);
  const uint32_t first = index * HolderBlocks::kPageBlocks + page.used;
  const auto tier = static_cast<size_t>(batch.event.tier);
  for (uint32_t i = 0; i < count; ++i) {
    page.hashes[page.used] = batch.event.hashes[begin + i];
    page.marks[page.used] = static_cast<uint8_t>(1U << tier);
    ++page.used;
    blocks_.Insert(first + i);
    if (is_loose) ChangeLoose(first + i, static_cast<uint8_t>(tier), Change::kGain);
  }
  page.live = static_cast<uint8_t>(page.live + count);
  tier_blocks_[tier] += count;
  counters_.stored += count;
  cursor = CursorAt(first + count - 1);
  return count;
}

// The page of the cursor's block if the next block can go there, or a new one.
uint32_t Holder::PageFor(const Batch& batch, const Cursor& cursor, bool is_loose) {
  if (cursor.block != kNone) {
    const uint32_t index = HolderBlocks::PageOf(cursor.block);
    const Page& page = blocks_.page(index);
    if (HolderBlocks::NumberOf(cursor.block) + 1 == page.used &&
        page.used < HolderBlocks::kPageBlocks && page.block_tokens == batch.block_tokens &&
        page.group == batch.group && !page.is_doubtful && (page.loose != nullptr) == is_loose) {
      return index;
    }
  }
  const uint32_t index = blocks_.AddPage();
  if (index == kNone) return kNone;
  Page& page = blocks_.page(index);
  page.parent_hash = cursor.hash;
  page.has_parent = cursor.has_block;
  page.first_token = cursor.tokens;
  page.block_tokens = batch.block_tokens;
  page.group = batch.group;
  if (!is_loose) return index;
  page.loose = std::make_unique<HolderBlocks::Loose>();
  page.loose->name_space = cursor.name_space;
  blocks_.ChargeLoose(sizeof(HolderBlocks::Loose) + 64);
  if (!cursor.has_block) return index;
  blocks_.followers.emplace(cursor.hash, index);
  const uint32_t pending = cursor.tokens % index_tokens_;
  if (pending == 0) return index;
  // What stands before the page in its first index block is in the loose page before.
  const Page& before = blocks_.page(HolderBlocks::PageOf(cursor.block));
  const uint32_t base = before.first_token - before.first_token % index_tokens_;
  const auto last = before.loose->tokens.begin() + (cursor.tokens - base);
  page.loose->tokens.assign(last - pending, last);
  page.loose->extras_before =
      LooseExtras(before, cursor.tokens / index_tokens_, HolderBlocks::NumberOf(cursor.block) + 1);
  return index;
}

// What the content of an index block depends on, as far as blocks of the page up to `blocks` are in
// it.
uint64_t Holder::LooseExtras(const Page& page, uint32_t index_block, uint32_t blocks) const {
  const uint32_t from = index_block * index_tokens_;
  uint64_t extras = from < page.first_token ? page.loose->extras_before : 0;
  for (uint32_t i = from < page.first_token ? 0 : (from - page.first_token) / page.block_tokens;
       i < blocks && page.first_token + i * page.block_tokens < from + index_tokens_; ++i) {
    extras = ContentKeys::FoldExtras(extras, page.loose->extras[i]);
  }
  return extras;
}

// Appends blocks to the page's tokens; the keys of the index blocks that they complete.
void Holder::LooseKeys(const Batch& batch, const Cursor& cursor, Page& page, size_t begin,
                       size_t end) {
  HolderBlocks::Loose& loose = *page.loose;
  const auto bytes = [&] {
    return static_cast<int64_t>(loose.tokens.capacity() * sizeof(uint32_t) +
                                loose.extras.capacity() * sizeof(uint64_t));
  };
  const int64_t bytes_before = bytes();
  const std::span<const uint32_t> tokens =
      batch.event.tokens.subspan(begin * batch.block_tokens, (end - begin) * batch.block_tokens);
  loose.tokens.insert(loose.tokens.end(), tokens.begin(), tokens.end());
  for (size_t i = begin; i < end; ++i) {
    loose.extras.push_back(batch.event.extras.empty() ? 0 : batch.event.extras[i]);
  }
  blocks_.ChargeLoose(bytes() - bytes_before);
  const uint32_t base = page.first_token - page.first_token % index_tokens_;
  const auto last = static_cast<uint32_t>((cursor.tokens + tokens.size()) / index_tokens_);
  for (uint32_t k = cursor.tokens / index_tokens_; k < last; ++k) {
    scratch_keys_.push_back(
        keys_.Key(std::span(loose.tokens).subspan(k * index_tokens_ - base, index_tokens_),
                  LooseExtras(page, k, static_cast<uint32_t>(loose.extras.size()))));
  }
}

// Puts scratch_keys_ into the chain behind the cursor and pins the end for the page.
void Holder::StorePage(const Batch& batch, const Cursor& cursor, Page& page, bool is_loose,
                       size_t tokens_left) {
  const uint32_t position = cursor.tokens / index_tokens_;
  // Copies of another group's path start at the root, and only what follows is held.
  const bool has_path = !is_loose && cursor.has_block && cursor.block == kNone;
  if (scratch_keys_.empty()) {
    if (page.node == nullptr && cursor.node != nullptr) {
      index_.Pin(cursor.node);
      page.node = cursor.node;
    }
    return;
  }
  page.node = index_.Store({.slot = slot_.index,
                            .level = static_cast<uint8_t>(batch.event.tier),
                            .name_space = cursor.name_space,
                            .after = position == 0 || has_path ? nullptr : cursor.node,
                            .position = has_path ? 0 : position,
                            .keys = scratch_keys_,
                            // Of loose pages nothing is held before ChangeLoose says so.
                            .held_from = is_loose ? ~uint32_t{0} : position,
                            .expected = tokens_left / index_tokens_,
                            .pinned = page.node,
                            .pinned_past = is_loose || has_path,
                            .overlaps = &scratch_parts_});
  CountOverlaps(page.node, static_cast<uint8_t>(batch.event.tier));
}

// Blocks that are known already are in one more tier.
Holder::Outcome Holder::StoredAgain(const KvEvent& event, uint16_t group, uint32_t stamp) {
  for (const uint64_t hash : event.hashes) {
    uint32_t found = kNone;
    size_t count = 0;
    blocks_.Find(hash, group, [&](uint32_t block) {
      if ((blocks_.marks(block) & HolderBlocks::kTierMask) == 0) return false;
      found = block;
      ++count;
      return false;
    });
    if (count == 1) {
      AddTier(found, event.tier);
      Touch(found, stamp);
    } else if (count == 0) {
      ++counters_.unkeyed;
    } else {
      ++counters_.ambiguous;
    }
  }
  ChargeBytes();
  return Outcome::kApplied;
}

// --- removals

Holder::Outcome Holder::Removed(const KvEvent& event) {
  const Role* const role = RoleOf(event);
  if (role == nullptr) {
    ++counters_.events_other_kind;
    return Outcome::kSkipped;
  }
  const std::span<const uint64_t> hashes = event.hashes;
  for (size_t i = 0; i < hashes.size(); ++i) {
    if (i + kPrefetch < hashes.size()) blocks_.Prefetch(hashes[i + kPrefetch], role->group);
    RemoveHash(event, hashes[i], role->group);
  }
  ChargeBytes();
  return Outcome::kApplied;
}

void Holder::RemoveHash(const KvEvent& event, uint64_t hash, uint16_t group) {
  const auto bit = static_cast<uint8_t>(1U << static_cast<size_t>(event.tier));
  bool was_held = false;
  for (;;) {
    const uint32_t block = blocks_.Find(
        hash, group, [&](uint32_t candidate) { return (blocks_.marks(candidate) & bit) != 0; });
    if (block == kNone) break;
    was_held = true;
    // Which of several places is meant cannot be known: none counts any more.
    const bool is_ambiguous = (blocks_.marks(block) & HolderBlocks::kAmbiguous) != 0;
    DropTier(block, event.tier, is_ambiguous ? Drop::kAll : Drop::kOne);
    if (!is_ambiguous) break;
  }
  const auto [first, last] = orphans_by_hash_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const auto [orphan, i] = it->second;
    if (orphan->event.tier != event.tier || orphan->removed[i]) continue;
    orphan->removed[i] = true;
    was_held = true;
  }
  ++(was_held ? counters_.removed : counters_.removed_unknown);
}

void Holder::Clear() {
  for (uint32_t page = blocks_.oldest_page(); page != kNone; page = blocks_.oldest_page()) {
    counters_.cleared += DropPage(page);
  }
  while (!orphans_.empty()) DropOrphan(orphans_.begin());
  overlaps_.clear();
  had_gap_ = false;
  index_.SetEngineBlock(slot_.index, 0);
  ChargeBytes();
}

bool Holder::Leave(size_t max_blocks) {
  if (has_left_ && blocks_.oldest_page() == kNone) return true;
  has_left_ = true;
  while (!orphans_.empty()) DropOrphan(orphans_.begin());
  size_t dropped = 0;
  while (blocks_.oldest_page() != kNone && dropped < max_blocks) {
    dropped += 1 + DropPage(blocks_.oldest_page());
  }
  ChargeBytes();
  if (blocks_.oldest_page() != kNone) return false;
  index_.Charge(-std::exchange(charged_bytes_, 0));
  index_.Leave(slot_);
  return true;
}

// --- orphans

void Holder::Park(const KvEvent& event) {
  Orphan orphan;
  orphan.hashes.assign(event.hashes.begin(), event.hashes.end());
  orphan.tokens.assign(event.tokens.begin(), event.tokens.end());
  orphan.extras.assign(event.extras.begin(), event.extras.end());
  orphan.removed.assign(event.hashes.size(), false);
  orphan.adapter = event.adapter;
  orphan.salt = event.salt;
  // A block costs a hash, its mark and its entry in the map from hash to orphan.
  orphan.bytes = sizeof(Orphan) + 128 + orphan.hashes.size() * 80 + orphan.tokens.size() * 4 +
                 orphan.extras.size() * 8 + orphan.adapter.size() + orphan.salt.size();
  if (orphan.bytes > options_.max_orphan_bytes) {
    counters_.orphans_dropped += event.hashes.size();
    return;
  }
  while (orphan_bytes_ + orphan.bytes > options_.max_orphan_bytes) DropOrphan(orphans_.begin());
  counters_.orphans_parked += event.hashes.size();
  orphan_bytes_ += orphan.bytes;
  orphans_.push_back(std::move(orphan));
  const auto parked = std::prev(orphans_.end());
  parked->event = event;
  parked->event.hashes = parked->hashes;
  parked->event.tokens = parked->tokens;
  parked->event.extras = parked->extras;
  parked->event.adapter = parked->adapter;
  parked->event.salt = parked->salt;
  orphans_by_parent_.emplace(*event.parent, parked);
  for (size_t i = 0; i < parked->hashes.size(); ++i) {
    orphans_by_hash_.emplace(parked->hashes[i], std::pair(parked, i));
  }
}

void Holder::UnlistOrphan(Orphans::iterator orphan) {
  const auto [first, last] = orphans_by_parent_.equal_range(*orphan->event.parent);
  for (auto it = first; it != last; ++it) {
    if (it->second == orphan) {
      orphans_by_parent_.erase(it);
      break;
    }
  }
  for (size_t i = 0; i < orphan->hashes.size(); ++i) {
    const auto [begin, end] = orphans_by_hash_.equal_range(orphan->hashes[i]);
    for (auto it = begin; it != end; ++it) {
      if (it->second.first == orphan) {
        orphans_by_hash_.erase(it);
        break;
      }
    }
  }
  orphan_bytes_ -= orphan->bytes;
}

void Holder::DropOrphan(Orphans::iterator orphan) {
  counters_.orphans_dropped += orphan->hashes.size();
  UnlistOrphan(orphan);
  orphans_.erase(orphan);
}

// These blocks are there now: what waited for one of them goes behind it.
void Holder::Attach(std::span<const uint64_t> hashes, Time now) {
  Orphans ready;
  const auto collect = [&](uint64_t parent) {
    for (auto it = orphans_by_parent_.find(parent); it != orphans_by_parent_.end();
         it = orphans_by_parent_.find(parent)) {
      const Orphans::iterator orphan = it->second;
      UnlistOrphan(orphan);
      ready.splice(ready.end(), orphans_, orphan);
    }
  };
  for (const uint64_t hash : hashes) collect(hash);
  const auto group_of = [](const KvEvent& event) {
    return static_cast<uint16_t>(event.has_group ? event.group : 0);
  };
  // What was removed while it waited goes at the end: others may follow it.
  Orphans attached;
  while (!ready.empty()) {
    const Orphan& orphan = ready.front();
    const uint16_t group = group_of(orphan.event);
    const bool is_placed = StoredWithTokens(orphan.event, group, main_group_ == group,
                                            StampOf(now)) == Outcome::kApplied;
    if (!is_placed) {
      ready.pop_front();
      continue;
    }
    counters_.orphans_attached += orphan.hashes.size();
    attached.splice(attached.end(), ready, ready.begin());
    for (const uint64_t hash : attached.back().hashes) collect(hash);
  }
  for (const Orphan& orphan : attached) {
    for (size_t i = 0; i < orphan.hashes.size(); ++i) {
      if (orphan.removed[i]) RemoveHash(orphan.event, orphan.hashes[i], group_of(orphan.event));
    }
  }
}

}  // namespace penstock::kvcache
