#include "kvcache/holder_blocks.h"

#include <algorithm>

namespace penstock::kvcache {

namespace {

constexpr size_t kPageBytes = sizeof(HolderBlocks::Page) + 16;  // with the allocator's share

}  // namespace

uint32_t HolderBlocks::AddPage() {
  uint32_t index = kNone;
  if (free_pages_.empty()) {
    if (pages_.size() >= kMaxPages) return kNone;
    index = page_limit();
    pages_.emplace_back();
  } else {
    index = free_pages_.back();
    free_pages_.pop_back();
  }
  pages_[index] = std::make_unique<Page>();
  bytes_ += kPageBytes;
  Page& fresh = page(index);
  fresh.older = newest_;
  (newest_ == kNone ? oldest_ : page(newest_).newer) = index;
  newest_ = index;
  return index;
}

void HolderBlocks::FreePage(uint32_t index) {
  for (uint32_t i = 0; i < page(index).used; ++i) {
    if ((page(index).marks[i] & kListed) != 0) Erase(index * kPageBlocks + i);
  }
  Unlink(index);
  pages_[index] = nullptr;
  bytes_ -= kPageBytes;
  free_pages_.push_back(index);
}

void HolderBlocks::Unlink(uint32_t index) {
  const Page& there = page(index);
  (there.newer == kNone ? newest_ : page(there.newer).older) = there.older;
  (there.older == kNone ? oldest_ : page(there.older).newer) = there.newer;
}

void HolderBlocks::MoveToFront(uint32_t index) {
  if (index == newest_) return;
  Unlink(index);
  Page& there = page(index);
  there.newer = kNone;
  there.older = newest_;
  page(newest_).newer = index;
  newest_ = index;
}

void HolderBlocks::Put(uint32_t block) {
  const Page& there = page(PageOf(block));
  const uint64_t mixed = Mix(there.hashes[NumberOf(block)], there.group);
  size_t i = Home(mixed);
  while (table_[i] > kTombstone) i = i + 1 == table_.size() ? 0 : i + 1;
  table_used_ += table_[i] == 0 ? 1 : 0;
  table_[i] = static_cast<uint32_t>((mixed & kTagMask) << kIndexBits) | (block + 2);
}

void HolderBlocks::Insert(uint32_t block) {
  // Three quarters full at most: at 85 % probing took half of the time of an event. Where
  // tombstones made it so, the size stays.
  if ((table_used_ + 1) * 4 > table_.size() * 3) {
    const bool grows = (live_ + 1) * 2 > table_.size();
    Resize(grows ? std::max<size_t>(64, table_.size() * 3 / 2) : table_.size());
  }
  Put(block);
  marks(block) |= kListed;
  ++live_;
}

void HolderBlocks::Erase(uint32_t block) {
  const Page& there = page(PageOf(block));
  if ((marks(block) & kCounted) != 0) extra_counts.erase(block);
  marks(block) = 0;
  const uint64_t mixed = Mix(there.hashes[NumberOf(block)], there.group);
  const uint32_t value = static_cast<uint32_t>((mixed & kTagMask) << kIndexBits) | (block + 2);
  size_t i = Home(mixed);
  while (table_[i] != value) i = i + 1 == table_.size() ? 0 : i + 1;
  const size_t next = i + 1 == table_.size() ? 0 : i + 1;
  if (table_[next] == 0) {
    table_[i] = 0;
    --table_used_;
  } else {
    table_[i] = kTombstone;
  }
  --live_;
  if (table_.size() > 1024 && live_ * 5 < table_.size()) Resize(table_.size() / 2);
}

void HolderBlocks::Reserve(size_t blocks) {
  const size_t slots = blocks * 4 / 3 + 2;
  if (slots > table_.size()) Resize(slots);
}

void HolderBlocks::Resize(size_t slots) {
  const std::vector<uint32_t> old = std::move(table_);
  table_ = std::vector<uint32_t>(slots, 0);
  table_used_ = 0;
  bytes_ += (slots - old.size()) * sizeof(uint32_t);
  for (const uint32_t value : old) {
    if (value > kTombstone) Put((value & kIndexMask) - 2);
  }
}

}  // namespace penstock::kvcache
