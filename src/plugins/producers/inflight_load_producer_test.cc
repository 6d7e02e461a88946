#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using testing::TestPool;

sched::RequestContext Asking(uint64_t tokens, uint32_t max_output = 0) {
  sched::RequestContext context;
  context.input_tokens = tokens;
  context.request.max_output_tokens = max_output;
  return context;
}

// An instance that reads the prefix match in column 0.
struct WithPrefix {
  explicit WithPrefix(std::string_view parameters = "{}")
      : producer("inflight-load-producer", parameters) {
    for (const sched::Need& need : producer->Needs()) {
      if (need.index != nullptr) *need.index = 0;
    }
    rule = dynamic_cast<const sched::ChargeRule*>(&*producer);
  }
  Made<sched::Producer> producer;
  const sched::ChargeRule* rule;
};

TEST(InflightLoadProducer, UncachedIsWhatNoBlockCovers) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 2, 4});
  const WithPrefix made;
  const auto context = Asking(200);  // three blocks of 64 and one of 8
  made.producer->Produce(context, pool.columns);
  EXPECT_THAT(pool.columns.uncached_tokens, ElementsAre(200, 72, 0));
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(made.rule->TokensToCharge(context, pool.columns, i),
              static_cast<int64_t>(pool.columns.uncached_tokens[i]));
  }
}

TEST(InflightLoadProducer, WithoutAPrefixProducerEveryTokenIsUncached) {
  TestPool pool(2);
  const Made<sched::Producer> producer("inflight-load-producer");
  producer->Produce(Asking(200), pool.columns);
  EXPECT_THAT(pool.columns.uncached_tokens, Each(200));
  EXPECT_EQ(dynamic_cast<const sched::ChargeRule&>(*producer).TokensToCharge(Asking(200),
                                                                             pool.columns, 1),
            200);
}

TEST(InflightLoadProducer, ChargesTheEstimatedAnswerWhenToldTo) {
  TestPool pool(1);
  pool.SetPrefix(4, {4});
  const auto charge = [&](std::string_view parameters, uint32_t max_output) {
    return WithPrefix(parameters).rule->TokensToCharge(Asking(201, max_output), pool.columns, 0);
  };
  EXPECT_EQ(charge("{}", 0), 0);
  EXPECT_EQ(charge("{addEstimatedOutputTokens: true}", 0), 302);  // 201 x 1.5, rounded
  EXPECT_EQ(charge("{addEstimatedOutputTokens: true, outputRatio: 2}", 0), 402);
  EXPECT_EQ(charge("{addEstimatedOutputTokens: true}", 100), 100);
  EXPECT_EQ(charge("{addEstimatedOutputTokens: true, maxEstimatedOutputTokens: 50}", 100), 50);
}

TEST(InflightLoadProducer, AnEstimatedAnswerCountsAsLoadUntilTheEnd) {
  TestPool pool(2);
  pool.SetPrefix(4, {4, 0});
  const WithPrefix made("{addEstimatedOutputTokens: true, outputRatio: 1}");
  made.producer->Produce(Asking(200), pool.columns);
  EXPECT_THAT(pool.columns.uncached_tokens, ElementsAre(200, 400));
  EXPECT_TRUE(made.rule->ChargesTheAnswer());
  EXPECT_FALSE(WithPrefix().rule->ChargesTheAnswer());
}

}  // namespace
}  // namespace penstock::plugins
