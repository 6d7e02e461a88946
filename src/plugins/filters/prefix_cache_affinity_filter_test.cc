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

constexpr std::string_view kType = "prefix-cache-affinity-filter";

TEST(PrefixCacheAffinityFilter, KeepsEndpointsAtOrAboveTheThreshold) {
  TestPool pool(4);
  pool.SetPrefix(10, {8, 7, 10, 0});
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), ElementsAre(0, 2));
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{affinityThreshold: 0.7}"), pool), ElementsAre(0, 1, 2));
}

TEST(PrefixCacheAffinityFilter, TheThresholdIsExactWhateverTheLengthOfThePrompt) {
  for (const double threshold : {0.1, 0.56, 0.7, 0.8, 0.99, 1.0}) {
    const Made<Filter> filter(kType, "{affinityThreshold: " + std::to_string(threshold) + "}");
    for (int64_t total = 1; total < 2049; ++total) {
      // The first whole number of blocks with n / total >= threshold, in hundredths.
      const int64_t hundredths = std::llround(threshold * 100);
      const int64_t least = (total * hundredths + 99) / 100;
      TestPool pool(2);
      pool.SetPrefix(static_cast<uint32_t>(total),
                     {static_cast<float>(least), static_cast<float>(least - 1)});
      ASSERT_THAT(Kept(*filter, pool), ElementsAre(0)) << threshold << " of " << total;
    }
  }
}

TEST(PrefixCacheAffinityFilter, KeepsAllWhenNobodyIsSticky) {
  TestPool pool(3);
  pool.SetPrefix(10, {1, 7, 0});
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), ElementsAre(0, 1, 2));
  pool.SetPrefix(0, {0, 0, 0});
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), ElementsAre(0, 1, 2));
}

TEST(PrefixCacheAffinityFilter, LeavesTheStickyOnesWhenWaitingThereCostsTooMuch) {
  TestPool pool(3);
  pool.SetPrefix(10, {10, 9, 0});
  const Made<Filter> filter(kType, "{peakPrefillThroughput: 1000, maxTTFTPenaltyMs: 2000}");
  // The best sticky one has 5000 tokens ahead, 5 s; the best other one 3000, 3 s: just allowed.
  pool.columns.in_flight_tokens = {9000, 5000, 3000};
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0, 1));
  pool.columns.in_flight_tokens = {9000, 5001, 3000};
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0, 1, 2));
}

TEST(PrefixCacheAffinityFilter, ThePenaltyIsMeasuredAgainstCandidatesOnly) {
  TestPool pool(3);
  pool.SetPrefix(10, {10, 0, 0});
  pool.columns.in_flight_tokens = {1e9, 0, 9e8};
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), ElementsAre(0, 1, 2));
  pool.all.Clear(1);
  pool.all.Clear(2);
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), ElementsAre(0));
}

TEST(PrefixCacheAffinityFilter, APenaltyOfZeroIsNoGate) {
  TestPool pool(2);
  pool.SetPrefix(10, {10, 0});
  pool.columns.in_flight_tokens.clear();  // not needed, so not filled
  const Made<Filter> filter(kType, "{maxTTFTPenaltyMs: 0}");
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0));
  EXPECT_EQ(filter->Needs().size(), 1u);
}

TEST(PrefixCacheAffinityFilter, AThresholdOfZeroTurnsItOff) {
  TestPool pool(2);
  const Made<Filter> filter(kType, "{affinityThreshold: 0}");
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0, 1));
  EXPECT_THAT(filter->Needs(), IsEmpty());
}

TEST(PrefixCacheAffinityFilter, ExploresAsOftenAsItIsTold) {
  TestPool pool(2);
  pool.SetPrefix(10, {10, 0});
  const Made<Filter> filter(kType, "{explorationProbability: 0.25}");
  int explored = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    explored += Kept(*filter, pool, {}, seed).size() == 2 ? 1 : 0;
  }
  EXPECT_NEAR(explored, 500, 80);
  EXPECT_EQ(Kept(*Made<Filter>(kType, "{explorationProbability: 1}"), pool).size(), 2u);
}

TEST(PrefixCacheAffinityFilter, SaysWhyAllPass) {
  TestPool pool(3);
  const Made<Filter> filter(kType, "{peakPrefillThroughput: 1000, maxTTFTPenaltyMs: 2000}");
  const auto why = [&] { return filter->WhyAllPass({}, pool.columns, pool.all); };
  pool.SetPrefix(10, {1, 7, 0});
  EXPECT_EQ(why(), "nobody holds enough of the prompt");
  pool.SetPrefix(10, {10, 7, 0});
  pool.columns.in_flight_tokens = {5001, 5000, 3000};
  EXPECT_EQ(why(), "who holds the prompt is too busy");
  pool.columns.in_flight_tokens = {5000, 5000, 3000};
  EXPECT_EQ(why(), "exploring, whoever holds the prompt");  // else they would not all pass
  pool.SetPrefix(10, {10, 9, 8});
  EXPECT_EQ(why(), "all hold the prompt");
  pool.SetPrefix(0, {0, 0, 0});
  EXPECT_EQ(why(), "there is no prompt to hold");
}

TEST(PrefixCacheAffinityFilter, NobodyIsStickyWithoutABlock) {
  TestPool pool(2);
  pool.SetPrefix(10, {0, 1});
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{affinityThreshold: 0.00000001}"), pool), ElementsAre(1));
}

TEST(PrefixCacheAffinityFilter, WithoutTheGateNoEstimateIsNeeded) {
  TestPool pool(2);
  pool.SetPrefix(10, {10, 0});
  for (const std::string_view parameters : {"{maxTTFTPenaltyMs: 0, ttftSource: latencyPredictor}",
                                            "{maxTTFTPenaltyMs: 0, peakPrefillThroughput: 0}"}) {
    EXPECT_THAT(Kept(*Made<Filter>(kType, parameters), pool), ElementsAre(0)) << parameters;
  }
  EXPECT_THAT(ErrorsOf(kType, "{peakPrefillThroughput: 0}"),
              ElementsAre(HasSubstr("peakPrefillThroughput: must be above 0")));
}

TEST(PrefixCacheAffinityFilter, SaysThatThereIsNoPredictor) {
  EXPECT_THAT(ErrorsOf(kType, "{ttftSource: latencyPredictor}"),
              ElementsAre(HasSubstr("prediction is not available in this build")));
  EXPECT_THAT(ErrorsOf(kType, "{ttftSource: guess}"), ElementsAre(HasSubstr("prefillThroughput")));
}

}  // namespace
}  // namespace penstock::plugins
