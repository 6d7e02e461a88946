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

TEST(ByLabel, KeepsValidValuesAndUnlabelledOnesWhenAllowed) {
  TestPool pool(3);
  pool.pool.endpoints[0].spec.labels = {{"tier", "gold"}};
  pool.pool.endpoints[1].spec.labels = {{"tier", "iron"}};
  pool.Index();
  EXPECT_THAT(Kept(*Made<Filter>("by-label", "{label: tier, validValues: [gold]}"), pool),
              ElementsAre(0));
  EXPECT_THAT(
      Kept(*Made<Filter>("by-label", "{label: tier, validValues: [gold], allowsNoLabel: true}"),
           pool),
      ElementsAre(0, 2));
}

TEST(ByLabel, RefusesToKeepNobodyEver) {
  EXPECT_THAT(ErrorsOf("by-label", "{label: tier}"), ElementsAre(HasSubstr("validValues")));
  EXPECT_THAT(ErrorsOf("by-label", "{validValues: [gold]}"), ElementsAre(HasSubstr("label")));
}

}  // namespace
}  // namespace penstock::plugins
