#include "admin/live_stats.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "director/fleet.h"

namespace penstock::admin {
namespace {

Time At(double s) { return Time() + FromSeconds(10'000 + s); }

director::DecisionRecord Request(double ttft_s, uint64_t input, uint64_t cached, uint64_t output) {
  director::DecisionRecord record;
  record.end = director::EndKind::kComplete;
  record.status = 200;
  record.ttft_s = ttft_s;
  record.stream = true;
  record.usage_known = record.cached_known = true;
  record.reported_input_tokens = input;
  record.cached_tokens = cached;
  record.output_tokens = output;
  director::Attempt& attempt = record.attempts.emplace_back();
  attempt.endpoint = "a";
  attempt.slot = 0;
  return record;
}

struct Pool {
  explicit Pool(std::vector<std::string> names) {
    std::vector<model::EndpointSpec> specs;
    for (const std::string& name : names) {
      specs.push_back({name, "10.0.0." + std::to_string(specs.size()), 80, 0, {}});
    }
    EXPECT_TRUE(fleet.Replace(std::move(specs)).has_value());
  }
  const model::PoolSnapshot& snapshot() {
    kept = fleet.snapshot().Get();
    return *kept;
  }
  director::Fleet fleet{8};
  std::shared_ptr<const model::PoolSnapshot> kept;
};

TEST(LiveStats, ASecondCountsWhatEndedInIt) {
  LiveStats stats(8);
  stats.OnRequestEnded(Request(0.1, 100, 80, 10), At(5.1));
  stats.OnRequestEnded(Request(0.1, 100, 40, 30), At(5.9));
  stats.OnRequestEnded(Request(0.1, 0, 0, 0), At(6.0));
  const std::vector<LivePoint> series = stats.Series(At(6.5), 3, 1, 1);
  ASSERT_EQ(series.size(), 3u);
  const LivePoint& last = series.back();
  EXPECT_EQ(last.second, 10'005);  // the running second is left out
  EXPECT_DOUBLE_EQ(last.requests_per_s, 2);
  EXPECT_DOUBLE_EQ(last.input_tokens_per_s, 200);
  EXPECT_DOUBLE_EQ(last.output_tokens_per_s, 40);
  EXPECT_DOUBLE_EQ(last.hit_rate, 0.6);
  EXPECT_DOUBLE_EQ(series[0].requests_per_s, 0);
  EXPECT_DOUBLE_EQ(series[0].hit_rate, -1);
  EXPECT_DOUBLE_EQ(series[0].ttft_p50_s, -1);
}

TEST(LiveStats, AnAnswerInOnePieceHasNoFirstToken) {
  Pool pool({"a"});
  LiveStats stats(8);
  director::DecisionRecord whole = Request(9, 10, 9, 6);
  whole.stream = false;
  for (int i = 0; i < 10; ++i) stats.OnRequestEnded(whole, At(1));
  EXPECT_DOUBLE_EQ(stats.Series(At(2), 1, 1, 1).back().ttft_p90_s, -1);
  EXPECT_DOUBLE_EQ(stats.Endpoints(pool.snapshot(), At(2)).at(0).mean_ttft_s, -1);
  stats.OnRequestEnded(Request(0.2, 10, 9, 6), At(1));
  EXPECT_LT(stats.Series(At(2), 1, 1, 1).back().ttft_p90_s, 0.2 * 1.42);
  EXPECT_NEAR(stats.Endpoints(pool.snapshot(), At(2)).at(0).mean_ttft_s, 0.2, 1e-9);
}

TEST(LiveStats, QuantilesAreWithinABucketOfTheTruth) {
  LiveStats stats(8);
  for (int i = 1; i <= 100; ++i) stats.OnRequestEnded(Request(i * 0.01, 1, 0, 1), At(1));
  const LivePoint last = stats.Series(At(2), 1, 1, 1).back();
  EXPECT_GT(last.ttft_p50_s, 0.5 / 1.42);
  EXPECT_LT(last.ttft_p50_s, 0.5 * 1.42);
  EXPECT_GT(last.ttft_p90_s, 0.9 / 1.42);
  EXPECT_LT(last.ttft_p90_s, 0.9 * 1.42);
}

TEST(LiveStats, ExtremeTimesStayInRange) {
  LiveStats stats(8);
  for (double ttft : {0.0, 1e-9, 1e9}) stats.OnRequestEnded(Request(ttft, 1, 0, 1), At(1));
  const LivePoint last = stats.Series(At(2), 1, 1, 1).back();
  EXPECT_LE(last.ttft_p50_s, 0.001);
  EXPECT_GT(last.ttft_p90_s, 1000);
}

TEST(LiveStats, ErrorsAreServerSideAndSaturationButNotClientFaults) {
  LiveStats stats(8);
  for (int status : {200, 400, 404, 429, 502, 503}) {
    director::DecisionRecord record = Request(-1, 0, 0, 0);
    record.status = status;
    stats.OnRequestEnded(record, At(1));
  }
  director::DecisionRecord broken = Request(0.1, 0, 0, 0);
  broken.end = director::EndKind::kEngineGone;
  stats.OnRequestEnded(broken, At(1));
  EXPECT_DOUBLE_EQ(stats.Series(At(2), 1, 1, 1).back().errors_per_s, 4);
}

TEST(LiveStats, SmoothingLooksBackForTtftAndHitRateOnly) {
  LiveStats stats(8);
  stats.OnRequestEnded(Request(0.2, 100, 50, 7), At(1));
  const LivePoint last = stats.Series(At(6), 1, 2, 10).back();
  EXPECT_DOUBLE_EQ(last.requests_per_s, 0);
  EXPECT_DOUBLE_EQ(last.hit_rate, 0.5);
  EXPECT_GT(last.ttft_p50_s, 0);
}

TEST(LiveStats, PointsKeepTheirPlaceFromOneReadingToTheNext) {
  LiveStats stats(8);
  for (int s = 0; s < 40; ++s) stats.OnRequestEnded(Request(0.1, 1, 0, 1), At(s));
  const auto before = stats.Series(At(30), 5, 4, 4);
  const auto after = stats.Series(At(31), 5, 4, 4);
  EXPECT_EQ(before.back().second % 4, 0);
  EXPECT_EQ(after[3].second, after[4].second - 4);
  for (const LivePoint& a : before) {
    for (const LivePoint& b : after) {
      if (a.second == b.second) {
        EXPECT_DOUBLE_EQ(a.requests_per_s, b.requests_per_s);
      }
    }
  }
}

TEST(LiveStats, WhatIsOlderThanTheRingIsForgotten) {
  LiveStats stats(8);
  stats.OnRequestEnded(Request(0.1, 1, 0, 1), At(1));
  double requests = 0;
  for (const LivePoint& p : stats.Series(At(1 + LiveStats::kSeconds), LiveStats::kSeconds, 1, 1)) {
    requests += p.requests_per_s;
  }
  EXPECT_DOUBLE_EQ(requests, 0);
  stats.OnRequestEnded(Request(0.1, 1, 0, 1), At(1 + LiveStats::kSeconds));
  EXPECT_DOUBLE_EQ(stats.Series(At(2 + LiveStats::kSeconds), 1, 1, 1).back().requests_per_s, 1);
}

TEST(LiveStats, OddArgumentsAreClamped) {
  LiveStats stats(8);
  EXPECT_EQ(stats.Series(At(1), -5, -5, -5).size(), 1u);
  EXPECT_EQ(stats.Series(At(1), 1'000'000, 7, 0).size(), 85u);
  EXPECT_EQ(stats.Series(Time(), 10, 1, 1).size(), 10u);  // at the axis' beginning
}

TEST(LiveStats, QueuesAreSummedOverHealthyEndpoints) {
  Pool pool({"a", "b", "c"});
  LiveStats stats(8);
  director::EngineSignals busy;
  busy.waiting = 5;
  busy.running = 10;
  pool.fleet.Scraped(0, busy, At(0));
  busy.waiting = 2;
  pool.fleet.Scraped(1, busy, At(0));
  pool.fleet.Scraped(2, busy, At(0));
  pool.fleet.ScrapeFailed(2, "gone", At(0));
  pool.fleet.live().in_flight_requests[2] = 3;
  stats.SampleQueues(pool.snapshot(), pool.fleet.live(), At(4));
  const LivePoint last = stats.Series(At(5), 1, 1, 1).back();
  EXPECT_DOUBLE_EQ(last.waiting, 7);
  EXPECT_DOUBLE_EQ(last.max_waiting, 5);
  EXPECT_DOUBLE_EQ(last.running, 20);
  EXPECT_DOUBLE_EQ(last.in_flight, 3);
  EXPECT_DOUBLE_EQ(stats.Series(At(9), 1, 1, 1).back().waiting, -1);
}

TEST(LiveStats, AnEndpointsPastFades) {
  Pool pool({"a"});
  LiveStats stats(8);
  for (int i = 0; i < 60; ++i) stats.OnRequestEnded(Request(0.2, 10, 9, 6), At(0));
  EndpointPast past = stats.Endpoints(pool.snapshot(), At(0)).at(0);
  EXPECT_DOUBLE_EQ(past.requests_per_s, 1);
  EXPECT_DOUBLE_EQ(past.output_tokens_per_s, 6);
  EXPECT_DOUBLE_EQ(past.hit_rate, 0.9);
  EXPECT_NEAR(past.mean_ttft_s, 0.2, 1e-9);
  past = stats.Endpoints(pool.snapshot(), At(60)).at(0);
  EXPECT_NEAR(past.requests_per_s, 1 / 2.718281828, 1e-6);
  EXPECT_DOUBLE_EQ(past.hit_rate, 0.9);
}

TEST(LiveStats, AnotherEndpointInTheSlotDoesNotInheritThePast) {
  Pool pool({"b"});
  LiveStats stats(8);
  stats.OnRequestEnded(Request(0.2, 10, 9, 6), At(0));  // of "a"
  EXPECT_DOUBLE_EQ(stats.Endpoints(pool.snapshot(), At(0)).at(0).hit_rate, -1);
  director::DecisionRecord record = Request(0.2, 10, 1, 6);
  record.attempts.back().endpoint = "b";
  stats.OnRequestEnded(record, At(1));
  EXPECT_DOUBLE_EQ(stats.Endpoints(pool.snapshot(), At(1)).at(0).hit_rate, 0.1);
  record.attempts.back().slot = 1'000'000;  // beyond the capacity: counted for the pool only
  stats.OnRequestEnded(record, At(1));
  EXPECT_DOUBLE_EQ(stats.Series(At(2), 1, 1, 1).back().requests_per_s, 2);
}

TEST(LiveStats, ThreadsMayEndRequestsWhileOthersRead) {
  Pool pool({"a"});
  LiveStats stats(8);
  const model::PoolSnapshot& snapshot = pool.snapshot();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 2000; ++i) stats.OnRequestEnded(Request(0.1, 10, 5, 1), At(1));
      });
    }
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        (void)stats.Series(At(3), 60, 2, 10);
        (void)stats.Endpoints(snapshot, At(3));
        stats.SampleQueues(snapshot, pool.fleet.live(), At(1));
      }
    });
  }
  EXPECT_DOUBLE_EQ(stats.Series(At(2), 1, 1, 1).back().requests_per_s, 8000);
}

}  // namespace
}  // namespace penstock::admin
