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

TEST(ByLabelSelector, IsTheDeprecatedNameOfTheSelectorFilter) {
  TestPool pool(2);
  pool.pool.endpoints[1].spec.labels = {{"tier", "gold"}};
  pool.Index();
  EXPECT_THAT(Kept(*Made<Filter>("by-label-selector", "{matchLabels: {tier: gold}}"), pool),
              ElementsAre(1));
  EXPECT_EQ(Builtins().Find("by-label-selector")->stability, sched::Stability::kDeprecated);
}

}  // namespace
}  // namespace penstock::plugins
