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

TEST(TokenLoadScorer, CountsTokensInFlightAndThoseOfThisRequest) {
  TestPool pool(4);
  pool.columns.in_flight_tokens = {0, 250, 500, 5000};
  pool.columns.uncached_tokens = {0, 250, 0, 0};
  const Made<Scorer> scorer("token-load-scorer", "{queueThresholdTokens: 1000}");
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(1, 0.5, 0.5, 0));
}

TEST(TokenLoadScorer, HasLlmdsThreshold) {
  TestPool pool(1);
  pool.columns.in_flight_tokens = {1048576};
  EXPECT_THAT(Scores(*Made<Scorer>("token-load-scorer"), pool), ElementsAre(0.75));
}

}  // namespace
}  // namespace penstock::plugins
