// Which slot a session is bound to. A fixed number of places: in a full bucket the binding that was
// used longest ago gives way.
//
// THREADS: lock-free; each binding is one 64-bit word. Two loops that bind the same session at once
// may both be right; the next look-up finds one of them.
// COST: 512 KiB, whatever the number of sessions; a look-up reads one cache line.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/time.h"

namespace penstock::plugins {

class SessionTable {
 public:
  static constexpr size_t kBuckets = 8192;
  static constexpr size_t kWays = 8;

  // Bindings that were not used for `ttl` are forgotten.
  explicit SessionTable(Duration ttl);

  // `session` is a hash of the session's id.
  std::optional<uint32_t> Find(uint64_t session, Time now) const;
  // Slots above 65,535 cannot be bound.
  void Bind(uint64_t session, uint32_t slot, Time now);
  void ForgetSlot(uint32_t slot);
  void Sweep(Time now);
  uint64_t MaxBytes() const { return kBuckets * kWays * sizeof(uint64_t); }

 private:
  uint16_t StampOf(Time now) const;
  bool IsExpired(uint64_t entry, uint16_t stamp) const;
  std::atomic<uint64_t>* BucketOf(uint64_t session) const;
  template <class Condition>
  void ForgetIf(Condition&& condition);

  const int64_t nanos_per_stamp_;
  // An entry is 32 bits of the hash, 16 of the slot, 16 of the time of its last use; 0 is free.
  std::unique_ptr<std::atomic<uint64_t>[]> entries_;
};

}  // namespace penstock::plugins
