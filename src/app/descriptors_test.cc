#include "app/descriptors.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace penstock::app {
namespace {

TEST(Descriptors, ClientsLeaveAsManyForEnginesAndAFifthForTheRest) {
  EXPECT_EQ(ConnectionsPerLoop(1000, 1, 20'000), 400u);
  EXPECT_EQ(ConnectionsPerLoop(1000, 4, 20'000), 100u);
  EXPECT_EQ(ConnectionsPerLoop(1'000'000, 4, 20'000), 20'000u);
  EXPECT_EQ(ConnectionsPerLoop(RLIM_INFINITY, 256, 1'000'000), 1'000'000u);
  EXPECT_EQ(ConnectionsPerLoop(3, 256, 20'000), 1u);
}

TEST(Descriptors, TheLimitIsRaisedToTheHardOne) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 100;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(RaiseDescriptorLimit(), before.rlim_max);
  rlimit after{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, before.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace penstock::app
