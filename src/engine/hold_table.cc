#include "engine/hold_table.h"

#include <algorithm>
#include <cassert>
#include <string>

namespace penstock::engine {

void HoldTable::Add(uint64_t id, std::vector<BlockPool::BlockId> blocks, const Hold& hold) {
  assert(!IsHeld(id));
  Entry& entry = entries_[id];
  entry.hold = hold;
  entry.hold.state = HoldState::kHeld;
  entry.hold.blocks = static_cast<uint32_t>(blocks.size());
  entry.blocks = std::move(blocks);
  entry.serial = next_serial_++;
  expiries_.emplace(hold.expiry, id);
  ++stats_.holds;
  ++stats_.taken;
  stats_.blocks += entry.hold.blocks;
}

std::optional<Hold> HoldTable::Find(uint64_t id) const {
  const auto it = entries_.find(id);
  return it == entries_.end() ? std::nullopt : std::optional(it->second.hold);
}

bool HoldTable::IsHeld(uint64_t id) const {
  const auto it = entries_.find(id);
  return it != entries_.end() && it->second.hold.blocks > 0;
}

Result<> HoldTable::Consume(uint64_t id, uint64_t prefix_hash, uint32_t tokens, Time now) {
  Expire(now);
  const std::string name = "hold " + std::to_string(id);
  const auto it = entries_.find(id);
  if (it == entries_.end()) {
    ++stats_.stale_reads;
    return Fail(Code::kNotFound, name + " is not there");
  }
  Hold& hold = it->second.hold;
  switch (hold.state) {
    case HoldState::kConsumed:
      ++stats_.double_reads;
      return Fail(Code::kAlreadyExists, name + " has had its reader");
    case HoldState::kExpired:
    case HoldState::kReleased:
      ++stats_.stale_reads;
      return Fail(Code::kFailedPrecondition, name + " has ended");
    case HoldState::kHeld:
      break;
  }
  if (hold.prefix_hash != prefix_hash || tokens > hold.tokens) {
    ++stats_.wrong_reads;
    return Fail(Code::kInvalidArgument, name + " is of another prompt");
  }
  hold.state = HoldState::kConsumed;
  ++stats_.consumed;
  return {};
}

bool HoldTable::Release(uint64_t id, Time now) {
  Expire(now);
  if (!IsHeld(id)) return false;
  Entry& entry = entries_.at(id);
  const bool was_read = entry.hold.state == HoldState::kConsumed;
  if (!was_read) ++stats_.released;
  End(id, entry, was_read ? HoldState::kConsumed : HoldState::kReleased);
  return true;
}

bool HoldTable::Extend(uint64_t id, Time expiry, Time now) {
  Expire(now);
  if (!IsHeld(id)) return false;
  Hold& hold = entries_.at(id).hold;
  expiries_.erase({hold.expiry, id});
  hold.expiry = std::max(hold.expiry, expiry);
  expiries_.emplace(hold.expiry, id);
  return true;
}

void HoldTable::Expire(Time now) {
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    const uint64_t id = expiries_.begin()->second;
    Entry& entry = entries_.at(id);
    ++stats_.expired;
    if (entry.hold.state == HoldState::kConsumed) ++stats_.stale_reads;
    End(id, entry, HoldState::kExpired);
  }
}

std::optional<Time> HoldTable::NextExpiry() const {
  return expiries_.empty() ? std::nullopt : std::optional(expiries_.begin()->first);
}

void HoldTable::Clear() {
  for (const auto& [expiry, id] : expiries_) pool_.Release(entries_.at(id).blocks);
  entries_.clear();
  expiries_.clear();
  ended_.clear();
  stats_.holds = stats_.blocks = 0;
}

void HoldTable::End(uint64_t id, Entry& entry, HoldState state) {
  expiries_.erase({entry.hold.expiry, id});
  pool_.Release(entry.blocks);
  --stats_.holds;
  stats_.blocks -= entry.hold.blocks;
  entry.blocks = {};
  entry.hold.blocks = 0;
  entry.hold.state = state;
  ended_.emplace_back(id, entry.serial);
  if (ended_.size() <= kMaxEnded) return;
  const auto [oldest, serial] = ended_.front();
  ended_.pop_front();
  const auto it = entries_.find(oldest);
  if (it != entries_.end() && it->second.serial == serial) entries_.erase(it);
}

}  // namespace penstock::engine
