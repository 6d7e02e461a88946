// Remembers, on each thread, what was worked out from a pool snapshot for a key: verdicts over
// labels, scores of adapters. A decision then costs a look-up instead of a scan over texts.
//
// THREADS: const from any thread; each has its own few entries, shared by all memos of one type.
// COST: 64 values per thread and value type; a look-up compares two numbers and the key.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "model/endpoint.h"

namespace penstock::plugins {

inline uint64_t NextMemoId() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

template <class Value>
class SnapshotMemo {
 public:
  // The value for the snapshot and the key; fill(Value*) overwrites an older one when it is not
  // there. Valid until the next Get on this thread.
  template <class Fill>
  const Value& Get(const model::PoolSnapshot& pool, std::string_view key, Fill&& fill) const {
    struct Entry {
      uint64_t memo = 0;
      uint64_t snapshot = 0;
      std::string key;
      Value value;
    };
    thread_local std::array<Entry, 64> entries;
    Entry& entry = entries[(id_ + std::hash<std::string_view>()(key)) % entries.size()];
    if (entry.memo != id_ || entry.snapshot != pool.id || entry.key != key) {
      fill(&entry.value);
      entry.memo = id_;
      entry.snapshot = pool.id;
      entry.key = key;
    }
    return entry.value;
  }

 private:
  const uint64_t id_ = NextMemoId();
};

}  // namespace penstock::plugins
