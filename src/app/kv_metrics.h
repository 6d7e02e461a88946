// Metrics of what is known of the engines' caches and of those who tell: llm-d's names where it has
// them, and what it does not show. Read when somebody asks for /metrics; no series before anybody
// is listened to.
//
// THREADS: Refresh from any thread, one at a time (the registry's collection).
// SOURCE: llm-d-router pkg/kvevents and pkg/kvcache metrics (names).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "admin/caches_json.h"
#include "core/mutex.h"
#include "events/ingest.h"
#include "telemetry/metrics.h"

namespace penstock::app {

class KvMetrics {
 public:
  // Registers the families; Refresh runs at every collection from now on. `heard` may be filled
  // later, before the first collection, and outlives this.
  KvMetrics(telemetry::Registry& registry, const admin::HeardCaches& heard);
  // Brings the families up to date.
  void Refresh() EXCLUDES_LOCK(mutex_);

 private:
  // What is shown of one endpoint, so that it can be taken away.
  struct Shown {
    std::string address;
    std::string_view state, reason;
    uint64_t stored = 0, removed = 0;
  };
  struct CountRow {
    telemetry::Family<telemetry::FollowedCounter>* family;
    uint64_t (*count)(const events::SourceView&);
  };

  void AddCount(telemetry::Registry& registry, std::string_view name, std::string_view help,
                uint64_t (*count)(const events::SourceView&));
  void RefreshSource(const events::SourceView& view, Shown* shown) REQUIRES_LOCK(mutex_);
  void RefreshIndex();
  void RefreshSnapshots();
  void RemoveSource(const std::string& name, const Shown& shown);

  const admin::HeardCaches& heard_;
  std::vector<CountRow> counts_;
  telemetry::Gauge& subscribers_;
  telemetry::Family<telemetry::FollowedCounter>& messages_;
  telemetry::Family<telemetry::FollowedCounter>& reconnections_;
  telemetry::FollowedCounter& admissions_;
  telemetry::FollowedCounter& evictions_;
  telemetry::Family<telemetry::Gauge>& publishers_;
  telemetry::Family<telemetry::Gauge>& state_;
  telemetry::Gauge& unheard_;
  telemetry::Family<telemetry::Gauge>& lag_;
  telemetry::Family<telemetry::Gauge>& blocks_;
  telemetry::Family<telemetry::Gauge>& orphans_;
  telemetry::Family<telemetry::FollowedCounter>& faults_;
  telemetry::Family<telemetry::FollowedCounter>& skipped_;
  telemetry::FollowedCounter& unknown_topics_;
  telemetry::FollowedCounter& malformed_;
  telemetry::Gauge& index_bytes_;
  telemetry::Gauge& index_max_bytes_;
  telemetry::Gauge& index_segments_;
  telemetry::Gauge& index_slots_;
  telemetry::FollowedCounter& index_waits_;
  telemetry::Family<telemetry::Gauge>& snapshot_;
  telemetry::Family<telemetry::FollowedCounter>& snapshots_;
  telemetry::Family<telemetry::FollowedCounter>& snapshot_failures_;
  telemetry::FollowedCounter& restored_publishers_;
  telemetry::FollowedCounter& restored_blocks_;

  Mutex mutex_;  // collections meet when two ask at once
  std::map<std::string, Shown> shown_ GUARDED_BY(mutex_);
  uint64_t stored_ GUARDED_BY(mutex_) = 0, removed_ GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock::app
