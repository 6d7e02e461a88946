#include "director/director.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <array>
#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "core/mutex.h"

namespace penstock::director {
namespace {

using model::EndpointSpec;
using testing::HasSubstr;

// Picks the candidate with the fewest requests in flight, first column first; charges 10 tokens.
class FewestRequests : public sched::Scheduler {
 public:
  void Prepare(sched::RequestContext& context, Time) const override { context.input_tokens = 10; }
  void FillColumns(const sched::RequestContext&, const model::PoolSnapshot& pool,
                   const model::LiveColumns& live, Time now,
                   model::EndpointColumns* columns) const override {
    columns->pool = &pool;
    columns->now = now;
    columns->in_flight_requests.clear();
    for (const model::EndpointInfo& e : pool.endpoints) {
      columns->in_flight_requests.push_back(
          static_cast<float>(live.in_flight_requests[e.slot].load()));
    }
  }
  void Schedule(const sched::RequestContext&, const model::EndpointColumns& columns,
                const Mask& candidates, Random&, sched::Workspace&, sched::DecisionTrace*,
                sched::Decision* out) const override {
    out->picks.clear();
    out->verdict = drain ? sched::Verdict::kFilteredOut : sched::Verdict::kPicked;
    out->drained_by = "test-filter";
    if (drain) return;
    size_t best = columns.size();
    candidates.ForEach([&](size_t i) {
      if (best == columns.size() ||
          columns.in_flight_requests[i] < columns.in_flight_requests[best])
        best = i;
    });
    out->picks.push_back(static_cast<uint32_t>(best));
    out->picks.insert(out->picks.end(), also_picks.begin(), also_picks.end());
  }
  int64_t TokensToCharge(const sched::RequestContext&, const model::EndpointColumns&,
                         uint32_t) const override {
    return 10;
  }
  void OnPicked(sched::RequestContext&, const model::EndpointColumns&,
                const sched::Picked&) override {
    ++picked;
  }
  void OnEndpointRemoved(uint32_t slot) override {
    MutexLock lock(mutex);
    removed.push_back(slot);
  }
  void OnEndpointRestarted(uint32_t slot) override {
    MutexLock lock(mutex);
    restarted.push_back(slot);
  }
  void OnEndpointChanged(const model::EndpointInfo& info) override {
    if (on_changed) on_changed(info);
  }
  void OnTick(Time) override {}
  uint64_t MaxBytes() const override { return 0; }
  bool NeedsMetrics() const override { return false; }
  std::vector<std::string> Describe() const override { return {}; }

  bool ChargesTheAnswer() const override { return charges_the_answer; }
  std::optional<sched::Detour> detour() const override { return way; }

  bool drain = false;
  std::vector<uint32_t> also_picks;
  bool charges_the_answer = false;
  std::optional<sched::Detour> way;
  std::atomic<int> picked = 0;
  std::function<void(const model::EndpointInfo&)> on_changed;
  Mutex mutex;  // for the tests with threads
  std::vector<uint32_t> removed;
  std::vector<uint32_t> restarted;
};

EndpointSpec Spec(int i) {
  return {"e" + std::to_string(i), "10.0.0." + std::to_string(i), 8000, 0, {}};
}

struct Rig {
  explicit Rig(int endpoints, DirectorOptions options = {}) : fleet(16) {
    std::vector<EndpointSpec> specs;
    for (int i = 0; i < endpoints; ++i) specs.push_back(Spec(i));
    EXPECT_TRUE(fleet.Replace(std::move(specs)).has_value());
    const auto pool = fleet.snapshot().Get();
    for (const auto& e : pool->endpoints) {
      fleet.Scraped(e.slot, {}, Time());
      fleet.ModelsRead(e.slot, {"llama"}, R"({"id":"llama"})");
    }
    auto owned = std::make_unique<FewestRequests>();
    scheduler = owned.get();
    director = std::make_unique<Director>(fleet, std::move(owned), std::move(options));
    lane = std::make_unique<Lane>(*director, 1);
  }
  Arrival Arrive(std::string model = "llama", int64_t at_ms = 0) {
    model::Request request;
    request.id = "r" + std::to_string(++count);
    request.model = request.target_model = std::move(model);
    return lane->Arrive(std::move(request), Time() + milliseconds(at_ms), 0);
  }
  int64_t Requests(uint32_t slot) { return fleet.live().in_flight_requests[slot].load(); }
  int64_t Tokens(uint32_t slot) { return fleet.live().in_flight_tokens[slot].load(); }

  Fleet fleet;
  FewestRequests* scheduler;
  std::unique_ptr<Director> director;
  std::unique_ptr<Lane> lane;
  int count = 0;
};

TEST(Director, ADetourSendsToAnotherPortAndNamesThePick) {
  Rig rig(3);
  Arrival direct = rig.Arrive();
  ASSERT_NE(direct.flight, nullptr);
  EXPECT_EQ(direct.flight->target().destination(), direct.flight->target().address);
  EXPECT_EQ(direct.flight->target().dial_port, 8000);
  EXPECT_TRUE(direct.flight->target().headers.empty());
  rig.scheduler->way = sched::Detour{9000, "x-rank"};
  rig.scheduler->also_picks = {2};
  Arrival a = rig.Arrive();
  ASSERT_NE(a.flight, nullptr);
  const Target& target = a.flight->target();
  EXPECT_EQ(target.address, "10.0.0.1:8000");
  EXPECT_EQ(target.port, 8000);
  EXPECT_EQ(target.destination(), "10.0.0.1:9000");
  EXPECT_EQ(target.dial_port, 9000);
  EXPECT_THAT(target.headers, testing::ElementsAre(testing::Pair("x-rank", "10.0.0.1:8000")));
  EXPECT_TRUE(target.fallbacks.empty()) << "the header names one endpoint";
  // Who serves is told as the destination.
  EXPECT_FALSE(a.flight->OnServedBy("10.0.0.1:9000", Time()));
  EXPECT_EQ(rig.Requests(target.slot), 1);
}

TEST(Director, AClaimMovesToWhoServes) {
  Rig rig(3);
  Arrival a = rig.Arrive();
  ASSERT_NE(a.flight, nullptr);
  const uint32_t picked = a.flight->target().slot;
  const uint32_t other = picked == 2 ? 1 : 2;
  EXPECT_FALSE(a.flight->OnServedBy(a.flight->target().address, Time() + milliseconds(1)));
  EXPECT_FALSE(a.flight->OnServedBy("10.9.9.9:1", Time() + milliseconds(1)));
  EXPECT_TRUE(
      a.flight->OnServedBy("10.0.0." + std::to_string(other) + ":8000", Time() + milliseconds(2)));
  EXPECT_EQ(rig.Requests(picked), 0);
  EXPECT_EQ(rig.Tokens(picked), 0);
  EXPECT_EQ(rig.Requests(other), 1);
  EXPECT_EQ(rig.Tokens(other), 10);
  EXPECT_EQ(rig.scheduler->picked, 2);
  a.flight->OnFirstChunk(Time() + milliseconds(3));
  EXPECT_FALSE(
      a.flight->OnServedBy("10.0.0." + std::to_string(picked) + ":8000", Time() + milliseconds(4)));
  a.flight->OnEnd(EndKind::kComplete, 200, "", {}, Time() + milliseconds(9));
  EXPECT_EQ(rig.Requests(other), 0);
}

TEST(Director, ClaimsAtThePickAndReleasesTokensAtTheFirstChunk) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  ASSERT_NE(a.flight, nullptr);
  const uint32_t slot = a.flight->target().slot;
  EXPECT_EQ(rig.Requests(slot), 1);
  EXPECT_EQ(rig.Tokens(slot), 10);
  a.flight->OnFirstChunk(Time() + milliseconds(5));
  a.flight->OnFirstChunk(Time() + milliseconds(6));
  EXPECT_EQ(rig.Requests(slot), 1);
  EXPECT_EQ(rig.Tokens(slot), 0);
  a.flight->OnEnd(EndKind::kComplete, 200, "", {}, Time() + milliseconds(9));
  a.flight->OnEnd(EndKind::kClientGone, 0, "", {}, Time() + milliseconds(10));
  EXPECT_EQ(rig.Requests(slot), 0);
  const auto record = rig.director->decisions().Find("r1");
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->end, EndKind::kComplete);
  EXPECT_DOUBLE_EQ(record->ttft_s, 0.005);
  EXPECT_DOUBLE_EQ(record->e2e_s, 0.009);
}

TEST(Director, TokensThatStandForTheAnswerStayUntilTheEnd) {
  Rig rig(1);
  rig.scheduler->charges_the_answer = true;
  Arrival a = rig.Arrive();
  a.flight->OnFirstChunk(Time());
  EXPECT_EQ(rig.Tokens(0), 10);
  a.flight->OnEnd(EndKind::kComplete, 200, "", {}, Time());
  EXPECT_EQ(rig.Tokens(0), 0);
}

TEST(Director, SimultaneousRequestsDoNotHerd) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  Arrival b = rig.Arrive();
  EXPECT_NE(a.flight->target().slot, b.flight->target().slot);
}

TEST(Director, ADroppedFlightCountsAsClientGone) {
  Rig rig(1);
  { Arrival a = rig.Arrive(); }
  EXPECT_EQ(rig.Requests(0), 0);
  EXPECT_EQ(rig.Tokens(0), 0);
  EXPECT_EQ(rig.director->decisions().Find("r1")->end, EndKind::kClientGone);
}

TEST(Director, RetriesOnAnotherEndpointAndMarksTheFirstFailed) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  const uint32_t first = a.flight->target().slot;
  ASSERT_TRUE(a.flight->OnTryFailed(TryFailure::kConnect, Time()));
  EXPECT_NE(a.flight->target().slot, first);
  EXPECT_EQ(rig.Requests(first), 0);
  EXPECT_EQ(rig.Requests(a.flight->target().slot), 1);
  EXPECT_EQ(rig.fleet.snapshot().Get()->healthy.Count(), 1u);
  // The second try was the last one.
  EXPECT_FALSE(a.flight->OnTryFailed(TryFailure::kConnect, Time()));
  EXPECT_EQ(rig.Requests(0) + rig.Requests(1), 0);
  EXPECT_EQ(rig.Tokens(0) + rig.Tokens(1), 0);
}

TEST(Director, A503DoesNotTakeTheEndpointOutOfTheCandidates) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  EXPECT_TRUE(a.flight->OnTryFailed(TryFailure::kStatus503, Time()));
  EXPECT_EQ(rig.fleet.snapshot().Get()->healthy.Count(), 2u);
}

TEST(Director, WhatThisProcessLacksIsNotHeldAgainstTheEndpoint) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  const uint32_t first = a.flight->target().slot;
  ASSERT_TRUE(a.flight->OnTryFailed(TryFailure::kLocal, Time()));
  EXPECT_NE(a.flight->target().slot, first);
  EXPECT_EQ(a.flight->record().attempts[0].failure, "local");
  EXPECT_EQ(rig.fleet.snapshot().Get()->healthy.Count(), 2u);
  EXPECT_FALSE(a.flight->OnTryFailed(TryFailure::kLocal, Time()));
  EXPECT_EQ(rig.Requests(0) + rig.Requests(1), 0);
  EXPECT_EQ(rig.fleet.snapshot().Get()->healthy.Count(), 2u);
}
TEST(Director, NothingIsRetriedAfterTheFirstChunk) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  a.flight->OnFirstChunk(Time());
  EXPECT_FALSE(a.flight->OnTryFailed(TryFailure::kReset, Time()));
}

TEST(Director, RetriesStayInsideTheBudget) {
  RetryBudget budget(0.2, 3);
  EXPECT_TRUE(budget.TryTake());
  EXPECT_TRUE(budget.TryTake());
  EXPECT_TRUE(budget.TryTake());
  EXPECT_FALSE(budget.TryTake());
  for (int i = 0; i < 5; ++i) budget.OnRequest();
  EXPECT_TRUE(budget.TryTake());
  EXPECT_FALSE(budget.TryTake());
  EXPECT_FALSE(RetryBudget(0).TryTake());
}

TEST(Director, AnUnknownModelIs404WithTheKnownOnes) {
  Rig rig(1);
  Arrival a = rig.Arrive("gpt-x");
  EXPECT_EQ(a.flight, nullptr);
  EXPECT_EQ(a.rejection.status, 404);
  EXPECT_THAT(a.rejection.message, HasSubstr("Known models: llama"));
}

TEST(Director, AModelThatAnUnreachedEndpointMayServeIs503) {
  Rig rig(1);
  ASSERT_TRUE(rig.fleet.Replace({Spec(0), Spec(1)}).has_value());
  Arrival a = rig.Arrive("gpt-x");
  EXPECT_EQ(a.rejection.status, 503);
  EXPECT_EQ(a.rejection.message,
            "No healthy engine for the model 'gpt-x' (1 not healthy: e1: not reached yet). Known "
            "models: llama.");
}

TEST(Director, AFailureIsReportedWhileTheSlotIsStillTheEndpoints) {
  Rig rig(1);
  Arrival a = rig.Arrive();
  int64_t held = -1;
  rig.scheduler->on_changed = [&](const model::EndpointInfo& info) {
    held = rig.Requests(info.slot);
  };
  a.flight->OnTryFailed(TryFailure::kConnect, Time());
  EXPECT_EQ(held, 1);
  EXPECT_EQ(rig.Requests(0), 0);
}

TEST(Director, AFailedTryFailsOnce) {
  Rig rig(1);
  Arrival a = rig.Arrive();
  EXPECT_FALSE(a.flight->OnTryFailed(TryFailure::kReset, Time()));
  rig.fleet.Scraped(0, {}, Time());
  // The slot may be another endpoint's by now.
  EXPECT_FALSE(a.flight->OnTryFailed(TryFailure::kReset, Time()));
  EXPECT_EQ(rig.fleet.snapshot().Get()->healthy.Count(), 1u);
}

TEST(Director, OneRequestInFiveMayBeRetriedOnceTheReserveIsSpent) {
  Rig rig(3);
  int retries = 0;
  for (int i = 0; i < 1000; ++i) {
    Arrival a = rig.Arrive();
    retries += a.flight->OnTryFailed(TryFailure::kStatus503, Time()) ? 1 : 0;
    EXPECT_FALSE(a.flight->OnTryFailed(TryFailure::kStatus503, Time()));  // two tries at most
  }
  EXPECT_NEAR(retries, 200 + 1000 / 5, 1);
}

TEST(Director, NoHealthyEndpointIs503WithTheReason) {
  Rig rig(1);
  rig.fleet.ScrapeFailed(0, "connection refused", Time());
  Arrival a = rig.Arrive();
  EXPECT_EQ(a.rejection.status, 503);
  EXPECT_THAT(a.rejection.message, HasSubstr("e0: connection refused"));
}

TEST(Director, FiltersThatLeaveNobodyAre429) {
  Rig rig(1);
  rig.scheduler->drain = true;
  Arrival a = rig.Arrive();
  EXPECT_EQ(a.rejection.status, 429);
  EXPECT_EQ(rig.director->decisions().Find("r1")->end, EndKind::kRejected);
}

TEST(Director, ASubsetRestrictsWhoMayServe) {
  Rig rig(4);
  const auto arrive = [&](std::optional<std::vector<std::string>> subset) {
    model::Request request;
    request.id = "r";
    request.subset = std::move(subset);
    return rig.lane->Arrive(std::move(request), Time() + seconds(1), 0);
  };
  std::vector<Arrival> held;  // so that load would spread them
  for (int i = 0; i < 6; ++i) {
    held.push_back(arrive(std::vector{Spec(1).host, Spec(2).host}));
    ASSERT_NE(held.back().flight, nullptr);
    EXPECT_THAT(held.back().flight->target().host, testing::AnyOf(Spec(1).host, Spec(2).host));
  }
  EXPECT_NE(arrive(std::nullopt).flight, nullptr);
  for (const auto& nobody : {std::vector<std::string>{}, std::vector<std::string>{"10.9.9.9"}}) {
    const Arrival refused = arrive(nobody);
    EXPECT_EQ(refused.flight, nullptr);
    EXPECT_EQ(refused.rejection.status, 503);
    EXPECT_THAT(refused.rejection.message, HasSubstr("that the proxy allows"));
  }
  // A retry stays inside of it.
  EXPECT_FALSE(arrive(std::vector{Spec(3).host})
                   .flight->OnTryFailed(TryFailure::kStatus503, Time() + seconds(2)));
}

TEST(Director, TheNextBestPicksAreFallbacks) {
  Rig rig(3);
  rig.scheduler->also_picks = {2, 0};
  const Arrival arrival = rig.Arrive();
  const auto pool = rig.fleet.snapshot().Get();
  EXPECT_THAT(arrival.flight->target().fallbacks,
              testing::ElementsAre(pool->endpoints[2].address, pool->endpoints[0].address));
}

TEST(Fleet, AReturningAddressGetsItsOldSlotAndLedgersSurvive) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  const uint32_t slot = a.flight->target().slot;
  const std::string_view name = a.flight->target().name;
  std::vector<EndpointSpec> without;
  for (int i = 0; i < 2; ++i) {
    if (Spec(i).name != name) without.push_back(Spec(i));
  }
  ASSERT_TRUE(rig.fleet.Replace(without).has_value());
  EXPECT_THAT(rig.scheduler->removed, testing::Contains(slot));
  // A newcomer does not get a slot that still has requests in flight.
  without.push_back(Spec(7));
  ASSERT_TRUE(rig.fleet.Replace(without).has_value());
  auto pool = rig.fleet.snapshot().Get();
  for (const auto& e : pool->endpoints) EXPECT_NE(e.slot, slot);
  ASSERT_TRUE(rig.fleet.Replace({Spec(0), Spec(1)}).has_value());
  bool found = false;
  pool = rig.fleet.snapshot().Get();
  for (const auto& e : pool->endpoints) found |= e.slot == slot && e.spec.name == name;
  EXPECT_TRUE(found);
  a.flight->OnEnd(EndKind::kComplete, 200, "", {}, Time());
  EXPECT_EQ(rig.Requests(slot), 0);
}

TEST(Fleet, ARefusedReplacementLeavesNoTrace) {
  Fleet fleet(2);
  const auto hold_all = [&] {
    for (const auto& e : fleet.snapshot().Get()->endpoints) {
      fleet.live().in_flight_requests[e.slot].store(1);
    }
  };
  ASSERT_TRUE(fleet.Replace({Spec(0), Spec(1)}).has_value());
  hold_all();
  ASSERT_TRUE(fleet.Replace({Spec(2), Spec(3)}).has_value());
  hold_all();
  fleet.live().in_flight_requests[1].store(0);  // room for one of the next two
  EXPECT_EQ(fleet.Replace({Spec(4), Spec(5)}).error().code, Code::kResourceExhausted);
  fleet.Scraped(1, {}, Time());  // nobody is there
  EXPECT_TRUE(fleet.snapshot().Get()->healthy.Empty());
  EXPECT_TRUE(fleet.Replace({Spec(2), Spec(4)}).has_value());
}

TEST(Fleet, WhoWasRefusedOwnsNoSlot) {
  Fleet fleet(2);
  const auto slot_of = [&](int i) {
    for (const auto& e : fleet.snapshot().Get()->endpoints) {
      if (e.spec.name == Spec(i).name) return e.slot;
    }
    return UINT32_MAX;
  };
  const auto requests = [&](uint32_t slot, int64_t count) {
    fleet.live().in_flight_requests[slot].store(count);
  };
  ASSERT_TRUE(fleet.Replace({Spec(0), Spec(1)}).has_value());
  requests(slot_of(0), 1);
  requests(slot_of(1), 1);
  const uint32_t first = slot_of(0);
  ASSERT_TRUE(fleet.Replace({Spec(2), Spec(3)}).has_value());
  requests(slot_of(2), 1);
  const uint32_t idle = slot_of(3);
  // The first of the two could have the idle one's slot; there is none for the second.
  ASSERT_FALSE(fleet.Replace({Spec(4), Spec(5)}).has_value());
  ASSERT_EQ(slot_of(3), idle);
  requests(idle, 1);
  requests(first, 0);
  ASSERT_TRUE(fleet.Replace({Spec(4)}).has_value());
  EXPECT_EQ(slot_of(4), first) << "the other one still has requests of endpoint 3";
}

TEST(Fleet, RefusesDuplicatesAndTooMany) {
  Fleet fleet(2);
  EXPECT_EQ(fleet.Replace({Spec(1), Spec(1)}).error().code, Code::kAlreadyExists);
  EXPECT_EQ(fleet.Replace({Spec(1), Spec(2), Spec(3)}).error().code, Code::kOutOfRange);
  EXPECT_TRUE(fleet.snapshot().Get()->endpoints.empty());
}

TEST(Fleet, AFailedEndpointComesBackWithItsNextGoodScrape) {
  Rig rig(1);
  rig.fleet.ConnectFailed(0, "refused", Time());
  EXPECT_TRUE(rig.fleet.snapshot().Get()->healthy.Empty());
  rig.fleet.Scraped(0, {}, Time());
  EXPECT_FALSE(rig.fleet.snapshot().Get()->healthy.Empty());
}

TEST(Fleet, TellsARestartByTheProcessesStartTime) {
  Rig rig(2);
  EngineSignals signals;
  signals.started_at = 1000.5;
  rig.fleet.Scraped(1, signals, Time());
  rig.fleet.Scraped(1, {}, Time());  // a page that does not tell
  rig.fleet.Scraped(1, signals, Time());
  rig.fleet.ScrapeFailed(1, "timeout", Time());
  rig.fleet.Scraped(1, signals, Time());
  EXPECT_TRUE(rig.scheduler->restarted.empty());
  signals.started_at = 2000;
  rig.fleet.Scraped(1, signals, Time());
  rig.fleet.Scraped(1, signals, Time());
  EXPECT_EQ(rig.scheduler->restarted, std::vector<uint32_t>{1});
}

TEST(Fleet, ReportsOfASlotThatLeftAreIgnored) {
  Rig rig(1);
  ASSERT_TRUE(rig.fleet.Replace({}).has_value());
  rig.fleet.Scraped(0, {}, Time());
  rig.fleet.ScrapeFailed(0, "x", Time());
  rig.fleet.ModelsRead(0, {"m"}, "{}");
  rig.fleet.Scraped(4000, {}, Time());
  EXPECT_TRUE(rig.fleet.snapshot().Get()->endpoints.empty());
}

TEST(DecisionLog, CountsTheStatesOfThePoolThatItKeepsAlive) {
  const auto make_pool = [] {
    auto pool = std::make_shared<model::PoolSnapshot>();
    pool->endpoints.resize(1);
    pool->endpoints[0].models_json = std::string(100'000, 'x');
    pool->Index();
    return pool;
  };
  const auto make_record = [](std::shared_ptr<const model::PoolSnapshot> pool) {
    auto record = std::make_shared<DecisionRecord>();
    for (int i = 0; i < 2; ++i) record->attempts.emplace_back().pool = pool;
    return record;
  };
  DecisionLog log(350'000, 1000);
  std::vector<std::weak_ptr<const model::PoolSnapshot>> pools;
  for (int i = 0; i < 10; ++i) {
    const auto pool = make_pool();
    pools.push_back(pool);
    for (int k = 0; k < 3; ++k) log.Add(make_record(pool));
    EXPECT_LE(log.bytes(), log.max_bytes());
  }
  const auto alive =
      std::count_if(pools.begin(), pools.end(), [](const auto& pool) { return !pool.expired(); });
  EXPECT_EQ(alive, 3);
  EXPECT_EQ(log.Latest(100).size(), 9u);  // of one state as many as there is room for
  DecisionLog small(50'000, 1000);
  small.Add(make_record(make_pool()));
  EXPECT_EQ(small.bytes(), 0u);
}

TEST(DecisionLog, DropsTheOldestAtItsLimits) {
  DecisionLog log(1 << 20, 2);
  for (int i = 0; i < 3; ++i) {
    auto record = std::make_shared<DecisionRecord>();
    record->request_id = "r" + std::to_string(i);
    log.Add(record);
  }
  EXPECT_EQ(log.Find("r0"), nullptr);
  EXPECT_EQ(log.Latest(10).size(), 2u);
  EXPECT_EQ(log.Latest(10)[0]->request_id, "r2");
  EXPECT_EQ(log.total(), 3u);
  DecisionLog tiny(10, 10);
  tiny.Add(std::make_shared<DecisionRecord>());
  EXPECT_TRUE(tiny.Latest(1).empty());
}

// Everything that can happen to requests of three lanes and to the fleet, in any order, against a
// model that is told the same events and knows nothing of slots, columns or snapshots. The fleet
// has room for four endpoints and eight slots, and ten addresses take turns, so that slots are
// fought over.
class Interleaving {
 public:
  static constexpr int kAddresses = 10;
  static constexpr size_t kMaxEndpoints = 4;

  explicit Interleaving(double retry_ratio) : fleet_(kMaxEndpoints), may_retry_(retry_ratio > 0) {
    auto owned = std::make_unique<FewestRequests>();
    scheduler_ = owned.get();
    DirectorOptions options;
    options.retry_budget_ratio = retry_ratio;
    options.on_record = [this](const DecisionRecord&, Time) { ++records_; };
    director_ = std::make_unique<Director>(fleet_, std::move(owned), std::move(options));
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      lanes_.push_back(std::make_unique<Lane>(*director_, seed));
    }
    Replace({0, 1, 2, 3});
    for (int i = 0; i < 4; ++i) Scrape(i, 0);
    for (int i = 0; i < 4; ++i) Models(i, "llama");
  }

  void Step(int kind, int a, int b) {
    now_ += microseconds(a);
    if (kind < 8) return Arrive(static_cast<size_t>(a) % lanes_.size(), b);
    if (kind < 15) return FleetStep(kind, a, b);
    if (running_.empty()) return;
    Ongoing& request = running_[static_cast<size_t>(a) % running_.size()];
    if (kind < 19) return FirstChunk(request);
    if (kind < 24) return FailTry(request, b);
    if (kind < 28) return End(request, b);
    Drop(static_cast<size_t>(a) % running_.size());
  }

  void Check() {
    std::map<uint32_t, std::pair<int64_t, int64_t>> expected;
    std::map<uint32_t, std::string> holder;
    for (const Ongoing& request : running_) {
      if (!request.holds) continue;
      const uint32_t slot = request.flight->target().slot;
      expected[slot].first += 1;
      expected[slot].second += request.streams ? 0 : 10;
      // A slot is never shared by two addresses.
      const auto [it, is_new] = holder.emplace(slot, request.address);
      RC_ASSERT((is_new || it->second == request.address));
    }
    for (uint32_t slot = 0; slot < fleet_.live().capacity; ++slot) {
      RC_ASSERT(fleet_.live().in_flight_requests[slot].load() == expected[slot].first);
      RC_ASSERT(fleet_.live().in_flight_tokens[slot].load() == expected[slot].second);
    }
    std::set<std::string> healthy;
    std::set<std::string> pool;
    for (const auto& [i, known] : members_) {
      pool.insert(Spec(i).name);
      if (known.healthy) healthy.insert(Spec(i).name);
    }
    const auto snapshot = fleet_.snapshot().Get();
    std::set<std::string> pool_seen;
    std::set<std::string> healthy_seen;
    for (size_t i = 0; i < snapshot->endpoints.size(); ++i) {
      pool_seen.insert(snapshot->endpoints[i].spec.name);
      if (snapshot->healthy.Test(i)) healthy_seen.insert(snapshot->endpoints[i].spec.name);
    }
    RC_ASSERT(pool_seen == pool);
    RC_ASSERT(healthy_seen == healthy);
    RC_ASSERT(records_ == ended_);
    RC_ASSERT(scheduler_->restarted.size() == restarts_);
  }

  void Finish() {
    while (!running_.empty()) Drop(0);
    Check();
  }

 private:
  struct Known {
    bool healthy = false;
    std::string serves;  // "": has not said
    int started_at = 0;
  };
  struct Ongoing {
    std::unique_ptr<Flight> flight;
    std::string address;
    std::string model;
    std::set<std::string> tried;
    bool holds = true;  // a place in a ledger
    bool streams = false;
    bool ended = false;
  };

  bool CanServe(const std::string& model, const std::set<std::string>& tried) const {
    return std::any_of(members_.begin(), members_.end(), [&](const auto& member) {
      const auto& [i, known] = member;
      return known.healthy && (known.serves.empty() || known.serves == model) &&
             !tried.contains(Spec(i).host);
    });
  }
  bool IsCandidate(const Target& target, const std::string& model) const {
    const auto it = std::find_if(members_.begin(), members_.end(), [&](const auto& member) {
      return Spec(member.first).name == target.name;
    });
    return it != members_.end() && it->second.healthy &&
           (it->second.serves.empty() || it->second.serves == model);
  }

  void Arrive(size_t lane, int b) {
    scheduler_->drain = b % 10 == 0;
    const std::string model = b % 3 == 0 ? "gemma" : "llama";
    model::Request request;
    request.id = "r" + std::to_string(++arrivals_);
    request.model = request.target_model = model;
    Arrival arrival = lanes_[lane]->Arrive(std::move(request), now_, 0);
    const bool can_serve = CanServe(model, {});
    RC_ASSERT((arrival.flight != nullptr) == (can_serve && !scheduler_->drain));
    if (arrival.flight == nullptr) {
      ++ended_;
      const int status = arrival.rejection.status;
      RC_ASSERT((can_serve ? status == 429 : status == 404 || status == 503));
    } else {
      RC_ASSERT(IsCandidate(arrival.flight->target(), model));
      const std::string address(arrival.flight->target().host);
      running_.push_back({std::move(arrival.flight), address, model, {}});
    }
    scheduler_->drain = false;
  }

  void FirstChunk(Ongoing& request) {
    request.flight->OnFirstChunk(now_);
    if (!request.ended) request.streams = true;
  }

  void FailTry(Ongoing& request, int b) {
    constexpr std::array kFailures = {
        TryFailure::kLocal,     TryFailure::kConnect,   TryFailure::kReset,    TryFailure::kTimeout,
        TryFailure::kStatus502, TryFailure::kStatus503, TryFailure::kStatus504};
    const TryFailure failure = kFailures[static_cast<size_t>(b) % kFailures.size()];
    const bool counts = request.holds && !request.ended;
    if (counts && (failure == TryFailure::kConnect || failure == TryFailure::kReset)) {
      for (auto& [i, known] : members_) {
        if (Spec(i).host == request.address) known.healthy = false;
      }
    }
    bool again = counts && may_retry_ && !request.streams && failure != TryFailure::kTimeout &&
                 request.tried.empty();
    if (counts) request.tried.insert(request.address);
    again = again && CanServe(request.model, request.tried);
    RC_ASSERT(request.flight->OnTryFailed(failure, now_) == again);
    request.holds = again;
    if (!again) return;
    RC_ASSERT(IsCandidate(request.flight->target(), request.model));
    RC_ASSERT(request.flight->target().host != request.address);
    request.address = request.flight->target().host;
  }

  void End(Ongoing& request, int b) {
    constexpr std::array kEnds = {EndKind::kComplete, EndKind::kClientGone, EndKind::kEngineGone,
                                  EndKind::kTimeout, EndKind::kRejected};
    request.flight->OnEnd(kEnds[static_cast<size_t>(b) % kEnds.size()], 200, "", {}, now_);
    if (!request.ended) ++ended_;
    request.ended = true;
    request.holds = false;
  }

  void Drop(size_t at) {
    if (!running_[at].ended) ++ended_;
    running_.erase(running_.begin() + static_cast<ptrdiff_t>(at));
  }

  void FleetStep(int kind, int a, int b) {
    const int i = a % kAddresses;
    if (kind == 8) {
      std::set<int> next;
      for (int bit = 0; bit < kAddresses && next.size() < kMaxEndpoints; ++bit) {
        if ((b >> bit) & 1) next.insert(bit);
      }
      return Replace(next);
    }
    if (kind == 9) {  // one leaves
      std::set<int> next;
      for (const auto& member : members_) {
        if (member.first != i) next.insert(member.first);
      }
      return Replace(next);
    }
    if (kind == 10) return Models(i, b % 2 == 0 ? "llama" : b % 3 == 0 ? "gemma" : "");
    if (kind == 11) {
      if (const auto slot = SlotOf(i)) fleet_.ScrapeFailed(*slot, "timeout", now_);
      if (members_.contains(i)) members_[i].healthy = false;
      return;
    }
    Scrape(i, b % 3);
  }

  void Replace(const std::set<int>& next) {
    std::vector<EndpointSpec> specs;
    for (const int i : next) specs.push_back(Spec(i));
    if (!fleet_.Replace(std::move(specs)).has_value()) {
      // Only for want of slots: old addresses hold so many that not all of the next ones fit.
      std::set<std::string> held;
      for (const Ongoing& request : running_) {
        if (request.holds) held.insert(request.address);
      }
      for (const int i : next) held.insert(Spec(i).host);
      RC_ASSERT(held.size() > 2 * kMaxEndpoints);
      return;
    }
    std::map<int, Known> members;
    for (const int i : next) members[i] = members_.contains(i) ? members_[i] : Known();
    members_ = std::move(members);
  }

  void Scrape(int i, int started_at) {
    const auto slot = SlotOf(i);
    if (!slot) return;
    EngineSignals signals;
    if (started_at != 0) signals.started_at = started_at;
    fleet_.Scraped(*slot, signals, now_);
    Known& known = members_[i];
    known.healthy = true;
    if (started_at == 0) return;
    if (known.started_at != 0 && known.started_at != started_at) ++restarts_;
    known.started_at = started_at;
  }

  void Models(int i, const std::string& serves) {
    const auto slot = SlotOf(i);
    if (!slot) return;
    fleet_.ModelsRead(*slot, serves.empty() ? std::vector<std::string>() : std::vector{serves}, "");
    members_[i].serves = serves;
  }

  std::optional<uint32_t> SlotOf(int i) const {
    const auto pool = fleet_.snapshot().Get();
    for (const auto& e : pool->endpoints) {
      if (e.spec.name == Spec(i).name) return e.slot;
    }
    return std::nullopt;
  }

  Fleet fleet_;
  const bool may_retry_;
  size_t records_ = 0;
  FewestRequests* scheduler_;
  std::unique_ptr<Director> director_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Time now_;
  size_t arrivals_ = 0;
  std::vector<Ongoing> running_;
  std::map<int, Known> members_;
  size_t ended_ = 0;
  size_t restarts_ = 0;
};

TEST(Director, LedgersAgreeWithAModelUnderRandomInterleavings) {
  const bool ok = rc::check([] {
    Interleaving world(*rc::gen::element(0.2, 0.2, 0.0));
    const auto steps = *rc::gen::container<std::vector<std::tuple<int, int, int>>>(
        200, rc::gen::tuple(rc::gen::inRange(0, 30), rc::gen::inRange(0, 1000),
                            rc::gen::inRange(0, 1024)));
    for (const auto& [kind, a, b] : steps) {
      world.Step(kind, a, b);
      world.Check();
    }
    world.Finish();
  });
  EXPECT_TRUE(ok);
}

// What one loop does to its own requests, at random.
void RunLane(Director& director, uint64_t seed, int requests) {
  constexpr std::array kFailures = {TryFailure::kConnect, TryFailure::kStatus503,
                                    TryFailure::kTimeout};
  Lane lane(director, seed);
  Random random(seed);
  std::vector<std::unique_ptr<Flight>> running;
  for (int i = 0; i < requests; ++i) {
    const Time now = Time() + microseconds(i);
    model::Request request;
    request.id = std::to_string(seed) + "-" + std::to_string(i);
    request.model = request.target_model = "llama";
    Arrival arrival = lane.Arrive(std::move(request), now, 0);
    if (arrival.flight != nullptr) running.push_back(std::move(arrival.flight));
    while (!running.empty() && random.Below(20) != 0) {
      const size_t at = random.Below(running.size());
      switch (random.Below(4)) {
        case 0:
          running[at]->OnFirstChunk(now);
          break;
        case 1:
          running[at]->OnTryFailed(kFailures[random.Below(kFailures.size())], now);
          break;
        case 2:
          running[at]->OnEnd(EndKind::kComplete, 200, "", {}, now);
          break;
        default:
          running.erase(running.begin() + static_cast<ptrdiff_t>(at));
      }
    }
  }
}

// Endpoints that come, go, fail, recover and restart, until told to stop. Returns false when a
// ledger was seen below zero.
bool ChurnFleet(Fleet& fleet, const std::atomic<bool>& stop) {
  Random random(99);
  bool ok = true;
  while (!stop.load(std::memory_order_relaxed)) {
    std::vector<EndpointSpec> specs;
    for (int i = 0; i < 6; ++i) {
      if (specs.size() < 4 && random.Below(3) != 0) specs.push_back(Spec(i));
    }
    (void)fleet.Replace(std::move(specs));
    const auto pool = fleet.snapshot().Get();
    for (const auto& e : pool->endpoints) {
      EngineSignals signals;
      signals.started_at = 1 + static_cast<double>(random.Below(3));
      fleet.Scraped(e.slot, signals, Time());
      fleet.ModelsRead(e.slot, {"llama"}, "");
      if (random.Below(8) == 0) fleet.ScrapeFailed(e.slot, "timeout", Time());
    }
    for (uint32_t slot = 0; slot < fleet.live().capacity; ++slot) {
      ok = ok && fleet.live().in_flight_requests[slot].load() >= 0 &&
           fleet.live().in_flight_tokens[slot].load() >= 0;
    }
  }
  return ok;
}

TEST(Director, LedgersAreNeverNegativeAndEndAtZeroWithManyThreads) {
  constexpr int kLanes = 4;
  constexpr int kRequests = 3000;
  Fleet fleet(4);
  auto owned = std::make_unique<FewestRequests>();
  std::atomic<int> records = 0;
  DirectorOptions options;
  options.on_record = [&](const DecisionRecord&, Time) { ++records; };
  Director director(fleet, std::move(owned), std::move(options));
  std::atomic<bool> stop = false;
  bool never_negative = false;
  std::thread churn([&] { never_negative = ChurnFleet(fleet, stop); });
  std::vector<std::thread> lanes;
  for (uint64_t seed = 1; seed <= kLanes; ++seed) {
    lanes.emplace_back([&director, seed] { RunLane(director, seed, kRequests); });
  }
  for (std::thread& lane : lanes) lane.join();
  stop = true;
  churn.join();
  EXPECT_TRUE(never_negative);
  EXPECT_EQ(records, kLanes * kRequests);  // each request ended exactly once
  for (uint32_t slot = 0; slot < fleet.live().capacity; ++slot) {
    EXPECT_EQ(fleet.live().in_flight_requests[slot].load(), 0);
    EXPECT_EQ(fleet.live().in_flight_tokens[slot].load(), 0);
  }
}

}  // namespace
}  // namespace penstock::director
