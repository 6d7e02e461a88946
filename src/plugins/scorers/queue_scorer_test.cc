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

TEST(QueueScorer, ShortestQueueScoresOneAndLongestZero) {
  TestPool pool(3);
  pool.columns.waiting = {4, 0, 8};
  EXPECT_THAT(Scores(*Made<Scorer>("queue-scorer"), pool), ElementsAre(0.5, 1, 0));
}

TEST(QueueScorer, EqualQueuesAllScoreOne) {
  TestPool pool(3);
  pool.columns.waiting = {7, 7, 7};
  EXPECT_THAT(Scores(*Made<Scorer>("queue-scorer"), pool), Each(1));
  TestPool one(1);
  EXPECT_THAT(Scores(*Made<Scorer>("queue-scorer"), one), ElementsAre(1));
}

TEST(QueueScorer, LooksAtCandidatesOnly) {
  TestPool pool(3);
  pool.columns.waiting = {0, 2, 1000};
  pool.all.Clear(2);
  const std::vector<float> scores = Scores(*Made<Scorer>("queue-scorer"), pool);
  EXPECT_EQ(scores[0], 1);
  EXPECT_EQ(scores[1], 0);
}

TEST(QueueScorer, NobodyIsNoTrouble) {
  TestPool pool(2);
  pool.all.Reset(2);
  EXPECT_THAT(Scores(*Made<Scorer>("queue-scorer"), pool), Each(1));
}

}  // namespace
}  // namespace penstock::plugins
