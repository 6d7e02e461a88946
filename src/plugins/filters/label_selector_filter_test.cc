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

// Endpoints with and without the label "tier".
struct TierPool : TestPool {
  explicit TierPool(std::vector<std::string> tiers) : TestPool(tiers.size()) {
    for (size_t i = 0; i < tiers.size(); ++i) {
      if (!tiers[i].empty()) pool.endpoints[i].spec.labels = {{"a", "x"}, {"tier", tiers[i]}};
    }
    Index();
  }
};

TEST(LabelSelectorFilter, MatchesLabelsExactly) {
  TierPool pool({"gold", "silver", "", "gold"});
  EXPECT_THAT(Kept(*Made<Filter>("label-selector-filter", "{matchLabels: {tier: gold}}"), pool),
              ElementsAre(0, 3));
  EXPECT_THAT(
      Kept(*Made<Filter>("label-selector-filter", "{matchLabels: {tier: gold, a: y}}"), pool),
      IsEmpty());
  EXPECT_THAT(Kept(*Made<Filter>("label-selector-filter"), pool), ElementsAre(0, 1, 2, 3));
}

TEST(LabelSelectorFilter, KnowsTheOperatorsOfKubernetes) {
  TierPool pool({"gold", "silver", "", "iron"});
  const auto kept = [&](const std::string& expression) {
    return Kept(*Made<Filter>("label-selector-filter",
                              "{matchExpressions: [{key: tier, " + expression + "}]}"),
                pool);
  };
  EXPECT_THAT(kept("operator: In, values: [gold, silver]"), ElementsAre(0, 1));
  EXPECT_THAT(kept("operator: NotIn, values: [gold, silver]"), ElementsAre(2, 3));
  EXPECT_THAT(kept("operator: Exists"), ElementsAre(0, 1, 3));
  EXPECT_THAT(kept("operator: DoesNotExist"), ElementsAre(2));
}

TEST(LabelSelectorFilter, RefusesExpressionsThatMakeNoSense) {
  const auto errors = [](const std::string& expression) {
    return ErrorsOf("label-selector-filter",
                    "{matchExpressions: [{key: tier, " + expression + "}]}");
  };
  EXPECT_THAT(errors("operator: In"), ElementsAre(HasSubstr("In of 'tier' needs values")));
  EXPECT_THAT(errors("operator: Exists, values: [a]"), ElementsAre(HasSubstr("takes no values")));
  EXPECT_THAT(errors("operator: Gt, values: [a]"), ElementsAre(HasSubstr("NotIn")));
}

TEST(LabelSelectorFilter, SeesChangedLabelsInTheNextSnapshot) {
  TierPool pool({"gold", "silver"});
  const Made<Filter> filter("label-selector-filter", "{matchLabels: {tier: gold}}");
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0));
  pool.pool.endpoints[1].spec.labels = {{"tier", "gold"}};
  pool.Index();
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0, 1));
}

TEST(LabelSelectorFilter, InstancesDoNotShareVerdicts) {
  TierPool pool({"gold", "silver"});
  std::vector<Made<Filter>> filters;
  for (int i = 0; i < 40; ++i) {
    filters.emplace_back("label-selector-filter", i % 2 == 0 ? "{matchLabels: {tier: gold}}"
                                                             : "{matchLabels: {tier: silver}}");
  }
  for (int round = 0; round < 2; ++round) {
    for (uint32_t i = 0; i < filters.size(); ++i) {
      EXPECT_THAT(Kept(*filters[i], pool), ElementsAre(i % 2));
    }
  }
}

}  // namespace
}  // namespace penstock::plugins
