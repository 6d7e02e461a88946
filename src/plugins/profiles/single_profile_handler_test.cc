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

TEST(SingleProfileHandler, RunsTheOnlyProfileOnce) {
  const Made<sched::ProfileHandler> handler("single-profile-handler");
  const std::vector<std::string> names = {"default"};
  EXPECT_EQ(handler->Next({}, names, {}), 0);
  const std::vector<sched::ProfileResult> results(1);
  EXPECT_EQ(handler->Next({}, names, results), -1);
  EXPECT_EQ(handler->Primary(results), 0u);
}

TEST(SingleProfileHandler, RefusesMoreOrFewerProfiles) {
  const Made<sched::ProfileHandler> handler("single-profile-handler");
  EXPECT_EQ(handler->CheckProfiles(std::vector<std::string>{"a"}), "");
  EXPECT_THAT(handler->CheckProfiles(std::vector<std::string>{"a", "b"}), HasSubstr("exactly one"));
  EXPECT_THAT(handler->CheckProfiles({}), HasSubstr("exactly one"));
}

}  // namespace
}  // namespace penstock::plugins
