#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Scorer;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using testing::Made;
using testing::TestPool;

// What the scores stand for.
std::vector<float> Costs(const Scorer& scorer, const TestPool& pool,
                         const sched::RequestContext& context = {}) {
  std::vector<float> scores(pool.columns.size());
  scorer.Score(context, pool.columns, pool.all, scores);
  for (float& score : scores) score = 16384 / score - 16384;
  return scores;
}

// Four endpoints of 1,000 blocks of 16 tokens, idle and empty.
struct IdlePool : TestPool {
  IdlePool() : TestPool(4) {
    for (model::EndpointInfo& endpoint : pool.endpoints) {
      endpoint.gpu_blocks = 1000;
      endpoint.block_size_tokens = 16;
    }
    Index();
  }
};

constexpr std::string_view kParameters =
    "{expectedOutputTokens: 100, contextCost: 0.01, requestCost: 2, stepCost: 50, eviction: 3, "
    "others: 0}";

TEST(LeastCostScorer, AddsWhatEachThingCosts) {
  IdlePool pool;
  pool.columns.in_flight_tokens = {500, 0, 0, 0};
  pool.columns.uncached_tokens = {0, 500, 0, 0};
  pool.columns.in_flight_requests = {0, 0, 5, 0};
  pool.columns.kv_usage = {0, 0, 0, 0.5F};
  const std::vector<float> costs = Costs(*Made<Scorer>("least-cost-scorer", kParameters), pool);
  EXPECT_NEAR(costs[0], 500, 1);
  EXPECT_NEAR(costs[1], 4 * 500, 1) << "once now, three times again";
  EXPECT_NEAR(costs[2], 100 * 2 * 5, 1);
  EXPECT_NEAR(costs[3], 100 * 0.01 * 8000, 1);
}

TEST(LeastCostScorer, CountsTheTimeOfThoseThatRunThere) {
  IdlePool pool;
  pool.columns.in_flight_requests = {5, 5, 0, 0};
  pool.columns.uncached_tokens = {0, 700, 700, 0};
  const Made<Scorer> scorer("least-cost-scorer",
                            "{expectedOutputTokens: 100, contextCost: 0.01, requestCost: 2, "
                            "eviction: 0, others: 0.5}");
  sched::RequestContext context;
  context.input_tokens = 1000;
  const std::vector<float> costs = Costs(*scorer, pool, context);
  const float own = 100 * 2 * 5;
  const float steps = 0.5F * 5 * 100 * (0.01F * 1050 + 2);
  EXPECT_NEAR(costs[0], own + steps, 1);
  EXPECT_NEAR(costs[1], own + steps + 700 + 0.5F * 5 * 700, 2)
      << "they stand while it is prefilled";
  EXPECT_NEAR(costs[2], 700, 1) << "nobody runs there";
}

TEST(LeastCostScorer, MemoryThatIsShortCostsTheTimeUntilItIsFree) {
  IdlePool pool;
  pool.columns.kv_usage = {0.75F, 0.75F, 0, 0};
  pool.columns.uncached_tokens = {3900, 5100, 0, 0};
  const std::vector<float> costs = Costs(*Made<Scorer>("least-cost-scorer", kParameters), pool);
  const float decode = 100 * 0.01F * 12000;
  EXPECT_NEAR(costs[0], 4 * 3900 + decode, 20) << "12,000 + 3,900 + 100 just fit";
  // 1,200 are missing, a tenth of what is held: a tenth of an answer's 100 steps of 50 + 120.
  EXPECT_NEAR(costs[1], 4 * 5100 + decode + 0.1F * 100 * 170, 40);
}

TEST(LeastCostScorer, AClientMayAskForAShorterAnswerOnly) {
  IdlePool pool;
  pool.columns.in_flight_requests = {10, 0, 0, 0};
  const Made<Scorer> scorer("least-cost-scorer", kParameters);
  sched::RequestContext context;
  context.request.max_output_tokens = 10;
  EXPECT_NEAR(Costs(*scorer, pool, context)[0], 10 * 2 * 10, 1);
  context.request.max_output_tokens = 4096;
  EXPECT_NEAR(Costs(*scorer, pool, context)[0], 100 * 2 * 10, 1);
}

TEST(LeastCostScorer, WhatIsNotKnownCostsNothing) {
  IdlePool pool;
  pool.columns.kv_usage.clear();
  pool.columns.uncached_tokens = {20'000, 0, 0, 0};
  EXPECT_NEAR(Costs(*Made<Scorer>("least-cost-scorer", kParameters), pool)[0], 80'000, 30);
  IdlePool untold;
  for (model::EndpointInfo& endpoint : untold.pool.endpoints) endpoint.gpu_blocks = 0;
  untold.Index();
  untold.columns.kv_usage = {0.9F, 0.9F, 0.9F, 0.9F};
  EXPECT_NEAR(Costs(*Made<Scorer>("least-cost-scorer", kParameters), untold)[0], 0, 0.01);
}

TEST(LeastCostScorer, RefusesNumbersThatCannotBe) {
  EXPECT_THAT(ErrorsOf("least-cost-scorer", "{eviction: -1}").at(0), HasSubstr("eviction"));
}

}  // namespace
}  // namespace penstock::plugins
