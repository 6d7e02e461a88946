// Listens to the engines' KV events for as long as a plugin wants to know their caches: whom to
// dial, by what discovery says and the plugin's settings.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "admin/caches_json.h"
#include "app/kv_snapshots.h"
#include "core/result.h"
#include "core/snapshot.h"
#include "director/fleet.h"
#include "events/ingest.h"
#include "plugins/filters/label_selector.h"
#include "sched/plugin.h"

namespace penstock::app {

// Of one pool: who is listened to where, and who is not.
struct KvSources {
  std::vector<events::EventSource> heard;
  std::vector<admin::UnheardEndpoint> unheard;  // sorted
};
// Two endpoints with one place to listen at are both left out: whose a batch is, nobody can tell.
// So are those that share a host, where ports are only tried and none is given for them.
KvSources KvSourcesOf(const model::PoolSnapshot& pool, const sched::KvEventSettings& settings,
                      const plugins::LabelSelector& selector);

// THREADS: Follow from one thread at a time; what is const from any.
// OWNS: the listener. REQUIRES: `knows` and the fleet outlive it.
class KvEvents {
 public:
  // Errors: a label selector that is none, an address that cannot be bound, a secret of snapshots
  // that cannot be kept.
  static Result<std::unique_ptr<KvEvents>> Start(sched::KnowsCaches& knows,
                                                 const director::Fleet& fleet);

  // Listens to those that are in the fleet now.
  void Follow();

  const events::Ingest& ingest() const { return *ingest_; }
  admin::HeardCaches heard() const;
  // For the log at start.
  std::string Describe() const;

 private:
  KvEvents(sched::KnowsCaches& knows, const director::Fleet& fleet,
           plugins::LabelSelector selector);

  sched::KnowsCaches& knows_;
  const director::Fleet& fleet_;
  const plugins::LabelSelector selector_;
  uint64_t followed_ = 0;  // id of the snapshot that was
  SnapshotCell<std::vector<admin::UnheardEndpoint>> unheard_{
      std::make_shared<std::vector<admin::UnheardEndpoint>>()};
  std::unique_ptr<events::Ingest> ingest_;
  std::unique_ptr<KvSnapshots> snapshots_;  // null: none are made
};

}  // namespace penstock::app
