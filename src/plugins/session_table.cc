#include "plugins/session_table.h"

#include <algorithm>

namespace penstock::plugins {
namespace {

// Stamps count in parts of the time to live, so that 16 bits reach 128 times as far as needed.
constexpr int kStampsPerTtl = 256;

uint64_t TagOf(uint64_t session) { return std::max<uint64_t>(1, session >> 32); }
uint32_t SlotOf(uint64_t entry) { return static_cast<uint32_t>(entry >> 16 & 0xffff); }

}  // namespace

SessionTable::SessionTable(Duration ttl)
    : nanos_per_stamp_(std::max<int64_t>(1, ttl.count() / kStampsPerTtl)),
      entries_(new std::atomic<uint64_t>[kBuckets * kWays]()) {}

std::optional<uint32_t> SessionTable::Find(uint64_t session, Time now) const {
  const std::atomic<uint64_t>* const bucket = BucketOf(session);
  const uint16_t stamp = StampOf(now);
  for (size_t way = 0; way < kWays; ++way) {
    const uint64_t entry = bucket[way].load(std::memory_order_relaxed);
    if (entry >> 32 == TagOf(session) && !IsExpired(entry, stamp)) return SlotOf(entry);
  }
  return std::nullopt;
}

void SessionTable::Bind(uint64_t session, uint32_t slot, Time now) {
  if (slot > 0xffff) return;
  std::atomic<uint64_t>* const bucket = BucketOf(session);
  const uint16_t stamp = StampOf(now);
  size_t victim = 0;
  int oldest = -1;
  for (size_t way = 0; way < kWays; ++way) {
    const uint64_t entry = bucket[way].load(std::memory_order_relaxed);
    if (entry >> 32 == TagOf(session)) {
      victim = way;
      break;
    }
    const int age = entry == 0 || IsExpired(entry, stamp)
                        ? kStampsPerTtl + 1
                        : std::max<int>(0, static_cast<int16_t>(stamp - entry));
    if (age > oldest) {
      oldest = age;
      victim = way;
    }
  }
  bucket[victim].store(TagOf(session) << 32 | uint64_t{slot} << 16 | stamp,
                       std::memory_order_relaxed);
}

void SessionTable::ForgetSlot(uint32_t slot) {
  ForgetIf([&](uint64_t entry) { return SlotOf(entry) == slot; });
}

void SessionTable::Sweep(Time now) {
  const uint16_t stamp = StampOf(now);
  ForgetIf([&](uint64_t entry) { return IsExpired(entry, stamp); });
}

uint16_t SessionTable::StampOf(Time now) const {
  return static_cast<uint16_t>(ToNanos(now) / nanos_per_stamp_);
}

// A stamp ahead of `stamp` is another loop's, which read its clock a little later.
bool SessionTable::IsExpired(uint64_t entry, uint16_t stamp) const {
  return static_cast<int16_t>(stamp - entry) > kStampsPerTtl;
}

std::atomic<uint64_t>* SessionTable::BucketOf(uint64_t session) const {
  return &entries_[session % kBuckets * kWays];
}

template <class Condition>
void SessionTable::ForgetIf(Condition&& condition) {
  for (size_t i = 0; i < kBuckets * kWays; ++i) {
    uint64_t entry = entries_[i].load(std::memory_order_relaxed);
    // Unless it was used in between.
    if (entry != 0 && condition(entry)) {
      entries_[i].compare_exchange_strong(entry, 0, std::memory_order_relaxed);
    }
  }
}

}  // namespace penstock::plugins
