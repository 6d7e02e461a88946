// A pool, a scheduler and a director for the tests of this module: decisions come out as told.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "director/director.h"

namespace penstock::admin {

// Keeps the columns of `keep` (all when empty), scores them by `scores` with weight 2 and picks
// `pick`.
class ToldScheduler : public sched::Scheduler {
 public:
  void Prepare(sched::RequestContext& context, Time) const override { context.input_tokens = 5200; }
  void FillColumns(const sched::RequestContext&, const model::PoolSnapshot& pool,
                   const model::LiveColumns&, Time now,
                   model::EndpointColumns* columns) const override {
    columns->pool = &pool;
    columns->now = now;
    columns->waiting.assign(pool.endpoints.size(), 3);
    columns->in_flight_tokens = in_flight_tokens;
    columns->in_flight_tokens.resize(pool.endpoints.size());
    columns->uncached_tokens.assign(pool.endpoints.size(), 100);
    columns->prefix.resize(1);
    columns->prefix[0].matched_blocks = matched;
    columns->prefix[0].matched_blocks.resize(pool.endpoints.size());
    columns->prefix[0].sources = match_sources;
    columns->prefix[0].told_blocks = told_blocks;
    columns->prefix[0].total_blocks = 85;
    columns->prefix[0].block_size_tokens = 64;
  }
  void Schedule(const sched::RequestContext&, const model::EndpointColumns& columns,
                const Mask& candidates, Random&, sched::Workspace&, sched::DecisionTrace* trace,
                sched::Decision* out) const override {
    out->picks.clear();
    out->verdict = drain ? sched::Verdict::kFilteredOut : sched::Verdict::kPicked;
    out->drained_by = "told-filter";
    if (drain) return;
    const size_t size = columns.size();
    using Traced = sched::ProfileTrace;
    trace->Clear();
    Arena& memory = trace->memory;
    Traced& profile = trace->profiles.emplace_back();
    profile.profile = "default";
    profile.picker_type = picker_type;
    Mask left = candidates;
    if (!keep.empty()) {
      left.Keep([&](size_t i) { return i < keep.size() && keep[i]; });
      const Traced::FilterStep step{"told-filter", trace->Copy(left), filter_type, why_all_pass};
      profile.filters = memory.Copy(std::span(&step, 1));
    }
    if (!scores.empty()) {
      std::vector<float> column = scores;
      column.resize(size);
      std::vector<float> second = other_scores;
      second.resize(size);
      std::vector<float> totals(size);
      for (size_t i = 0; i < size; ++i) totals[i] = 2 * column[i] + second[i];
      profile.totals = memory.Copy(totals);
      const std::vector<Traced::ScoreStep> steps = {
          {"told-scorer", 2, memory.Copy(column), scorer_type},
          {"other-scorer", 1, memory.Copy(second), ""}};
      profile.scores = memory.Copy(steps);
    }
    uint32_t picked = pick;
    if (!left.Test(picked)) left.ForEach([&](size_t i) { picked = static_cast<uint32_t>(i); });
    profile.picks = memory.Copy(std::span<const uint32_t>(&picked, 1));
    out->picks.push_back(picked);
  }
  int64_t TokensToCharge(const sched::RequestContext&, const model::EndpointColumns&,
                         uint32_t) const override {
    return 1000;
  }
  void OnPicked(sched::RequestContext&, const model::EndpointColumns&,
                const sched::Picked&) override {}
  void OnEndpointRemoved(uint32_t) override {}
  void OnEndpointRestarted(uint32_t) override {}
  void OnEndpointChanged(const model::EndpointInfo&) override {}
  void OnTick(Time) override {}
  uint64_t MaxBytes() const override { return 0; }
  bool NeedsMetrics() const override { return false; }
  std::vector<std::string> Describe() const override { return {"profile default: told"}; }

  std::vector<const sched::Plugin*> Instances() const override { return plugins; }

  std::vector<const sched::Plugin*> plugins;
  std::vector<bool> keep;
  std::vector<float> scores, other_scores, matched, told_blocks, in_flight_tokens;
  std::vector<model::MatchSource> match_sources;
  std::string_view filter_type, why_all_pass, scorer_type, picker_type;
  uint32_t pick = 0;
  bool drain = false;
};

// Engines named e0, e1, ... that serve "llama", all healthy.
struct Rig {
  explicit Rig(size_t endpoints) {
    std::vector<model::EndpointSpec> specs;
    for (size_t i = 0; i < endpoints; ++i) {
      specs.push_back({"e" + std::to_string(i),
                       "10.0.0." + std::to_string(i),
                       8000,
                       0,
                       {{"llm-d.ai/role", "decode"}}});
    }
    EXPECT_TRUE(fleet.Replace(std::move(specs)).has_value());
    const auto pool = fleet.snapshot().Get();
    for (const auto& e : pool->endpoints) {
      director::EngineSignals signals;
      signals.waiting = 4;
      signals.kv_usage = 0.25F;
      signals.block_size_tokens = 16;
      fleet.Scraped(e.slot, signals, Time() + seconds(1));
      fleet.ModelsRead(e.slot, {"llama"}, R"({"id":"llama"})");
    }
    auto owned = std::make_unique<ToldScheduler>();
    scheduler = owned.get();
    director =
        std::make_unique<director::Director>(fleet, std::move(owned), director::DirectorOptions());
    lane = std::make_unique<director::Lane>(*director, 1);
  }
  director::Arrival Arrive(std::string id, std::string model = "llama") {
    model::Request request;
    request.id = std::move(id);
    request.api = model::Api::kChatCompletions;
    request.model = request.target_model = std::move(model);
    return lane->Arrive(std::move(request), Time() + seconds(2), 1'700'000'000'000'000);
  }
  // A request from arrival to its good end.
  std::shared_ptr<const director::DecisionRecord> Complete(std::string id) {
    director::Arrival arrival = Arrive(id);
    EXPECT_NE(arrival.flight, nullptr);
    arrival.flight->OnFirstChunk(Time() + milliseconds(2120));
    director::ReportedUsage usage{true, 5210, 214, true, 5000};
    arrival.flight->OnEnd(director::EndKind::kComplete, 200, "", usage,
                          Time() + milliseconds(5500));
    return director->decisions().Find(id);
  }

  director::Fleet fleet{16};
  ToldScheduler* scheduler;
  std::unique_ptr<director::Director> director;
  std::unique_ptr<director::Lane> lane;
};

}  // namespace penstock::admin
