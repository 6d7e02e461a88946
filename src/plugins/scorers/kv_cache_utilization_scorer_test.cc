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

TEST(KvCacheUtilizationScorer, ScoresWhatIsFree) {
  TestPool pool(3);
  pool.columns.kv_usage = {0, 0.25, 1};
  EXPECT_THAT(Scores(*Made<Scorer>("kv-cache-utilization-scorer"), pool), ElementsAre(1, 0.75, 0));
}

// The columns of an endpoint that was never scraped are 0: it counts as empty, as in llm-d.
TEST(KvCacheUtilizationScorer, TakesAMissingValueAsEmpty) {
  TestPool pool(1);
  pool.columns.metrics_age_s = {INFINITY};
  EXPECT_THAT(Scores(*Made<Scorer>("kv-cache-utilization-scorer"), pool), ElementsAre(1));
}

}  // namespace
}  // namespace penstock::plugins
