#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Picker;
using ::testing::ElementsAre;
using testing::Made;
using testing::TestPool;

TEST(RoundRobinPicker, CandidatesTakeTurns) {
  TestPool pool(5);
  pool.all.Clear(1);
  Random random(1);
  const Made<Picker> picker("round-robin-picker");
  std::vector<uint32_t> picks;
  for (int i = 0; i < 9; ++i) {
    uint32_t out = 99;
    ASSERT_EQ(picker->Pick(std::vector<float>{9, 0, 0, 0, 0}, pool.all, random, {&out, 1}), 1u);
    picks.push_back(out);
  }
  EXPECT_THAT(picks, ElementsAre(0, 2, 3, 4, 0, 2, 3, 4, 0));
}

TEST(RoundRobinPicker, SeveralAreNeighboursAndNobodyIsNobody) {
  TestPool pool(3);
  Random random(1);
  const Made<Picker> picker("round-robin-picker", "{maxNumOfEndpoints: 5}");
  std::vector<uint32_t> out(3);
  ASSERT_EQ(picker->Pick(std::vector<float>(3), pool.all, random, out), 3u);
  ASSERT_EQ(picker->Pick(std::vector<float>(3), pool.all, random, out), 3u);
  EXPECT_THAT(out, ElementsAre(1, 2, 0));
  pool.all.Reset(3);
  EXPECT_EQ(picker->Pick(std::vector<float>(3), pool.all, random, out), 0u);
}

}  // namespace
}  // namespace penstock::plugins
