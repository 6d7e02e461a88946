#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::FloatEq;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using ::testing::Pointwise;
using testing::Scores;
using testing::TestPool;

sched::RequestContext With(std::string_view name, std::string_view value) {
  sched::RequestContext context;
  context.request.headers.push_back({name, value});
  return context;
}

TEST(SessionAffinityFilter, KeepsTheBoundEndpointOnly) {
  TestPool pool(3);
  const Made<Filter> filter("session-affinity-filter", "{strategy: session_id}");
  sched::RequestContext anna = With("x-session-id", "anna");
  EXPECT_THAT(Kept(*filter, pool, anna), ElementsAre(0, 1, 2));
  filter->OnPicked(anna, pool.columns, pool.Pick(1));
  EXPECT_THAT(Kept(*filter, pool, anna), ElementsAre(1));
}

TEST(SessionAffinityFilter, KeepsAllWhenTheBoundEndpointIsNoCandidate) {
  TestPool pool(3);
  const Made<Filter> filter("session-affinity-filter", "{strategy: session_id}");
  sched::RequestContext anna = With("x-session-id", "anna");
  filter->OnPicked(anna, pool.columns, pool.Pick(1));
  pool.all.Clear(1);
  EXPECT_THAT(Kept(*filter, pool, anna), ElementsAre(0, 2));
}

TEST(SessionAffinityFilter, AnswersWithATokenThatBindsTheNextRequest) {
  TestPool pool(3);
  const Made<Filter> filter("session-affinity-filter",
                            "{encodedEndpointHeaderConfig: {header: x-sticky}}");
  sched::RequestContext first;
  filter->OnPicked(first, pool.columns, pool.Pick(2));
  ASSERT_EQ(first.response_headers.size(), 1u);
  EXPECT_THAT(Kept(*filter, pool, With("X-Sticky", first.response_headers[0].second)),
              ElementsAre(2));
}

}  // namespace
}  // namespace penstock::plugins
