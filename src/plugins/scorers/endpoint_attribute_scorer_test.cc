#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Scorer;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using testing::Made;
using testing::Scores;
using testing::TestPool;

constexpr std::string_view kType = "endpoint-attribute-scorer";

std::string With(std::string_view attribute, std::string_view type,
                 std::string_view normalization = "{}") {
  std::string text = "{attributeKey: ";
  text.append(attribute).append(", algorithm: {type: ").append(type);
  text.append(", normalization: ").append(normalization).append("}}");
  return text;
}

TEST(EndpointAttributeScorer, TheCandidatesMakeTheScale) {
  TestPool pool(4);
  pool.columns.waiting = {2, 4, 6, 100};
  pool.all.Clear(3);
  std::vector<float> scores =
      Scores(*Made<Scorer>(kType, With("WaitingQueueSize", "linear_lower_is_better")), pool);
  scores.pop_back();
  EXPECT_THAT(scores, ElementsAre(1, 0.5, 0));
  scores = Scores(*Made<Scorer>(kType, With("WaitingQueueSize", "linear_higher_is_better",
                                            "{adaptiveRange: {}}")),
                  pool);
  scores.pop_back();
  EXPECT_THAT(scores, ElementsAre(0, 0.5, 1));
}

TEST(EndpointAttributeScorer, AFixedScaleClamps) {
  TestPool pool(3);
  pool.columns.kv_usage = {0.25F, 0.5F, 0.9F};
  EXPECT_THAT(Scores(*Made<Scorer>(kType, With("KVCacheUsagePercent", "linear_lower_is_better",
                                               "{fixedRange: {min: 0, max: 0.5}}")),
                     pool),
              ElementsAre(0.5, 0, 0));
}

TEST(EndpointAttributeScorer, EqualOnesScoreOneAndUnknownOnesZero) {
  TestPool pool(3);
  pool.columns.running = {7, 7, 0};
  pool.columns.metrics_age_s[2] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(
      Scores(*Made<Scorer>(kType, With("RunningRequestsSize", "linear_lower_is_better")), pool),
      ElementsAre(1, 1, 0));
}

TEST(EndpointAttributeScorer, RefusesScalesAndAttributesThatCannotBe) {
  EXPECT_THAT(ErrorsOf(kType, With("WaitingQueueSize", "linear_lower_is_better",
                                   "{fixedRange: {min: 1, max: 1}}")),
              ElementsAre(HasSubstr("min must be less than max")));
  EXPECT_THAT(ErrorsOf(kType, With("WaitingQueueSize", "linear_lower_is_better",
                                   "{fixedRange: {min: 0, max: 1}, adaptiveRange: {}}")),
              ElementsAre(HasSubstr("give one of")));
}

TEST(EndpointAttributeScorer, ReadsAttributesOfTheConfiguration) {
  TestPool pool(3);
  pool.columns.attributes = {{4, 2, std::numeric_limits<float>::quiet_NaN()}};
  const Made<Scorer> scorer(kType, With("custom.depth", "linear_lower_is_better"));
  EXPECT_EQ(scorer->Needs().front().attribute, "custom.depth");
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(0, 1, 0));
}

}  // namespace
}  // namespace penstock::plugins
