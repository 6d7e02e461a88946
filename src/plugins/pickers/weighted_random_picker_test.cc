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

// How often each of the first picks was which, of `rounds`.
std::vector<int> FirstPicks(std::string_view parameters, const std::vector<float>& scores,
                            int rounds) {
  TestPool pool(scores.size());
  Random random(42);
  const Made<Picker> picker("weighted-random-picker", parameters);
  std::vector<int> wins(scores.size());
  for (int i = 0; i < rounds; ++i) {
    std::vector<uint32_t> out(picker->max_endpoints());
    out.resize(picker->Pick(scores, pool.all, random, out));
    EXPECT_EQ(std::set<uint32_t>(out.begin(), out.end()).size(), out.size());
    ++wins[out.front()];
  }
  return wins;
}

TEST(WeightedRandomPicker, WinsAreInProportionToTotals) {
  for (const std::string_view parameters : {"{}", "{maxNumOfEndpoints: 2}"}) {
    const std::vector<int> wins = FirstPicks(parameters, {1, 2, 0, 5}, 8000);
    EXPECT_NEAR(wins[0], 1000, 120) << parameters;
    EXPECT_NEAR(wins[1], 2000, 160) << parameters;
    EXPECT_EQ(wins[2], 0) << parameters;
    EXPECT_NEAR(wins[3], 5000, 180) << parameters;
  }
}

TEST(WeightedRandomPicker, AllZeroIsUniform) {
  for (const std::string_view parameters : {"{}", "{maxNumOfEndpoints: 2}"}) {
    for (const int n : FirstPicks(parameters, {0, 0, 0, 0}, 4000)) EXPECT_NEAR(n, 1000, 120);
  }
}

TEST(WeightedRandomPicker, ZeroComesAfterEverybodyElse) {
  TestPool pool(4);
  Random random(1);
  const Made<Picker> picker("weighted-random-picker", "{maxNumOfEndpoints: 4}");
  std::set<uint32_t> last;
  for (int i = 0; i < 200; ++i) {
    std::vector<uint32_t> out(4);
    ASSERT_EQ(picker->Pick(std::vector<float>{1e-30F, 0, 1, 0}, pool.all, random, out), 4u);
    EXPECT_THAT(std::vector<uint32_t>(out.begin(), out.begin() + 2), ::testing::Contains(0));
    last.insert(out[3]);
  }
  EXPECT_THAT(last, ElementsAre(1, 3));
}

}  // namespace
}  // namespace penstock::plugins
