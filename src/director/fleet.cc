#include "director/fleet.h"

#include <algorithm>
#include <set>
#include <utility>

namespace penstock::director {
namespace {

std::string AddressOf(const model::EndpointSpec& spec) {
  const bool is_ipv6 = spec.host.find(':') != std::string::npos;
  return (is_ipv6 ? "[" + spec.host + "]" : spec.host) + ":" + std::to_string(spec.port);
}

Result<> CheckUnique(const std::vector<model::EndpointSpec>& endpoints) {
  std::set<std::string> names;
  std::set<std::string> addresses;
  for (const model::EndpointSpec& spec : endpoints) {
    if (!names.insert(spec.name).second) {
      return Fail(Code::kAlreadyExists, "two endpoints are named '" + spec.name + "'");
    }
    if (!addresses.insert(AddressOf(spec)).second) {
      return Fail(Code::kAlreadyExists, "two endpoints have the address " + AddressOf(spec));
    }
  }
  return {};
}

}  // namespace

Fleet::Fleet(size_t max_endpoints, Journal* journal, std::vector<std::string> attribute_names)
    : max_endpoints_(max_endpoints),
      journal_(journal),
      live_(2 * max_endpoints, std::move(attribute_names)),
      slot_owner_(2 * max_endpoints),
      slot_member_(2 * max_endpoints, -1),
      started_at_(2 * max_endpoints, 0),
      snapshot_(std::make_shared<model::PoolSnapshot>()) {}

int Fleet::MemberOf(uint32_t slot) const {
  return slot < slot_member_.size() ? slot_member_[slot] : -1;
}

Result<uint32_t> Fleet::TakeSlot(const std::string& address) {
  uint32_t best = UINT32_MAX;
  for (uint32_t slot = 0; slot < slot_owner_.size(); ++slot) {
    if (slot_member_[slot] >= 0) continue;
    if (slot_owner_[slot] == address) return slot;  // its old requests, if any, are still there
    const bool is_idle = live_.in_flight_requests[slot].load(std::memory_order_relaxed) == 0;
    if (best == UINT32_MAX && is_idle) best = slot;
  }
  if (best == UINT32_MAX) {
    return Fail(Code::kResourceExhausted, "no slot for endpoint " + address +
                                              ": requests of removed endpoints hold all " +
                                              std::to_string(slot_owner_.size()));
  }
  return best;
}

Result<> Fleet::Replace(std::vector<model::EndpointSpec> endpoints) {
  const Turn turn(journal_);
  if (turn) turn->OnReplaced(endpoints);
  return ReplaceMembers(std::move(endpoints));
}

Result<> Fleet::ReplaceMembers(std::vector<model::EndpointSpec> endpoints) {
  if (endpoints.size() > max_endpoints_) {
    return Fail(Code::kOutOfRange, std::to_string(endpoints.size()) +
                                       " endpoints are more than the limit of " +
                                       std::to_string(max_endpoints_) + " (limits.maxEndpoints)");
  }
  if (Result<> unique = CheckUnique(endpoints); !unique) return unique;
  std::vector<uint32_t> removed;
  std::vector<model::EndpointInfo> changed;
  {
    MutexLock lock(mutex_);
    std::vector<model::EndpointInfo> next;
    std::vector<std::pair<uint32_t, std::string>> owners_before;  // of the slots that were taken
    next.reserve(endpoints.size());
    // Those that stay keep their slot and what is known of them; the rest of the slots are given up
    // first.
    std::vector<bool> stays(members_.size(), false);
    std::vector<int> old_index(endpoints.size(), -1);
    for (size_t i = 0; i < endpoints.size(); ++i) {
      const std::string address = AddressOf(endpoints[i]);
      for (size_t m = 0; m < members_.size(); ++m) {
        if (members_[m].address == address && members_[m].spec.name == endpoints[i].name) {
          stays[m] = true;
          old_index[i] = static_cast<int>(m);
        }
      }
    }
    for (size_t m = 0; m < members_.size(); ++m) {
      if (stays[m]) continue;
      slot_member_[members_[m].slot] = -1;
      removed.push_back(members_[m].slot);
    }
    for (size_t i = 0; i < endpoints.size(); ++i) {
      if (old_index[i] >= 0) {
        model::EndpointInfo info = members_[static_cast<size_t>(old_index[i])];
        if (info.spec != endpoints[i]) {
          info.spec = std::move(endpoints[i]);
          changed.push_back(info);
        }
        next.push_back(std::move(info));
        continue;
      }
      model::EndpointInfo info;
      info.spec = std::move(endpoints[i]);
      info.address = AddressOf(info.spec);
      info.health_reason = "not reached yet";
      Result<uint32_t> slot = TakeSlot(info.address);
      if (!slot) {  // put back what was there, and nobody who was about to come
        for (auto& [taken, owner] : owners_before) slot_owner_[taken] = std::move(owner);
        std::fill(slot_member_.begin(), slot_member_.end(), -1);
        for (size_t m = 0; m < members_.size(); ++m)
          slot_member_[members_[m].slot] = static_cast<int>(m);
        return std::unexpected(slot.error());
      }
      info.slot = *slot;
      owners_before.emplace_back(*slot, std::exchange(slot_owner_[*slot], info.address));
      slot_member_[*slot] = static_cast<int>(i);
      changed.push_back(info);
      next.push_back(std::move(info));
    }
    for (const auto& [slot, owner] : owners_before) {
      removed.push_back(slot);  // whatever an index learnt about the slot was another endpoint's
      started_at_[slot] = 0;
      live_.waiting[slot].store(0, std::memory_order_relaxed);
      live_.running[slot].store(0, std::memory_order_relaxed);
      live_.kv_usage[slot].store(0, std::memory_order_relaxed);
      live_.scraped_at_nanos[slot].store(0, std::memory_order_relaxed);
      live_.SetAttributes(slot, {});
    }
    members_ = std::move(next);
    for (size_t m = 0; m < members_.size(); ++m)
      slot_member_[members_[m].slot] = static_cast<int>(m);
    Publish();
  }
  Notify(std::move(removed), std::move(changed));
  return {};
}

bool Fleet::HasRestarted(uint32_t slot, const EngineSignals& signals) {
  if (!signals.started_at) return false;
  const double before = std::exchange(started_at_[slot], *signals.started_at);
  return before != 0 && before != *signals.started_at;
}

void Fleet::Scraped(uint32_t slot, const EngineSignals& signals, Time now) {
  const Turn turn(journal_);
  if (turn) turn->OnScraped(slot, signals, now);
  std::vector<model::EndpointInfo> changed;
  FleetObserver* forgets = nullptr;
  {
    MutexLock lock(mutex_);
    const int m = MemberOf(slot);
    if (m < 0) return;
    if (HasRestarted(slot, signals)) forgets = observer_;
  }
  // Before the engine is a candidate again, so that no decision counts on what it has lost.
  if (forgets != nullptr) forgets->OnEndpointRestarted(slot);
  {
    MutexLock lock(mutex_);
    const int m = MemberOf(slot);
    if (m < 0) return;
    if (signals.waiting) live_.waiting[slot].store(*signals.waiting, std::memory_order_relaxed);
    if (signals.running) live_.running[slot].store(*signals.running, std::memory_order_relaxed);
    if (signals.kv_usage) live_.kv_usage[slot].store(*signals.kv_usage, std::memory_order_relaxed);
    if (!signals.attributes.empty()) live_.SetAttributes(slot, signals.attributes);
    live_.scraped_at_nanos[slot].store(ToNanos(now), std::memory_order_relaxed);
    model::EndpointInfo& info = members_[static_cast<size_t>(m)];
    const bool same =
        info.health == model::Health::kHealthy && (!signals.lora || *signals.lora == info.lora) &&
        (!signals.block_size_tokens || *signals.block_size_tokens == info.block_size_tokens) &&
        (!signals.gpu_blocks || *signals.gpu_blocks == info.gpu_blocks);
    if (same) return;
    info.health = model::Health::kHealthy;
    info.health_reason.clear();
    if (signals.lora) info.lora = *signals.lora;
    if (signals.block_size_tokens) info.block_size_tokens = *signals.block_size_tokens;
    if (signals.gpu_blocks) info.gpu_blocks = *signals.gpu_blocks;
    changed.push_back(info);
    Publish();
  }
  Notify({}, std::move(changed));
}

void Fleet::ScrapeFailed(uint32_t slot, std::string_view reason, Time now) {
  const Turn turn(journal_);
  if (turn) turn->OnScrapeFailed(slot, reason, now);
  SetHealth(slot, model::Health::kFailed, reason);
}

void Fleet::ConnectFailed(uint32_t slot, std::string_view reason, Time) {
  SetHealth(slot, model::Health::kFailed, reason);
}

void Fleet::SetHealth(uint32_t slot, model::Health health, std::string_view reason) {
  std::vector<model::EndpointInfo> changed;
  {
    MutexLock lock(mutex_);
    const int m = MemberOf(slot);
    if (m < 0) return;
    model::EndpointInfo& info = members_[static_cast<size_t>(m)];
    if (info.health == health && info.health_reason == reason) return;
    info.health = health;
    info.health_reason = reason;
    changed.push_back(info);
    Publish();
  }
  Notify({}, std::move(changed));
}

void Fleet::ModelsRead(uint32_t slot, std::vector<std::string> models, std::string models_json,
                       std::vector<std::string> adapters) {
  const Turn turn(journal_);
  if (turn) turn->OnModelsRead(slot, models);
  std::vector<model::EndpointInfo> changed;
  {
    MutexLock lock(mutex_);
    const int m = MemberOf(slot);
    if (m < 0) return;
    model::EndpointInfo& info = members_[static_cast<size_t>(m)];
    const bool known = !models.empty();
    if (info.models_known == known && info.models == models && info.models_json == models_json)
      return;
    info.models_known = known;
    info.models = std::move(models);
    info.models_json = std::move(models_json);
    info.adapters = std::move(adapters);  // they follow from the JSON
    changed.push_back(info);
    Publish();
  }
  Notify({}, std::move(changed));
}

void Fleet::SetObserver(FleetObserver* observer) {
  std::vector<model::EndpointInfo> present;
  {
    MutexLock lock(mutex_);
    observer_ = observer;
    if (observer != nullptr) present = members_;
  }
  if (observer != nullptr) Notify({}, std::move(present));
}

void Fleet::OnChange(std::function<void()> callback) {
  MutexLock lock(mutex_);
  on_change_ = std::move(callback);
}

void Fleet::Publish() {
  auto next = std::make_shared<model::PoolSnapshot>();
  next->version = ++version_;
  next->endpoints = members_;
  next->Index();
  snapshot_.Store(std::move(next));
}

void Fleet::Notify(std::vector<uint32_t> removed, std::vector<model::EndpointInfo> changed) {
  FleetObserver* observer = nullptr;
  std::function<void()> on_change;
  {
    MutexLock lock(mutex_);
    observer = observer_;
    on_change = on_change_;
  }
  if (observer != nullptr) {
    for (uint32_t slot : removed) observer->OnEndpointRemoved(slot);
    for (const model::EndpointInfo& info : changed) observer->OnEndpointChanged(info);
  }
  if (on_change) on_change();
}

}  // namespace penstock::director
