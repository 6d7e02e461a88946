#include "director/director.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>

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
  }
  int64_t TokensToCharge(const sched::RequestContext&, const model::EndpointColumns&,
                         uint32_t) const override {
    return 10;
  }
  void OnPicked(sched::RequestContext&, const model::EndpointColumns&,
                const sched::Picked&) override {
    ++picked;
  }
  void OnEndpointRemoved(uint32_t slot) override { removed.push_back(slot); }
  void OnEndpointRestarted(uint32_t slot) override { restarted.push_back(slot); }
  void OnEndpointChanged(const model::EndpointInfo&) override {}
  void OnTick(Time) override {}
  uint64_t MaxBytes() const override { return 0; }
  bool NeedsMetrics() const override { return false; }
  std::vector<std::string> Describe() const override { return {}; }

  bool drain = false;
  int picked = 0;
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

TEST(Fleet, AReturningAddressGetsItsOldSlotAndLedgersSurvive) {
  Rig rig(2);
  Arrival a = rig.Arrive();
  const uint32_t slot = a.flight->target().slot;
  const std::string name = a.flight->target().name;
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

// Random interleavings of everything that can happen to requests and endpoints, against a model
// that keeps what each running request holds: the ledgers must agree after every step and end at
// zero.
TEST(Director, LedgersAgreeWithAModelUnderRandomInterleavings) {
  const bool ok = rc::check([] {
    Rig rig(4);
    struct Held {
      std::unique_ptr<Flight> flight;
      bool claimed = true;
      bool tokens = true;
    };
    std::vector<Held> running;
    const auto steps = *rc::gen::container<std::vector<std::pair<int, int>>>(
        200, rc::gen::pair(rc::gen::inRange(0, 10), rc::gen::inRange(0, 1000)));
    Time now;
    for (const auto& [kind, number] : steps) {
      now += microseconds(number);
      if (kind <= 2) {
        Arrival a = rig.Arrive();
        if (a.flight != nullptr) running.push_back({std::move(a.flight)});
      } else if (kind == 9) {
        const auto slot = static_cast<uint32_t>(number % 4);
        if (number % 3 == 0) {
          std::vector<EndpointSpec> specs;
          for (int i = 0; i < 4; ++i) {
            if (i != number % 5) specs.push_back(Spec(i));
          }
          RC_ASSERT(rig.fleet.Replace(specs).has_value());
        } else {
          rig.fleet.Scraped(slot, {}, now);
          rig.fleet.ModelsRead(slot, {"llama"}, R"({"id":"llama"})");
        }
      } else if (!running.empty()) {
        const size_t at = static_cast<size_t>(number) % running.size();
        Held& held = running[at];
        switch (kind) {
          case 3:
            held.flight->OnFirstChunk(now);
            held.tokens = false;
            break;
          case 4:
          case 5: {
            const bool again = held.flight->OnTryFailed(
                kind == 4 ? TryFailure::kConnect : TryFailure::kStatus503, now);
            held.claimed = again;
            held.tokens = again;
            break;
          }
          case 6:
            held.flight->OnEnd(EndKind::kComplete, 200, "", {}, now);
            held.flight->OnEnd(EndKind::kTimeout, 504, "", {}, now);
            held.claimed = held.tokens = false;
            break;
          default:
            running.erase(running.begin() + static_cast<ptrdiff_t>(at));
        }
      }
      std::map<uint32_t, std::pair<int64_t, int64_t>> expected;
      for (const Held& held : running) {
        if (!held.claimed) continue;
        expected[held.flight->target().slot].first += 1;
        expected[held.flight->target().slot].second += held.tokens ? 10 : 0;
      }
      for (uint32_t slot = 0; slot < rig.fleet.live().capacity; ++slot) {
        RC_ASSERT(rig.Requests(slot) == expected[slot].first);
        RC_ASSERT(rig.Tokens(slot) == expected[slot].second);
      }
    }
    running.clear();
    for (uint32_t slot = 0; slot < rig.fleet.live().capacity; ++slot) {
      RC_ASSERT(rig.Requests(slot) == 0);
      RC_ASSERT(rig.Tokens(slot) == 0);
    }
  });
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace penstock::director
