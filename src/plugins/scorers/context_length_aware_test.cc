#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Scorer;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using testing::Kept;
using testing::Made;
using testing::Scores;
using testing::TestPool;

constexpr std::string_view kType = "context-length-aware";

struct RangePool : TestPool {
  explicit RangePool(std::vector<std::string> ranges,
                     std::string_view label = "llm-d.ai/context-length-range")
      : TestPool(ranges.size()) {
    for (size_t i = 0; i < ranges.size(); ++i) {
      if (!ranges[i].empty()) pool.endpoints[i].spec.labels = {{std::string(label), ranges[i]}};
    }
    Index();
  }
};

sched::RequestContext Prompt(uint64_t tokens) {
  sched::RequestContext context;
  context.input_tokens = tokens;
  return context;
}

TEST(ContextLengthAware, PrefersNarrowRangesWithRoom) {
  RangePool pool({"0-10000", "1000-2000", "1500-1500", "", "x", "2000-1000", "0 - 10000"});
  const Made<Scorer> scorer(kType);
  // 0.3 + 0.7 * (0.7 / 2 + 0.3 * 8500 / 10000) and 0.3 + 0.7 * (0.7 / 1.1 + 0.3 * 500 / 1000).
  EXPECT_THAT(Scores(*scorer, pool, Prompt(1500)),
              ElementsAre(FloatNear(0.7235F, 1e-5F), FloatNear(0.850455F, 1e-5F), 1, 0.5, 0, 0,
                          FloatNear(0.7235F, 1e-5F)));
}

TEST(ContextLengthAware, OutsideOfTheRangeTheDistanceCounts) {
  RangePool pool({"0-1000", "4000-5000", "3000-3000"});
  const Made<Scorer> scorer(kType);
  EXPECT_THAT(Scores(*scorer, pool, Prompt(3000)),
              ElementsAre(FloatNear(0.1F, 1e-6F), FloatNear(0.15F, 1e-6F), 1));
}

TEST(ContextLengthAware, FiltersOnDemandAndLetsUnlabelledOnesPass) {
  RangePool pool({"0-2048", "2048-131072", "", "long"});
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool, Prompt(100)), ElementsAre(0, 1, 2, 3));
  const Made<Filter> filter(kType, "{enableFiltering: true}");
  EXPECT_THAT(Kept(*filter, pool, Prompt(100)), ElementsAre(0, 2));
  EXPECT_THAT(Kept(*filter, pool, Prompt(2048)), ElementsAre(0, 1, 2));
  EXPECT_THAT(Kept(*filter, pool, Prompt(131073)), ElementsAre(2));
  EXPECT_EQ(Made<Filter>(kType)->WhyAllPass({}, pool.columns, pool.all), "enableFiltering is off");
}

TEST(ContextLengthAware, ReadsAnotherLabel) {
  RangePool pool({"0-1", "5-5"}, "range");
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{label: range, enableFiltering: true}"), pool, Prompt(5)),
              ElementsAre(1));
  EXPECT_THAT(ErrorsOf(kType, "{label: ''}"), ElementsAre(HasSubstr("label: it is empty")));
}

}  // namespace
}  // namespace penstock::plugins
