#include "lab/summary.h"

#include <gtest/gtest.h>

namespace penstock::lab {
namespace {

Outcome Served(const workload::Job& job, double ttft_s, double e2e_s, uint32_t cached = 0) {
  Outcome outcome{.job = job};
  outcome.is_served = true;
  outcome.status = 200;
  outcome.ttft = FromSeconds(ttft_s);
  outcome.e2e = FromSeconds(e2e_s);
  outcome.cached_tokens = cached;
  return outcome;
}

TEST(Summary, CountsWhatWasServedWithinItsLimits) {
  workload::Job job;
  job.prompt = {{1, 100}};
  job.output_tokens = 11;
  workload::Job strict = job;
  strict.ttft_slo_s = 0.1;
  Summary summary({.ttft_s = 1, .tpot_s = 0.05});
  summary.Add(Served(job, 0.5, 0.9, 50));     // 40 ms a token
  summary.Add(Served(job, 0.5, 1.1));         // 60 ms a token: too slow
  summary.Add(Served(job, 2, 2.1));           // too late
  summary.Add(Served(strict, 0.5, 0.6, 30));  // too late for its own limit
  summary.Add(Outcome{.job = job, .status = 503});
  ReplayTotals totals;
  totals.end = seconds(10);
  summary.Close(totals);
  EXPECT_EQ(summary.requests(), 5u);
  EXPECT_EQ(summary.lost(), 1u);
  EXPECT_DOUBLE_EQ(summary.goodput(), 0.2);
  EXPECT_DOUBLE_EQ(summary.hit_rate(), 80 / 400.0);
  EXPECT_DOUBLE_EQ(summary.tokens_per_s(), 4.4);
  EXPECT_DOUBLE_EQ(summary.requests_per_s(), 0.4);
  EXPECT_NEAR(summary.tpot().mean(), (0.04 + 0.06 + 0.01 + 0.01) / 4, 1e-9);
}

TEST(Summary, FairnessIsJains) {
  workload::Job a, b;
  a.fairness_id = "a";
  b.fairness_id = "b";
  Summary even, uneven;
  for (int i = 0; i < 4; ++i) {
    even.Add(Served(i % 2 == 0 ? a : b, 1, 2));
    uneven.Add(Served(i % 2 == 0 ? a : b, 1, i % 2 == 0 ? 1 : 3));
  }
  EXPECT_DOUBLE_EQ(even.fairness(), 1);
  EXPECT_DOUBLE_EQ(uneven.fairness(), 16.0 / (2 * 10));
  EXPECT_EQ(Summary().fairness(), 1);
}

TEST(Summary, EveryNumberHasADirection) {
  int higher = 0;
  for (const auto& [name, value] : Summary().Numbers()) {
    EXPECT_EQ(value, name == "fairness_index" ? 1 : 0) << name;
    higher += IsBetterHigher(name) ? 1 : 0;
  }
  EXPECT_EQ(higher, 5);
  EXPECT_FALSE(IsBetterHigher("ttft_mean_s"));
}

}  // namespace
}  // namespace penstock::lab
