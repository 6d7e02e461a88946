#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::FloatEq;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using ::testing::Pointwise;
using testing::Scores;
using testing::TestPool;

TEST(ActiveRequestScorer, ScoresAgainstTheBusiest) {
  TestPool pool(4);
  pool.columns.in_flight_requests = {0, 1, 2, 4};
  EXPECT_THAT(Scores(*Made<Scorer>("active-request-scorer"), pool), ElementsAre(1, 0.75, 0.5, 0));
}

TEST(ActiveRequestScorer, IdleOnesScoreOneAndBusyOnesAtMostTheirBound) {
  TestPool pool(4);
  pool.columns.in_flight_requests = {0, 1, 2, 4};
  const Made<Scorer> scorer("active-request-scorer", "{idleThreshold: 1, maxBusyScore: 0.5}");
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(1, 1, 0.25, 0));
}

TEST(ActiveRequestScorer, AllIdleScoreOne) {
  TestPool pool(2);
  EXPECT_THAT(Scores(*Made<Scorer>("active-request-scorer"), pool), Each(1));
}

TEST(ActiveRequestScorer, ReadsTheLoadOfTheProducerThatIsNamed) {
  EXPECT_EQ(Made<Scorer>("active-request-scorer", "{inFlightLoadProducerName: mine}")
                ->Needs()
                .at(0)
                .producer,
            "mine");
}

TEST(ActiveRequestScorer, TheBusiestIsACandidate) {
  TestPool pool(3);
  pool.columns.in_flight_requests = {1, 2, 100};
  pool.all.Clear(2);
  EXPECT_EQ(Scores(*Made<Scorer>("active-request-scorer"), pool)[0], 0.5);
}

}  // namespace
}  // namespace penstock::plugins
