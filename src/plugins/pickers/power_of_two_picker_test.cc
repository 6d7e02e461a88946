#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Picker;
using testing::Made;
using testing::TestPool;

// Of n candidates the one of rank r (0 the best) wins with 2 (n - 1 - r) / (n (n - 1)).
TEST(PowerOfTwoPicker, TheBetterOfTwoDrawnWins) {
  TestPool pool(5);
  pool.all.Clear(4);
  const std::vector<float> scores = {0.1F, 0.9F, 0.5F, 0.3F, 7};
  Random random(5);
  const Made<Picker> picker("power-of-two-picker");
  std::map<uint32_t, int> wins;
  for (int i = 0; i < 6000; ++i) {
    uint32_t out = 99;
    ASSERT_EQ(picker->Pick(scores, pool.all, random, {&out, 1}), 1u);
    ++wins[out];
  }
  EXPECT_NEAR(wins[1], 3000, 160);
  EXPECT_NEAR(wins[2], 2000, 150);
  EXPECT_NEAR(wins[3], 1000, 120);
  EXPECT_EQ(wins[0] + wins[4], 0);
}

TEST(PowerOfTwoPicker, OneOrNobody) {
  TestPool pool(3);
  pool.all.Clear(0);
  pool.all.Clear(2);
  Random random(1);
  uint32_t out = 99;
  const Made<Picker> picker("power-of-two-picker");
  ASSERT_EQ(picker->Pick(std::vector<float>(3), pool.all, random, {&out, 1}), 1u);
  EXPECT_EQ(out, 1u);
  pool.all.Clear(1);
  EXPECT_EQ(picker->Pick(std::vector<float>(3), pool.all, random, {&out, 1}), 0u);
}

}  // namespace
}  // namespace penstock::plugins
