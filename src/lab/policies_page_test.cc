#include "lab/policies_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/summary.h"

namespace penstock::lab {
namespace {

using ::testing::HasSubstr;

// Every number of an arm is `value` in three seeds, give or take `spread`.
ArmResult Made(std::string name, double value, double spread) {
  ArmResult arm{.name = std::move(name), .numbers = {}, .digests = {}};
  for (const auto& [number, unused] : Summary().Numbers()) {
    arm.numbers.emplace_back(number, EstimateOf({value - spread, value, value + spread * 0.9}));
  }
  return arm;
}

TEST(PoliciesPage, MarksTheBestAndWhatCannotBeToldFromIt) {
  const std::vector<Comparison> comparisons = {
      {.workload = "w1",
       .fleet = "f",
       .seeds = 3,
       .arms = {Made("slow", 20, 0.1), Made("fast", 10, 0.1), Made("alike", 10.01, 0.2)}}};
  const std::string text = RenderMarkdown(comparisons);
  EXPECT_THAT(text, HasSubstr("### E2E, mean, s\n\n| workload | slow | fast | alike |\n"
                              "|---|---|---|---|\n| w1 | 20 | **9.997** | **10** |\n"));
  EXPECT_THAT(text, HasSubstr("of 1 workloads\n\n| number | slow | fast | alike |\n"));
  EXPECT_THAT(text, HasSubstr("| E2E, mean, s | 0 | 1 | 1 |\n"));
  EXPECT_THAT(text, HasSubstr("| Output tokens/s, to the last answer | 1 | 0 | 0 |\n"))
      << "more is better";
  EXPECT_EQ(RenderMarkdown({}), "");
}

TEST(PoliciesPage, NumbersGoBetweenTheMarks) {
  const auto page =
      ReplaceNumbers("before\n<!-- numbers -->\nold\n<!-- end of numbers -->\nafter\n", "new\n");
  ASSERT_TRUE(page);
  EXPECT_EQ(*page, "before\n<!-- numbers -->\n\nnew\n\n<!-- end of numbers -->\nafter\n");
  EXPECT_EQ(*ReplaceNumbers(*page, "new\n"), *page);
  EXPECT_FALSE(ReplaceNumbers("<!-- end of numbers --><!-- numbers -->", ""));
  EXPECT_THAT(ReplaceNumbers("", "").error().message, HasSubstr("<!-- numbers -->"));
}

}  // namespace
}  // namespace penstock::lab
