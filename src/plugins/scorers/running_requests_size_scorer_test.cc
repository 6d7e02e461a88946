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

TEST(RunningRequestsSizeScorer, SmallestBatchScoresOne) {
  TestPool pool(3);
  pool.columns.running = {10, 30, 20};
  pool.columns.waiting = {9, 0, 0};
  EXPECT_THAT(Scores(*Made<Scorer>("running-requests-size-scorer"), pool), ElementsAre(1, 0, 0.5));
}

TEST(RunningRequestsSizeScorer, EqualBatchesAllScoreOne) {
  TestPool pool(2);
  pool.columns.running = {3, 3};
  EXPECT_THAT(Scores(*Made<Scorer>("running-requests-size-scorer"), pool), Each(1));
}

}  // namespace
}  // namespace penstock::plugins
