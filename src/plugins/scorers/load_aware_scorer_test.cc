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

TEST(LoadAwareScorer, FallsFromOneHalfToZeroAtTheThreshold) {
  TestPool pool(4);
  pool.columns.waiting = {0, 32, 128, 500};
  EXPECT_THAT(Scores(*Made<Scorer>("load-aware-scorer"), pool), ElementsAre(0.5, 0.375, 0, 0));
  EXPECT_THAT(Scores(*Made<Scorer>("load-aware-scorer", "{threshold: 64}"), pool),
              ElementsAre(0.5, 0.25, 0, 0));
}

TEST(LoadAwareScorer, RefusesAThresholdOfZero) {
  EXPECT_THAT(ErrorsOf("load-aware-scorer", "{threshold: 0}"), ElementsAre(HasSubstr("threshold")));
}

}  // namespace
}  // namespace penstock::plugins
