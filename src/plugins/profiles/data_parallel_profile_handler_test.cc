#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using testing::Made;

constexpr std::string_view kType = "data-parallel-profile-handler";

TEST(DataParallelProfileHandler, RunsTheOnlyProfileOnce) {
  const Made<sched::ProfileHandler> handler(kType);
  const std::vector<std::string> names = {"default"};
  EXPECT_EQ(handler->Next({}, names, {}), 0);
  const std::vector<sched::ProfileResult> results(1);
  EXPECT_EQ(handler->Next({}, names, results), -1);
  EXPECT_EQ(handler->Primary(results), 0u);
  EXPECT_EQ(handler->CheckProfiles(names), "");
  EXPECT_THAT(handler->CheckProfiles(std::vector<std::string>{"a", "b"}), HasSubstr("exactly one"));
}

TEST(DataParallelProfileHandler, SendsRequestsToThePrimaryPort) {
  EXPECT_EQ(Made<sched::ProfileHandler>(kType)->detour()->port, 8000);
  const Made<sched::ProfileHandler> other(kType, "{primaryPort: 9000}");
  EXPECT_EQ(other->detour()->port, 9000);
  EXPECT_EQ(other->detour()->header, "x-data-parallel-host-port");
}

TEST(DataParallelProfileHandler, RefusesWhatIsNoPort) {
  EXPECT_THAT(ErrorsOf(kType, "{primaryPort: 0}"), ElementsAre(HasSubstr("primaryPort")));
  EXPECT_THAT(ErrorsOf(kType, "{primaryPort: 65536}"), ElementsAre(HasSubstr("primaryPort")));
}

}  // namespace
}  // namespace penstock::plugins
