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

constexpr std::string_view kType = "header-label-affinity-scorer";
constexpr std::string_view kParameters = "{headerName: X-Zone, labelKey: zone}";

TEST(HeaderLabelAffinityScorer, PrefersTheLabelThatTheHeaderNames) {
  TestPool pool(3);
  pool.pool.endpoints[0].spec.labels = {{"zone", "eu"}};
  pool.pool.endpoints[1].spec.labels = {{"zone", "us"}};
  pool.Index();
  const Made<Scorer> scorer(kType, kParameters);
  sched::RequestContext context;
  EXPECT_THAT(Scores(*scorer, pool, context), ElementsAre(0, 0, 0));
  context.request.headers = {{"x-zone", " us "}};
  EXPECT_THAT(Scores(*scorer, pool, context), ElementsAre(0, 1, 0));
  context.request.headers = {{"x-zone", "EU"}};  // labels are case-sensitive
  EXPECT_THAT(Scores(*scorer, pool, context), ElementsAre(0, 0, 0));
  context.request.headers = {{"x-zone", ""}};
  EXPECT_THAT(Scores(*scorer, pool, context), ElementsAre(0, 0, 0));
}

TEST(HeaderLabelAffinityScorer, FollowsAChangeOfLabels) {
  TestPool pool(2);
  pool.pool.endpoints[0].spec.labels = {{"zone", "eu"}};
  pool.Index();
  const Made<Scorer> scorer(kType, kParameters);
  sched::RequestContext context;
  context.request.headers = {{"x-zone", "eu"}};
  EXPECT_THAT(Scores(*scorer, pool, context), ElementsAre(1, 0));
  pool.pool.endpoints[0].spec.labels = {{"zone", "us"}};
  pool.pool.endpoints[1].spec.labels = {{"zone", "eu"}};
  pool.Index();
  EXPECT_THAT(Scores(*scorer, pool, context), ElementsAre(0, 1));
}

TEST(HeaderLabelAffinityScorer, NeedsBothNames) {
  EXPECT_THAT(ErrorsOf(kType, "{labelKey: zone}"), ElementsAre(HasSubstr("headerName is missing")));
  EXPECT_THAT(ErrorsOf(kType, "{headerName: a}"), ElementsAre(HasSubstr("labelKey is missing")));
}

}  // namespace
}  // namespace penstock::plugins
