// When may memory be freed that readers without locks may still look at? Readers enter an epoch
// before they look and leave it afterwards; what a writer unlinked may go when every reader that
// was inside at that time has left.
//
// THREADS: a Reader belongs to one thread at a time; Tag and Oldest from any thread.
// COST: entering is one exchange, leaving one store; Oldest reads a cache line per reader.
// MEMORY: readers' records live as long as the domain, and are used again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "core/mutex.h"

namespace penstock {

class EpochDomain {
  struct alignas(64) Record {
    std::atomic<uint64_t> epoch{kOutside};
    bool taken = true;  // guarded by mutex_
  };

 public:
  EpochDomain() = default;
  EpochDomain(const EpochDomain&) = delete;
  EpochDomain& operator=(const EpochDomain&) = delete;

  // REQUIRES: the domain outlives it.
  class Reader {
   public:
    explicit Reader(EpochDomain& domain) : domain_(domain), record_(domain.Take()) {}
    ~Reader() { domain_.Return(record_); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

   private:
    friend class EpochDomain;
    EpochDomain& domain_;
    Record* const record_;
  };

  // Inside while it lives. Not nested.
  class Guard {
   public:
    explicit Guard(Reader& reader) : record_(*reader.record_) {
      std::atomic<uint64_t>& epoch = reader.domain_.epoch_;
      record_.epoch.exchange(epoch.load(std::memory_order_relaxed));
      // A writer whose Oldest did not see the exchange has tagged before; this load then sees its
      // tag, and with it all that it unlinked.
      epoch.load();
    }
    ~Guard() { record_.epoch.store(kOutside, std::memory_order_release); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    Record& record_;
  };

  // For what the calling thread has unlinked so far: it may be freed when Oldest() > the tag.
  uint64_t Tag() { return epoch_.fetch_add(1); }
  // The earliest epoch that a reader may be in; the largest number when none is inside.
  uint64_t Oldest() const {
    MutexLock lock(mutex_);
    uint64_t oldest = kOutside;
    for (const Record& record : records_) {
      const uint64_t epoch = record.epoch.load();
      if (epoch < oldest) oldest = epoch;
    }
    return oldest;
  }

 private:
  static constexpr uint64_t kOutside = ~uint64_t{0};

  Record* Take() {
    MutexLock lock(mutex_);
    for (Record& record : records_) {
      if (record.taken) continue;
      record.taken = true;
      return &record;
    }
    return &records_.emplace_back();
  }
  void Return(Record* record) {
    MutexLock lock(mutex_);
    record->taken = false;
  }

  std::atomic<uint64_t> epoch_{0};
  // Held to register a reader and to look at all; entering and leaving take no lock.
  mutable Mutex mutex_;
  std::deque<Record> records_ GUARDED_BY(mutex_);
};

}  // namespace penstock
