#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using testing::TestPool;

constexpr std::string_view kType = "concurrency-detector";

TEST(ConcurrencyDetector, CountsWhatItsModeSays) {
  TestPool pool(4);
  pool.columns.in_flight_requests = {9, 10, 0, 11};
  pool.columns.in_flight_tokens = {0, 0, 500, 499};
  const auto kept = [&](std::string_view mode) {
    return Kept(*Made<Filter>(kType,
                              "{maxConcurrency: 10, maxTokenConcurrency: 500, "
                              "concurrencyMode: " +
                                  std::string(mode) + "}"),
                pool);
  };
  EXPECT_THAT(kept("requests"), ElementsAre(0, 2));
  EXPECT_THAT(kept("tokens"), ElementsAre(0, 1, 3));
  EXPECT_THAT(kept("hybrid"), ElementsAre(0));
}

TEST(ConcurrencyDetector, HeadroomIsCutToAWholeNumber) {
  TestPool pool(3);
  pool.columns.in_flight_requests = {10, 11, 12};
  // 10 * 1.15 = 11.5, cut to 11; 10 * 1.2 is 12 however it is rounded.
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{maxConcurrency: 10, headroom: 0.15}"), pool),
              ElementsAre(0));
  EXPECT_THAT(Kept(*Made<Filter>(kType, "{maxConcurrency: 10, headroom: 0.2}"), pool),
              ElementsAre(0, 1));
}

TEST(ConcurrencyDetector, KeepsNobodyWhenAllAreFull) {
  TestPool pool(2);
  pool.columns.in_flight_requests = {100, 200};
  EXPECT_THAT(Kept(*Made<Filter>(kType), pool), IsEmpty());
  EXPECT_THAT(ErrorsOf(kType, "{concurrencyMode: both}"), ElementsAre(HasSubstr("'hybrid'")));
}

}  // namespace
}  // namespace penstock::plugins
