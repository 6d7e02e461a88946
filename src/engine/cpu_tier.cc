#include "engine/cpu_tier.h"

namespace penstock::engine {

size_t CpuTier::Prefix(std::span<const uint64_t> hashes) const {
  size_t held = 0;
  while (held < hashes.size() && by_hash_.contains(hashes[held])) ++held;
  return held;
}

void CpuTier::Store(std::span<const uint64_t> hashes) {
  if (capacity_ == 0) return;
  for (size_t i = hashes.size(); i-- > 0;) {
    const auto it = by_hash_.find(hashes[i]);
    const bool is_new = it == by_hash_.end();
    const uint32_t entry = is_new ? TakeEntry() : it->second;
    if (is_new) {
      entries_[entry].hash = hashes[i];
      by_hash_.emplace(hashes[i], entry);
      if (listener_ != nullptr) listener_->OnStored(hashes[i], Memory::kHost);
    } else {
      Unlink(entry);
    }
    PushBack(entry);
  }
}

void CpuTier::Touch(std::span<const uint64_t> hashes) {
  for (size_t i = hashes.size(); i-- > 0;) {
    const auto it = by_hash_.find(hashes[i]);
    if (it == by_hash_.end()) continue;
    Unlink(it->second);
    PushBack(it->second);
  }
}

void CpuTier::Clear() {
  if (listener_ != nullptr) {
    for (uint32_t entry = head_; entry != kNone; entry = entries_[entry].next) {
      listener_->OnRemoved(entries_[entry].hash, Memory::kHost);
    }
  }
  entries_.clear();
  by_hash_.clear();
  head_ = tail_ = kNone;
}

uint32_t CpuTier::TakeEntry() {
  if (entries_.size() < capacity_) {
    entries_.emplace_back();
    return static_cast<uint32_t>(entries_.size() - 1);
  }
  const uint32_t entry = head_;
  Unlink(entry);
  by_hash_.erase(entries_[entry].hash);
  if (listener_ != nullptr) listener_->OnRemoved(entries_[entry].hash, Memory::kHost);
  return entry;
}

void CpuTier::Unlink(uint32_t id) {
  Entry& entry = entries_[id];
  (entry.previous == kNone ? head_ : entries_[entry.previous].next) = entry.next;
  (entry.next == kNone ? tail_ : entries_[entry.next].previous) = entry.previous;
  entry.previous = entry.next = kNone;
}

void CpuTier::PushBack(uint32_t id) {
  entries_[id].previous = tail_;
  (tail_ == kNone ? head_ : entries_[tail_].next) = id;
  tail_ = id;
}

}  // namespace penstock::engine
