#include "app/kv_metrics.h"

#include <array>

#include "kvcache/event_decoder.h"

namespace penstock::app {
namespace {

using events::SourceView;

constexpr size_t kMaxSeries = 20'000;  // of families with one series an endpoint
constexpr size_t kSkipReasons = 9;

// Of stores and removals that could not be applied, by why.
std::array<std::pair<std::string_view, uint64_t>, kSkipReasons> SkippedOf(const SourceView& view) {
  const kvcache::HolderCounters& c = view.counters;
  return {{{"malformed", c.events_malformed},
           {"self_referencing", c.events_self_referencing},
           {"misplaced", c.events_misplaced},
           {"remote", c.events_remote},
           {"other_kind", c.events_other_kind},
           {"unkeyed", c.unkeyed},
           {"ambiguous", c.ambiguous},
           {"orphans_dropped", c.orphans_dropped},
           {"removed_unknown", c.removed_unknown}}};
}

// What was added since `before`; all of it where another one counts now.
uint64_t Growth(uint64_t now, uint64_t before) { return now >= before ? now - before : now; }

}  // namespace

KvMetrics::KvMetrics(telemetry::Registry& r, const admin::HeardCaches& heard)
    : heard_(heard),
      subscribers_(r.AddGauge("llm_d_epp_kv_cache_events_active_subscribers",
                              "Endpoints whose KV events are listened to.")),
      messages_(r.AddFollowedCounterFamily("llm_d_epp_kv_cache_events_messages_received_total",
                                           "Batches of KV events that came from an endpoint.",
                                           {"pod_identifier"}, kMaxSeries)),
      reconnections_(
          r.AddFollowedCounterFamily("llm_d_epp_kv_cache_events_subscriber_reconnections_total",
                                     "Connections to an endpoint's KV events after the first one.",
                                     {"pod_identifier"}, kMaxSeries)),
      admissions_(r.AddFollowedCounter("llm_d_epp_kv_cache_index_admissions_total",
                                       "Blocks that engines stored, as the index has them.")),
      evictions_(r.AddFollowedCounter("llm_d_epp_kv_cache_index_evictions_total",
                                      "Blocks that engines removed or cleared.")),
      publishers_(r.AddGaugeFamily("penstock_kv_events_publishers",
                                   "Endpoints that are listened to, by state.", {"state"})),
      state_(r.AddGaugeFamily("penstock_kv_events_publisher_state",
                              "Always 1; the state that an endpoint's publisher is in, and why.",
                              {"endpoint_name", "state", "reason"}, kMaxSeries)),
      unheard_(r.AddGauge("penstock_kv_events_unheard_endpoints",
                          "Endpoints of the pool that nobody listens to; /debug/kv says why.")),
      lag_(r.AddGaugeFamily("penstock_kv_events_lag_seconds",
                            "Age of the last live batch when it came, by the engine's clock and "
                            "this one.",
                            {"endpoint_name"}, kMaxSeries)),
      blocks_(r.AddGaugeFamily("penstock_kv_cache_blocks",
                               "Blocks of the engine that it is known to hold, by tier.",
                               {"endpoint_name", "tier"}, kMaxSeries)),
      orphans_(r.AddGaugeFamily("penstock_kv_cache_orphans",
                                "Stores that wait for the block before them.", {"endpoint_name"},
                                kMaxSeries)),
      faults_(r.AddFollowedCounterFamily("penstock_kv_events_faults_total",
                                         "KV events that were not understood.",
                                         {"endpoint_name", "reason"}, kMaxSeries)),
      skipped_(r.AddFollowedCounterFamily(
          "penstock_kv_events_skipped_total",
          "Blocks or events that were understood and have no place in the index.",
          {"endpoint_name", "reason"}, kMaxSeries)),
      unknown_topics_(r.AddFollowedCounter(
          "penstock_kv_events_unknown_topics_total",
          "Batches at the bound socket whose topic names no endpoint of the pool.")),
      malformed_(r.AddFollowedCounter("penstock_kv_events_malformed_messages_total",
                                      "Messages that are no batch of KV events.")),
      index_bytes_(r.AddGauge("penstock_kv_cache_index_bytes",
                              "Memory of the index of the engines' blocks.")),
      index_max_bytes_(r.AddGauge("penstock_kv_cache_index_max_bytes",
                                  "Its budget; beyond it the oldest blocks are left out.")),
      index_segments_(r.AddGauge("penstock_kv_cache_index_segments",
                                 "Pieces of chains that the index consists of.")),
      index_slots_(
          r.AddGauge("penstock_kv_cache_index_slots", "Endpoints that have a place in the index.")),
      index_waits_(r.AddFollowedCounter(
          "penstock_kv_cache_index_garbage_waits_total",
          "How often a writer waited for a reader, because too much was to be freed.")),
      snapshot_(r.AddGaugeFamily("penstock_kv_snapshot",
                                 "The last snapshot of the caches: its bytes, blocks and "
                                 "publishers, the seconds that it took, and since then.",
                                 {"what"})),
      snapshots_(r.AddFollowedCounterFamily("penstock_kv_snapshots_total",
                                            "Snapshots written to the file, or served to other "
                                            "routers.",
                                            {"to"})),
      snapshot_failures_(r.AddFollowedCounterFamily(
          "penstock_kv_snapshot_failures_total",
          "Snapshots, or publishers in them, that could not be used or made.", {"reason"})),
      restored_publishers_(
          r.AddFollowedCounter("penstock_kv_snapshot_restored_publishers_total",
                               "Endpoints whose blocks were taken over from a snapshot.")),
      restored_blocks_(r.AddFollowedCounter("penstock_kv_snapshot_restored_blocks_total",
                                            "Blocks that were taken over from a snapshot.")) {
  AddCount(r, "penstock_kv_events_total", "KV events in those batches.",
           [](const SourceView& v) { return v.events; });
  AddCount(r, "penstock_kv_events_bytes_total", "Bytes of those batches.",
           [](const SourceView& v) { return v.bytes; });
  AddCount(r, "penstock_kv_events_gaps_total", "How often batches were missed.",
           [](const SourceView& v) { return v.gaps; });
  AddCount(r, "penstock_kv_events_missed_batches_total",
           "Batches that never came, nor could be had again.",
           [](const SourceView& v) { return v.missed; });
  AddCount(r, "penstock_kv_events_repeated_batches_total", "Batches that had come before.",
           [](const SourceView& v) { return v.repeated; });
  AddCount(r, "penstock_kv_events_broken_batches_total", "Batches that break off.",
           [](const SourceView& v) { return v.broken; });
  AddCount(r, "penstock_kv_events_restarts_total", "New processes at the same place.",
           [](const SourceView& v) { return v.restarts; });
  AddCount(r, "penstock_kv_events_replays_total", "How often history was asked for.",
           [](const SourceView& v) { return v.replays; });
  r.OnCollect([this] { Refresh(); });
}

void KvMetrics::AddCount(telemetry::Registry& registry, std::string_view name,
                         std::string_view help, uint64_t (*count)(const SourceView&)) {
  counts_.push_back(
      {&registry.AddFollowedCounterFamily(name, help, {"endpoint_name"}, kMaxSeries), count});
}

void KvMetrics::Refresh() {
  if (heard_.knows == nullptr) return;
  MutexLock lock(mutex_);
  const auto views = heard_.ingest->Views();
  std::array<uint64_t, kvcache::kPublisherStates> states{};
  std::map<std::string, Shown> shown;
  for (const SourceView& view : *views) {
    ++states[static_cast<size_t>(view.state)];
    const auto before = shown_.find(view.source.name);
    Shown one;
    if (before != shown_.end() && before->second.address == view.source.address) {
      one = std::move(before->second);
      shown_.erase(before);
    } else {
      one.address = view.source.address;
    }
    RefreshSource(view, &one);
    shown.emplace(view.source.name, std::move(one));
  }
  shown_.swap(shown);
  for (const auto& [name, one] : shown) {
    if (!shown_.contains(name)) RemoveSource(name, one);
  }
  for (size_t i = 0; i < states.size(); ++i) {
    publishers_.With({kvcache::PublisherStateName(static_cast<kvcache::PublisherState>(i))})
        .Set(static_cast<double>(states[i]));
  }
  subscribers_.Set(static_cast<double>(views->size()));
  unheard_.Set(static_cast<double>(heard_.unheard()->size()));
  admissions_.Follow(static_cast<double>(stored_));
  evictions_.Follow(static_cast<double>(removed_));
  unknown_topics_.Follow(static_cast<double>(heard_.ingest->unknown_topics()));
  malformed_.Follow(static_cast<double>(heard_.ingest->malformed_messages()));
  RefreshIndex();
  RefreshSnapshots();
}

void KvMetrics::RefreshSource(const SourceView& view, Shown* shown) {
  const std::string& name = view.source.name;
  const std::string_view state = kvcache::PublisherStateName(view.state);
  const std::string_view reason = kvcache::PublisherReasonName(view.reason);
  if (!shown->state.empty() && (shown->state != state || shown->reason != reason)) {
    state_.Remove({name, shown->state, shown->reason});
  }
  shown->state = state;
  shown->reason = reason;
  state_.With({name, state, reason}).Set(1);
  messages_.With({shown->address}).Follow(static_cast<double>(view.batches + view.repeated));
  reconnections_.With({shown->address})
      .Follow(static_cast<double>(view.connections > 0 ? view.connections - 1 : 0));
  for (const CountRow& row : counts_) {
    row.family->With({name}).Follow(static_cast<double>(row.count(view)));
  }
  if (view.lag_s) lag_.With({name}).Set(*view.lag_s);
  orphans_.With({name}).Set(static_cast<double>(view.orphans));
  for (size_t i = 0; i < kvcache::kTiers; ++i) {
    blocks_.With({name, kvcache::TierName(static_cast<kvcache::Tier>(i))})
        .Set(static_cast<double>(view.tier_blocks[i]));
  }
  // Only what happened has a series.
  for (size_t i = 0; i < kvcache::kEventFaults; ++i) {
    if (view.faults[i] == 0) continue;
    faults_.With({name, kvcache::EventFaultName(static_cast<kvcache::EventFault>(i))})
        .Follow(static_cast<double>(view.faults[i]));
  }
  for (const auto& [why, count] : SkippedOf(view)) {
    if (count > 0) skipped_.With({name, why}).Follow(static_cast<double>(count));
  }
  const uint64_t removed = view.counters.removed + view.counters.cleared;
  stored_ += Growth(view.counters.stored, std::exchange(shown->stored, view.counters.stored));
  removed_ += Growth(removed, std::exchange(shown->removed, removed));
}

void KvMetrics::RefreshIndex() {
  const kvcache::ChainIndex& index = heard_.knows->caches().index();
  index_bytes_.Set(static_cast<double>(index.bytes()));
  index_max_bytes_.Set(static_cast<double>(index.max_bytes()));
  index_segments_.Set(static_cast<double>(index.segments()));
  index_slots_.Set(static_cast<double>(index.slots()));
  index_waits_.Follow(static_cast<double>(index.garbage_waits()));
}

void KvMetrics::RefreshSnapshots() {
  if (heard_.snapshots == nullptr) return;
  const admin::SnapshotStats stats = heard_.snapshots->stats();
  const events::RestoreCounts restored = heard_.ingest->restored();
  restored_publishers_.Follow(static_cast<double>(restored.publishers));
  restored_blocks_.Follow(static_cast<double>(restored.blocks));
  snapshots_.With({"file"}).Follow(static_cast<double>(stats.written));
  snapshots_.With({"router"}).Follow(static_cast<double>(stats.served));
  for (const auto& [why, count] : admin::SnapshotFailures(stats, restored)) {
    if (count > 0) snapshot_failures_.With({why}).Follow(static_cast<double>(count));
  }
  if (stats.age_s < 0) return;
  snapshot_.With({"bytes"}).Set(static_cast<double>(stats.bytes));
  snapshot_.With({"blocks"}).Set(static_cast<double>(stats.blocks));
  snapshot_.With({"publishers"}).Set(static_cast<double>(stats.publishers));
  snapshot_.With({"seconds"}).Set(stats.seconds);
  snapshot_.With({"age_seconds"}).Set(stats.age_s);
}

void KvMetrics::RemoveSource(const std::string& name, const Shown& shown) {
  state_.Remove({name, shown.state, shown.reason});
  messages_.Remove({shown.address});
  reconnections_.Remove({shown.address});
  for (const CountRow& row : counts_) row.family->Remove({name});
  lag_.Remove({name});
  orphans_.Remove({name});
  for (size_t i = 0; i < kvcache::kTiers; ++i) {
    blocks_.Remove({name, kvcache::TierName(static_cast<kvcache::Tier>(i))});
  }
  for (size_t i = 0; i < kvcache::kEventFaults; ++i) {
    faults_.Remove({name, kvcache::EventFaultName(static_cast<kvcache::EventFault>(i))});
  }
  for (const auto& [why, count] : SkippedOf({})) skipped_.Remove({name, why});
}

}  // namespace penstock::app
