// Tokens of prompts that somebody else was asked for, kept for prompts that come again.
//
// THREADS: all methods from any thread; one lock, held for a look-up. OWNS: answers of at most
// `max_bytes`, the least recently used go first. What is older than kMaxAge does not count: a chat
// template may write the date.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/mutex.h"
#include "core/time.h"
#include "tokens/token_question.h"

namespace penstock::tokens {

class ToldTokens {
 public:
  static constexpr Duration kMaxAge = seconds(600);
  using Told = std::shared_ptr<const TokenAnswer>;

  struct Stats {
    uint64_t entries = 0;  // now
    uint64_t bytes = 0;    // now
    uint64_t evicted = 0;  // entries that made room for others, or were too old when asked for
  };

  explicit ToldTokens(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Null: not known.
  Told Find(const TokenKey& key, Time now);
  // Answers larger than all that may be kept are not.
  void Store(const TokenKey& key, Told told, Time now);
  Stats stats() const;
  size_t max_bytes() const { return max_bytes_; }

 private:
  struct Entry {
    TokenKey key;
    Told told;
    Time at;
  };
  struct Hash {
    size_t operator()(const TokenKey& key) const { return static_cast<size_t>(key.low); }
  };
  static size_t BytesOf(const Entry& entry);
  void Drop(std::list<Entry>::iterator entry) REQUIRES_LOCK(mutex_);

  const size_t max_bytes_;
  // Taken by every request that is asked for.
  mutable Mutex mutex_;
  std::list<Entry> entries_ GUARDED_BY(mutex_);  // the last used one first
  std::unordered_map<TokenKey, std::list<Entry>::iterator, Hash> by_key_ GUARDED_BY(mutex_);
  size_t bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t evicted_ GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock::tokens
