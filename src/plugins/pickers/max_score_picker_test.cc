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

std::vector<uint32_t> Pick(const Picker& picker, const std::vector<float>& scores,
                           const Mask& candidates, Random& random) {
  std::vector<uint32_t> out(std::min(picker.max_endpoints(), candidates.Count()));
  out.resize(picker.Pick(scores, candidates, random, out));
  return out;
}

TEST(MaxScorePicker, TakesTheBestCandidate) {
  TestPool pool(70);
  std::vector<float> scores(70, 0.5F);
  scores[3] = 0.9F;
  scores[66] = 0.8F;
  Random random(1);
  const Made<Picker> picker("max-score-picker");
  EXPECT_THAT(Pick(*picker, scores, pool.all, random), ElementsAre(3));
  pool.all.Clear(3);
  EXPECT_THAT(Pick(*picker, scores, pool.all, random), ElementsAre(66));
}

TEST(MaxScorePicker, TakesTheLeastNegativeOne) {
  TestPool pool(3);
  Random random(1);
  EXPECT_THAT(Pick(*Made<Picker>("max-score-picker"), {-3, -1, -2}, pool.all, random),
              ElementsAre(1));
}

TEST(MaxScorePicker, NobodyGivesNothing) {
  TestPool pool(3);
  pool.all.Reset(3);
  Random random(1);
  uint32_t out[1];
  EXPECT_EQ(Made<Picker>("max-score-picker")->Pick(std::vector<float>(3), pool.all, random, out),
            0u);
}

// Chi-square with 6 degrees of freedom: 22.5 is exceeded by chance once in a thousand.
void ExpectUniform(std::string_view parameters) {
  TestPool pool(10);
  const std::vector<float> scores = {1, 2, 2, 2, 2, 0, 2, 2, 2, 1};  // seven are best
  Random random(42);
  const Made<Picker> picker("max-score-picker", parameters);
  std::map<uint32_t, int> wins;
  constexpr int kRounds = 7000;
  for (int i = 0; i < kRounds; ++i) ++wins[Pick(*picker, scores, pool.all, random).front()];
  ASSERT_EQ(wins.size(), 7u);
  double chi_square = 0;
  for (const auto& [column, n] : wins) {
    ASSERT_EQ(scores[column], 2);
    chi_square += std::pow(n - kRounds / 7.0, 2) / (kRounds / 7.0);
  }
  EXPECT_LT(chi_square, 22.5);
}

TEST(MaxScorePicker, TiesAreEquallyLikely) {
  ExpectUniform("{}");
  ExpectUniform("{maxNumOfEndpoints: 3}");
}

TEST(MaxScorePicker, TakesSeveralInOrder) {
  TestPool pool(5);
  Random random(1);
  const Made<Picker> picker("max-score-picker", "{maxNumOfEndpoints: 3}");
  EXPECT_THAT(Pick(*picker, {1, 5, 3, 4, 2}, pool.all, random), ElementsAre(1, 3, 2));
  pool.all.Clear(3);
  pool.all.Clear(0);
  pool.all.Clear(4);
  EXPECT_THAT(Pick(*picker, {1, 5, 3, 4, 2}, pool.all, random), ElementsAre(1, 2));
}

TEST(MaxScorePicker, ZeroOrLessMeansOne) {
  EXPECT_EQ(Made<Picker>("max-score-picker", "{maxNumOfEndpoints: 0}")->max_endpoints(), 1u);
  EXPECT_EQ(Made<Picker>("max-score-picker", "{maxNumOfEndpoints: -5}")->max_endpoints(), 1u);
}

}  // namespace
}  // namespace penstock::plugins
