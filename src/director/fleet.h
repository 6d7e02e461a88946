// The fleet is the pool's state: which endpoints exist, which slot each one has, whether it is
// healthy, what it serves. Discovery and signals report facts here; deciders read snapshots.
//
// An endpoint that left keeps its slot until everything in flight there has ended, so that a late
// release never touches another endpoint's ledger. One that comes back under the same address while
// its old slot drains gets that slot again.
//
// THREADS: internally locked; snapshot() readers never wait for each other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/mutex.h"
#include "core/result.h"
#include "core/snapshot.h"
#include "core/time.h"
#include "director/journal.h"
#include "model/endpoint.h"

namespace penstock::director {

// What one scrape of an engine said. A missing family leaves its value empty and the column
// unchanged.
struct EngineSignals {
  std::optional<float> waiting;
  std::optional<float> running;
  std::optional<float> kv_usage;  // 0..1
  std::optional<model::LoraState> lora;
  std::optional<uint32_t> block_size_tokens;
  std::optional<uint32_t> gpu_blocks;
  std::optional<double> started_at;  // the process's start, Unix seconds
  // By LiveColumns::attribute_names; NaN: not told. Empty: none are read.
  std::vector<float> attributes;
};

// Facts about endpoints that plugins must hear of.
class FleetObserver {
 public:
  virtual ~FleetObserver() = default;
  virtual void OnEndpointRemoved(uint32_t slot) = 0;
  virtual void OnEndpointChanged(const model::EndpointInfo&) = 0;
  // The engine behind the slot is another process now: what it had cached is gone.
  virtual void OnEndpointRestarted(uint32_t slot) = 0;
};

class Fleet {
 public:
  // `journal` may be null; else it outlives the fleet and whoever decides over it.
  explicit Fleet(size_t max_endpoints = 1024, Journal* journal = nullptr,
                 std::vector<std::string> attribute_names = {});

  Journal* journal() const { return journal_; }

  // Makes the pool exactly this set (by name). Errors and leaves the pool as it is for duplicate
  // names or addresses, or more than max_endpoints.
  Result<> Replace(std::vector<model::EndpointSpec> endpoints);

  // Reports of signals, by slot; a slot that is not in the pool any more is ignored.
  void Scraped(uint32_t slot, const EngineSignals& signals, Time now);
  void ScrapeFailed(uint32_t slot, std::string_view reason, Time now);
  // `models` sorted; `models_json` the elements of "data". Empty and known=false: the engine has no
  // /v1/models. `adapters`: those of the models that adapt another one, sorted.
  void ModelsRead(uint32_t slot, std::vector<std::string> models, std::string models_json,
                  std::vector<std::string> adapters = {});
  // Reports of the director, within its turn: the connection was refused, reset before an answer,
  // or timed out.
  void ConnectFailed(uint32_t slot, std::string_view reason, Time now);

  const SnapshotCell<model::PoolSnapshot>& snapshot() const { return snapshot_; }
  model::LiveColumns& live() { return live_; }
  const model::LiveColumns& live() const { return live_; }
  void SetObserver(FleetObserver* observer);
  // Called after each change of membership, health or models, without the lock; from the changing
  // thread.
  void OnChange(std::function<void()> callback);

 private:
  // Index in members_ of the endpoint in `slot`, or -1.
  int MemberOf(uint32_t slot) const REQUIRES_LOCK(mutex_);
  Result<uint32_t> TakeSlot(const std::string& address) REQUIRES_LOCK(mutex_);
  void Publish() REQUIRES_LOCK(mutex_);
  // Whether these signals come from another process than the last ones did.
  bool HasRestarted(uint32_t slot, const EngineSignals& signals) REQUIRES_LOCK(mutex_);
  void SetHealth(uint32_t slot, model::Health health, std::string_view reason);
  void Notify(std::vector<uint32_t> removed, std::vector<model::EndpointInfo> changed);

  Result<> ReplaceMembers(std::vector<model::EndpointSpec> endpoints);

  const size_t max_endpoints_;
  Journal* const journal_;
  model::LiveColumns
      live_;  // twice max_endpoints, so that draining slots never keep a new endpoint out
  mutable Mutex
      mutex_;  // membership, health and model changes and scrapes; never on a request's path
  std::vector<model::EndpointInfo> members_ GUARDED_BY(mutex_);
  std::vector<std::string> slot_owner_
      GUARDED_BY(mutex_);                            // address that last used a slot; "" never used
  std::vector<int> slot_member_ GUARDED_BY(mutex_);  // index in members_, -1: none
  std::vector<double> started_at_ GUARDED_BY(mutex_);  // by slot; 0: not told
  uint64_t version_ GUARDED_BY(mutex_) = 0;
  FleetObserver* observer_ GUARDED_BY(mutex_) = nullptr;
  std::function<void()> on_change_ GUARDED_BY(mutex_);
  SnapshotCell<model::PoolSnapshot> snapshot_;
};

}  // namespace penstock::director
