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

TEST(UtilizationFilter, KeepsWhatIsWithinEveryBound) {
  TestPool pool(4);
  pool.columns.in_flight_requests = {1, 2, 3, 1};
  pool.columns.running = {1, 1, 1, 9};
  pool.columns.waiting = {5, 5, 0, 0};
  pool.columns.kv_usage = {0.5, 0.9, 0.5, 0.5};
  const auto kept = [&](const std::string& conditions) {
    return Kept(*Made<Filter>("utilization-filter", "{conditions: [" + conditions + "]}"), pool);
  };
  EXPECT_THAT(kept("{metric: active-requests, maxValue: 2}"), ElementsAre(0, 1, 3));
  EXPECT_THAT(kept("{metric: running-requests, maxValue: 8}"), ElementsAre(0, 1, 2));
  EXPECT_THAT(kept("{metric: waiting-queue, maxValue: 4}"), ElementsAre(2, 3));
  EXPECT_THAT(kept("{metric: kv-cache-utilization, maxValue: 0.8}"), ElementsAre(0, 2, 3));
  EXPECT_THAT(kept("{metric: waiting-queue, maxValue: 5}, {metric: kv-cache-utilization, "
                   "maxValue: 0.5}, {metric: active-requests, maxValue: 1}"),
              ElementsAre(0, 3));
}

TEST(UtilizationFilter, FallsBackToAllOnlyWhenToldTo) {
  TestPool pool(2);
  pool.columns.waiting = {5, 6};
  EXPECT_THAT(Kept(*Made<Filter>("utilization-filter",
                                 "{conditions: [{metric: waiting-queue, maxValue: 1}]}"),
                   pool),
              IsEmpty());
  const Made<Filter> lenient(
      "utilization-filter",
      "{fallbackOnEmpty: true, conditions: [{metric: waiting-queue, maxValue: 1}]}");
  EXPECT_THAT(Kept(*lenient, pool), ElementsAre(0, 1));
  pool.columns.waiting = {5, 1};
  EXPECT_THAT(Kept(*lenient, pool), ElementsAre(1));
}

TEST(UtilizationFilter, NeedsOnlyWhatItsConditionsRead) {
  const Made<Filter> filter("utilization-filter",
                            "{conditions: [{metric: kv-cache-utilization, maxValue: 1}]}");
  ASSERT_EQ(filter->Needs().size(), 1u);
  EXPECT_EQ(filter->Needs()[0].key, sched::DataKey::kKvUsage);
}

TEST(UtilizationFilter, RefusesUnknownMetricsAndNoConditions) {
  EXPECT_THAT(ErrorsOf("utilization-filter", "{}"), ElementsAre(HasSubstr("at least one")));
  EXPECT_THAT(ErrorsOf("utilization-filter", "{conditions: [{metric: gpu, maxValue: 1}]}"),
              ElementsAre(HasSubstr("waiting-queue")));
}

}  // namespace
}  // namespace penstock::plugins
