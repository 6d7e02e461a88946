#include "tokens/told_tokens.h"

#include <utility>

namespace penstock::tokens {

// With its nodes in the list and in the table.
size_t ToldTokens::BytesOf(const Entry& entry) {
  constexpr size_t kNodes = 192;
  size_t bytes = kNodes + (entry.told->ids.capacity() + entry.told->sequence_ends.capacity()) *
                              sizeof(uint32_t);
  for (const model::MediaSpan& span : entry.told->media) {
    bytes += sizeof span + span.name.capacity();
  }
  return bytes;
}

void ToldTokens::Drop(std::list<Entry>::iterator entry) {
  bytes_ -= BytesOf(*entry);
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

ToldTokens::Told ToldTokens::Find(const TokenKey& key, Time now) {
  MutexLock lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  const auto entry = found->second;
  if (now - entry->at > kMaxAge) {
    Drop(entry);
    ++evicted_;
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return entry->told;
}

void ToldTokens::Store(const TokenKey& key, Told told, Time now) {
  Entry entry{key, std::move(told), now};
  const size_t bytes = BytesOf(entry);
  if (bytes > max_bytes_) return;
  MutexLock lock(mutex_);
  if (const auto found = by_key_.find(key); found != by_key_.end()) Drop(found->second);
  while (bytes_ + bytes > max_bytes_) {
    Drop(std::prev(entries_.end()));
    ++evicted_;
  }
  entries_.push_front(std::move(entry));
  by_key_.emplace(key, entries_.begin());
  bytes_ += bytes;
}

ToldTokens::Stats ToldTokens::stats() const {
  MutexLock lock(mutex_);
  return {entries_.size(), bytes_, evicted_};
}

}  // namespace penstock::tokens
