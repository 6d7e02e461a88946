// A listener and a plugin for tests: they say what they are told to.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "admin/caches_json.h"

namespace penstock::admin {

class ToldIngest final : public events::Ingest {
 public:
  void SetEndpoints(std::vector<events::EventSource>) override {}
  void Restore(Saved given) override { restored_from = std::move(given); }
  void Save(std::move_only_function<void(Saved)> done) override { done(saved); }
  events::RestoreCounts restored() const override { return restore_counts; }
  std::shared_ptr<const std::vector<events::SourceView>> Views() const override {
    return std::make_shared<std::vector<events::SourceView>>(views);
  }
  uint64_t unknown_topics() const override { return 7; }
  uint64_t malformed_messages() const override { return 8; }
  std::string bound_endpoint() const override { return "tcp://0.0.0.0:5557"; }

  // Of an endpoint at HOST:8000, in the next slot.
  events::SourceView& Add(std::string name, kvcache::PublisherState state,
                          kvcache::PublisherReason reason = kvcache::PublisherReason::kNone) {
    events::SourceView view;
    view.source.address = name + ":8000";
    view.source.name = std::move(name);
    view.source.slot = static_cast<uint32_t>(views.size());
    view.source.events = "tcp://10.0.0.7:5557";
    view.state = state;
    view.reason = reason;
    views.push_back(std::move(view));
    return views.back();
  }
  std::vector<events::SourceView> views;
  Saved saved;          // what Save gives
  Saved restored_from;  // what Restore was given
  events::RestoreCounts restore_counts;
};

class ToldSnapshots final : public SnapshotMaker {
 public:
  bool Make(std::move_only_function<void(Bytes)> done) override {
    if (is_full) return false;
    done(bytes);
    return true;
  }
  SnapshotStats stats() const override { return told; }
  bool is_full = false;
  Bytes bytes;
  SnapshotStats told;
};

class ToldCaches final : public sched::KnowsCaches {
 public:
  kvcache::ExactCaches& caches() override { return caches_; }
  const sched::KvEventSettings& kv_events() const override { return settings; }
  bool HearsAnybody() const override { return false; }
  std::vector<sched::DriftView> drift() const override { return drifts; }
  std::vector<sched::DriftView> drifts;
  sched::KvEventSettings settings{.port = 5557, .replay_port = 5657};

 private:
  kvcache::ExactCaches caches_{{.index = {.block_tokens = 16, .max_slots = 8}}};
};

}  // namespace penstock::admin
