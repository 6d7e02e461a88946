#include "kvcache/claims.h"

#include <algorithm>
#include <compare>

namespace penstock::kvcache {
namespace {

constexpr auto kLevel = static_cast<uint8_t>(Tier::kGpu);

size_t CommonPrefix(std::span<const uint64_t> a, std::span<const uint64_t> b) {
  const size_t most = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(most), b.begin()).first -
      a.begin());
}

}  // namespace

bool Claims::ByKeys::operator()(const Claim* a, const Claim* b) const {
  if (a->name_space != b->name_space) return a->name_space < b->name_space;
  const auto order = std::lexicographical_compare_three_way(a->keys.begin(), a->keys.end(),
                                                            b->keys.begin(), b->keys.end());
  return order == 0 ? a->number < b->number : order < 0;
}

Claims::Claims(ChainIndex& index, const Options& options)
    : index_(index), options_(options), shadows_(new std::atomic<uint32_t>[kMaxSlots]()) {}

Claims::~Claims() {
  size_t slots = 0;
  {
    MutexLock lock(mutex_);
    slots = endpoints_.size();
  }
  for (uint32_t slot = 0; slot < slots; ++slot) Forget(slot);
}

Claims::Endpoint* Claims::Find(uint32_t slot) const {
  MutexLock lock(mutex_);
  return slot < endpoints_.size() ? endpoints_[slot].get() : nullptr;
}

Claims::Endpoint* Claims::FindOrMake(uint32_t slot) {
  if (slot >= kMaxSlots) return nullptr;
  MutexLock lock(mutex_);
  if (slot >= endpoints_.size()) endpoints_.resize(slot + size_t{1});
  if (endpoints_[slot] == nullptr) endpoints_[slot] = std::make_unique<Endpoint>();
  return endpoints_[slot].get();
}

uint64_t Claims::BytesOf(const Claim& claim) {
  constexpr uint64_t kBeside = 300;  // nodes of the map and both sets
  return claim.keys.capacity() * sizeof(uint64_t) + kBeside;
}

bool Claims::Join(uint32_t slot, Endpoint& endpoint, uint32_t engine_block) {
  if (endpoint.shadow) return true;
  endpoint.shadow = index_.Join();
  if (!endpoint.shadow) return false;
  if (engine_block > 0) index_.SetEngineBlock(endpoint.shadow->index, engine_block);
  shadows_[slot].store(endpoint.shadow->index + uint32_t{1}, std::memory_order_release);
  return true;
}

void Claims::Leave(uint32_t slot, Endpoint& endpoint) {
  if (!endpoint.shadow) return;
  shadows_[slot].store(0, std::memory_order_release);
  index_.Leave(*endpoint.shadow);
  endpoint.shadow.reset();
}

uint64_t Claims::Add(uint32_t slot, uint32_t engine_block, uint64_t name_space,
                     std::span<const uint64_t> keys, Time now) {
  Endpoint* const endpoint = FindOrMake(slot);
  if (keys.empty()) return 0;
  if (endpoint == nullptr || keys.size() > options_.max_blocks || index_.over_budget()) {
    counts_.refused.fetch_add(1, std::memory_order_relaxed);
    return 0;
  }
  MutexLock lock(endpoint->mutex);
  Expire(*endpoint, now);
  if (!Join(slot, *endpoint, engine_block)) {
    counts_.refused.fetch_add(1, std::memory_order_relaxed);
    return 0;
  }
  while (!endpoint->claims.empty() && (endpoint->claims.size() >= options_.max_claims ||
                                       endpoint->blocks + keys.size() > options_.max_blocks)) {
    Remove(*endpoint, endpoint->claims.begin()->first);
    counts_.displaced.fetch_add(1, std::memory_order_relaxed);
  }
  const uint64_t number = last_.fetch_add(1, std::memory_order_relaxed) + 1;
  Claim claim{.number = number,
              .name_space = name_space,
              .keys = {keys.begin(), keys.end()},
              .node = nullptr,
              .made = now,
              .ends = now + options_.at_most};
  claim.node = index_.Store(
      {.slot = endpoint->shadow->index, .level = kLevel, .name_space = name_space, .keys = keys});
  index_.Charge(static_cast<int64_t>(BytesOf(claim)));
  endpoint->blocks += keys.size();
  endpoint->ends.emplace(claim.ends, number);
  const auto added = endpoint->claims.emplace(number, std::move(claim)).first;
  endpoint->sorted.insert(&added->second);
  counts_.live.fetch_add(1, std::memory_order_relaxed);
  return number;
}

// Whatever becomes of it.
void Claims::Remove(Endpoint& endpoint, uint64_t number) {
  const auto found = endpoint.claims.find(number);
  Claim& claim = found->second;
  const auto at = endpoint.sorted.find(&claim);
  size_t covered = 0;  // by others
  const auto compare = [&](const Claim& other) {
    if (other.name_space != claim.name_space) return;
    covered = std::max(covered, CommonPrefix(claim.keys, other.keys));
  };
  if (at != endpoint.sorted.begin()) compare(**std::prev(at));
  if (std::next(at) != endpoint.sorted.end()) compare(**std::next(at));
  index_.Unmark(
      endpoint.shadow->index, kLevel,
      {&claim.node, static_cast<uint32_t>(covered), static_cast<uint32_t>(claim.keys.size())});
  index_.Unpin(claim.node);
  index_.Charge(-static_cast<int64_t>(BytesOf(claim)));
  endpoint.blocks -= claim.keys.size();
  endpoint.sorted.erase(at);
  endpoint.ends.erase({claim.ends, number});
  endpoint.claims.erase(found);
  counts_.live.fetch_sub(1, std::memory_order_relaxed);
}

void Claims::Expire(Endpoint& endpoint, Time now) {
  while (!endpoint.ends.empty() && endpoint.ends.begin()->first <= now) {
    const uint64_t number = endpoint.ends.begin()->second;
    if (!endpoint.claims.at(number).is_confirmed) {
      counts_.expired.fetch_add(1, std::memory_order_relaxed);
    }
    Remove(endpoint, number);
  }
}

void Claims::Confirm(uint32_t slot, uint64_t number, Time now) {
  Endpoint* const endpoint = Find(slot);
  if (endpoint == nullptr) return;
  MutexLock lock(endpoint->mutex);
  const auto found = endpoint->claims.find(number);
  if (found == endpoint->claims.end() || found->second.is_confirmed) return;
  Claim& claim = found->second;
  claim.is_confirmed = true;
  counts_.confirmed.fetch_add(1, std::memory_order_relaxed);
  endpoint->ends.erase({claim.ends, number});
  claim.ends = std::min(claim.made + options_.at_most, now + options_.after_first_chunk);
  endpoint->ends.emplace(claim.ends, number);
}

void Claims::Withdraw(uint32_t slot, uint64_t number) {
  Endpoint* const endpoint = Find(slot);
  if (endpoint == nullptr) return;
  MutexLock lock(endpoint->mutex);
  if (!endpoint->claims.contains(number)) return;
  Remove(*endpoint, number);
  counts_.withdrawn.fetch_add(1, std::memory_order_relaxed);
}

void Claims::Forget(uint32_t slot) {
  Endpoint* const endpoint = Find(slot);
  if (endpoint == nullptr) return;
  MutexLock lock(endpoint->mutex);
  while (!endpoint->claims.empty()) {
    Remove(*endpoint, endpoint->claims.begin()->first);
    counts_.forgotten.fetch_add(1, std::memory_order_relaxed);
  }
  Leave(slot, *endpoint);
}

void Claims::Tick(Time now) {
  std::vector<Endpoint*> endpoints;
  {
    MutexLock lock(mutex_);
    for (const auto& endpoint : endpoints_) endpoints.push_back(endpoint.get());
  }
  for (uint32_t slot = 0; slot < endpoints.size(); ++slot) {
    if (endpoints[slot] == nullptr) continue;
    Endpoint& endpoint = *endpoints[slot];
    MutexLock lock(endpoint.mutex);
    Expire(endpoint, now);
    if (endpoint.claims.empty()) Leave(slot, endpoint);
  }
}

}  // namespace penstock::kvcache
