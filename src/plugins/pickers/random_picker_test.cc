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

TEST(RandomPicker, EveryCandidateIsEquallyLikelyWhateverItsTotal) {
  TestPool pool(8);
  pool.all.Clear(2);
  const std::vector<float> scores = {9, 0, 0, -1, 0, 5, 0, 0};
  Random random(42);
  const Made<Picker> picker("random-picker");
  std::map<uint32_t, int> wins;
  for (int i = 0; i < 7000; ++i) {
    uint32_t out = 99;
    ASSERT_EQ(picker->Pick(scores, pool.all, random, {&out, 1}), 1u);
    ++wins[out];
  }
  ASSERT_EQ(wins.size(), 7u);
  double chi_square = 0;
  for (const auto& [column, n] : wins) chi_square += std::pow(n - 1000.0, 2) / 1000.0;
  EXPECT_LT(chi_square, 22.5);
  EXPECT_FALSE(wins.contains(2));
}

TEST(RandomPicker, PicksAreDifferentEndpoints) {
  TestPool pool(8);
  Random random(1);
  const Made<Picker> picker("random-picker", "{maxNumOfEndpoints: 8}");
  for (int i = 0; i < 50; ++i) {
    std::vector<uint32_t> out(8);
    ASSERT_EQ(picker->Pick(std::vector<float>(8), pool.all, random, out), 8u);
    EXPECT_EQ(std::set<uint32_t>(out.begin(), out.end()).size(), 8u);
  }
}

}  // namespace
}  // namespace penstock::plugins
