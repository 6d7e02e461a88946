#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using testing::TestPool;

TEST(HeaderBasedTestingFilter, KeepsWhomTheHeaderLists) {
  TestPool pool(4);
  const std::pair<std::string_view, std::string_view> places[] = {{"10.0.0.1", "10.0.0.1:8000"},
                                                                  {"10.0.0.1", "10.0.0.1:8001"},
                                                                  {"fd00::1", "[fd00::1]:8000"},
                                                                  {"10.0.0.11", "10.0.0.11:80"}};
  for (size_t i = 0; i < 4; ++i) {
    pool.pool.endpoints[i].spec.host = places[i].first;
    pool.pool.endpoints[i].address = places[i].second;
  }
  pool.Index();
  const Made<Filter> filter("header-based-testing-filter");
  const auto kept = [&](std::string_view value) {
    sched::RequestContext context;
    context.request.headers = {{"Test-EPP-Endpoint-Selection", value}};
    return Kept(*filter, pool, context);
  };
  EXPECT_THAT(kept("10.0.0.1"), ElementsAre(0, 1));
  EXPECT_THAT(kept("10.0.0.1:8001, 10.0.0.11"), ElementsAre(1, 3));
  EXPECT_THAT(kept("[fd00::1]:8000"), ElementsAre(2));
  EXPECT_THAT(kept("fd00::1,[fd00::1]"), ElementsAre(2));
  EXPECT_THAT(kept("10.0.0.2"), IsEmpty());
  EXPECT_THAT(kept(" ,, "), IsEmpty());
}

TEST(HeaderBasedTestingFilter, KeepsNobodyWithoutTheHeader) {
  TestPool pool(2);
  EXPECT_THAT(Kept(*Made<Filter>("header-based-testing-filter"), pool), IsEmpty());
}

}  // namespace
}  // namespace penstock::plugins
