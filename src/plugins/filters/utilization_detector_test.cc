#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using testing::Kept;
using testing::Made;
using testing::TestPool;

constexpr std::string_view kType = "utilization-detector";

TEST(UtilizationDetector, KeepsWhoIsBelowBothLimits) {
  TestPool pool(4);
  pool.columns.waiting = {4, 5, 0, 0};
  pool.columns.kv_usage = {0.79F, 0, 0.8F, 0};
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), ElementsAre(0, 3));
  // 5 * 1.2 = 6 and 0.8 * 1.2 = 0.96.
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{headroom: 0.2}"), pool), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{queueDepthThreshold: 4}"), pool), ElementsAre(3));
}

TEST(UtilizationDetector, LeavesOutStaleMetrics) {
  TestPool pool(3);
  pool.columns.metrics_age_s = {0.1F, 0.3F, std::numeric_limits<float>::infinity()};
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), ElementsAre(0));
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{metricsStalenessThreshold: 1s}"), pool),
              ElementsAre(0, 1));
}

TEST(UtilizationDetector, KeepsAllWhenNobodyPasses) {
  TestPool pool(2);
  pool.columns.waiting = {9, 9};
  const Made<Filter> filter(kType);
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0, 1));
  EXPECT_THAT(filter->WhyAllPass({}, pool.columns, pool.all), HasSubstr("nobody is below"));
  pool.all.Clear(1);
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0));
}

TEST(UtilizationDetector, LimitsAreAboveZero) {
  EXPECT_THAT(ErrorsOf(kType, "{queueDepthThreshold: 0}"), ElementsAre(HasSubstr("above 0")));
  EXPECT_THAT(ErrorsOf(kType, "{kvCacheUtilThreshold: 0}"), ElementsAre(HasSubstr("above 0")));
}

}  // namespace
}  // namespace penstock::plugins
