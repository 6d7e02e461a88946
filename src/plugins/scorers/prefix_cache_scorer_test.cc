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

TEST(PrefixCacheScorer, ScoresTheMatchedShare) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 1, 4});
  EXPECT_THAT(Scores(*Made<Scorer>("prefix-cache-scorer"), pool), ElementsAre(0, 0.25, 1));
}

TEST(PrefixCacheScorer, NoPromptScoresZero) {
  TestPool pool(2);
  pool.SetPrefix(0, {0, 0});
  EXPECT_THAT(Scores(*Made<Scorer>("prefix-cache-scorer"), pool), Each(0));
}

TEST(PrefixCacheScorer, WeighsTheLengthOfTheMatch) {
  TestPool pool(3);
  pool.SetPrefix(256, {64, 128, 256});
  // 64 blocks of 64 tokens are half of 8192: 0.5 x 0.5^2 + 0.5 x 64 / 256 = 0.25.
  // 128 blocks are all of it: 0.5 + 0.5 x 0.5. 256 blocks do not count for more than that.
  EXPECT_THAT(Scores(*Made<Scorer>("prefix-cache-scorer", "{matchLengthWeight: 0.5}"), pool),
              ElementsAre(0.25, 0.75, 1));
}

}  // namespace
}  // namespace penstock::plugins
