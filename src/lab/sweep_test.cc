#include "lab/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/summary.h"

namespace penstock::lab {
namespace {

using ::testing::HasSubstr;

ArmResult Made(std::string name, double value) {
  ArmResult arm{.name = std::move(name), .numbers = {}, .digests = {}};
  for (const auto& [number, unused] : Summary().Numbers()) {
    arm.numbers.emplace_back(number, EstimateOf({value * 0.99, value, value * 1.011}));
  }
  return arm;
}

std::vector<Comparison> Two() {
  return {{.workload = "w1", .fleet = "", .seeds = 3, .arms = {Made("a", 10), Made("b", 20)}},
          {.workload = "w2", .fleet = "", .seeds = 3, .arms = {Made("a", 30), Made("b", 10)}}};
}

TEST(Rank, IsTheMeanDistanceToTheBest) {
  const auto comparisons = Two();
  auto ranking = Rank(comparisons, "e2e_mean_s");
  ASSERT_TRUE(ranking);
  EXPECT_EQ((*ranking)[0].name, "b");
  EXPECT_NEAR((*ranking)[0].ratio, 1.5, 1e-9);
  EXPECT_NEAR((*ranking)[1].ratio, 2, 1e-9);
  EXPECT_EQ((*ranking)[0].alike, 1u);
  // More is better here: the same arm, the other way round.
  ranking = Rank(comparisons, "output_tokens_per_s");
  EXPECT_EQ((*ranking)[0].name, "a");
  EXPECT_NEAR((*ranking)[0].ratio, 1.5, 1e-9);
}

TEST(Rank, AnUnknownNumberIsNamedWithTheNearest) {
  const auto comparisons = Two();
  EXPECT_THAT(Rank(comparisons, "e2e_mean").error().message,
              HasSubstr("no number 'e2e_mean', did you mean 'e2e_mean_s'?"));
}

TEST(Rank, IsShownAsFarAsWanted) {
  const auto comparisons = Two();
  const std::string text =
      RenderRanking(*Rank(comparisons, "e2e_mean_s"), comparisons, "e2e_mean_s", 1);
  EXPECT_THAT(text, HasSubstr("b               50.00 %         1 of 2\n"));
  EXPECT_THAT(text, HasSubstr("and 1 others\n"));
}

}  // namespace
}  // namespace penstock::lab
