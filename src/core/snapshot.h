// A value that many threads read and few replace: readers keep a shared_ptr to an immutable object
// and pay one relaxed load to learn that it is still the newest.
//
// THREADS: Store from any thread; Load from any thread with a Reader of its own.
// MEMORY: what was written before Store(p) is visible to whoever gets p from Load.
// COST: Load is one atomic load unless the value changed; a change costs the reader one mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "core/mutex.h"

namespace penstock {

template <class T>
class SnapshotCell {
 public:
  // One reader's cached copy. Bound to the thread that uses it.
  class Reader {
   public:
    const std::shared_ptr<const T>& Load(const SnapshotCell& cell) {
      const uint64_t version = cell.version_.load(std::memory_order_acquire);
      if (version != version_) {
        MutexLock lock(cell.mutex_);
        value_ = cell.value_;
        version_ = cell.version_.load(std::memory_order_relaxed);
      }
      return value_;
    }

   private:
    uint64_t version_ = ~uint64_t{0};
    std::shared_ptr<const T> value_;
  };

  explicit SnapshotCell(std::shared_ptr<const T> first) : value_(std::move(first)) {}

  void Store(std::shared_ptr<const T> next) {
    MutexLock lock(mutex_);
    value_.swap(next);
    version_.fetch_add(1, std::memory_order_release);
  }  // the old value is destroyed after the lock, with `next`

  std::shared_ptr<const T> Get() const {
    MutexLock lock(mutex_);
    return value_;
  }

 private:
  // Held for a pointer copy only.
  mutable Mutex mutex_;
  std::shared_ptr<const T> value_ GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{0};
};

}  // namespace penstock
