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

constexpr std::string_view kType = "endpoint-attribute-filter";

std::string With(std::string_view attribute, std::string_view op, std::string_view value,
                 std::string_view more = "") {
  std::string text = "{attribute: ";
  text.append(attribute).append(", algorithm: {type: threshold, threshold: {operator: ");
  text.append(op).append(", value: ").append(value).append("}}").append(more).append("}");
  return text;
}

TEST(EndpointAttributeFilter, ComparesAsItIsTold) {
  TestPool pool(3);
  pool.columns.waiting = {1, 2, 3};
  const auto kept = [&](std::string_view op) {
    return Kept(*Made<Filter>(kType, With("WaitingQueueSize", op, "2")), pool);
  };
  EXPECT_THAT(kept("LessThan"), ElementsAre(0));
  EXPECT_THAT(kept("LessThanOrEqual"), ElementsAre(0, 1));
  EXPECT_THAT(kept("GreaterThan"), ElementsAre(2));
  EXPECT_THAT(kept("GreaterThanOrEqual"), ElementsAre(1, 2));
  EXPECT_THAT(kept("Equal"), ElementsAre(1));
  EXPECT_THAT(kept("NotEqual"), ElementsAre(0, 2));
}

TEST(EndpointAttributeFilter, KnowsTheScrapedAttributes) {
  TestPool pool(2);
  pool.columns.running = {5, 50};
  pool.columns.kv_usage = {0.95F, 0.5F};
  EXPECT_THAT(Kept(*Made<Filter>(kType, With("RunningRequestsSize", "LessThan", "10")), pool),
              ElementsAre(0));
  EXPECT_THAT(Kept(*Made<Filter>(kType, With("KVCacheUsagePercent", "LessThan", "0.9",
                                             ", producer: core-metrics-extractor")),
                   pool),
              ElementsAre(1));
}

TEST(EndpointAttributeFilter, MissingValuesPassOrFail) {
  TestPool pool(2);
  pool.columns.metrics_age_s[1] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(Kept(*Made<Filter>(kType, With("WaitingQueueSize", "LessThan", "1")), pool),
              ElementsAre(0, 1));
  EXPECT_THAT(
      Kept(*Made<Filter>(kType, With("WaitingQueueSize", "LessThan", "1", ", onMissing: Fail")),
           pool),
      ElementsAre(0));
}

TEST(EndpointAttributeFilter, FallsBackWhenNobodyPasses) {
  TestPool pool(2);
  pool.columns.waiting = {9, 9};
  EXPECT_THAT(Kept(*Made<Filter>(kType, With("WaitingQueueSize", "LessThan", "1")), pool),
              IsEmpty());
  const Made<Filter> filter(kType,
                            With("WaitingQueueSize", "LessThan", "1", ", fallbackOnEmpty: true"));
  EXPECT_THAT(Kept(*filter, pool), ElementsAre(0, 1));
  EXPECT_EQ(filter->WhyAllPass({}, pool.columns, pool.all), "nobody is within the bound");
}

// A scheduler with the filter alone, that knows two custom attributes.
std::unique_ptr<sched::Scheduler> Wired(const std::string& parameters,
                                        config::Diagnostics* diagnostics) {
  sched::SchedulingSpec spec;
  spec.plugins = {{"filter", std::string(kType), *wire::ParseYaml(parameters, "test.yaml")},
                  {"picker", "max-score-picker", {}},
                  {"handler", "single-profile-handler", {}}};
  spec.profiles = {{"default", {{"filter"}, {"picker"}}}};
  spec.attributes = {"Depth", "Heat"};
  spec.extractor = "engines";
  return sched::Scheduler::Create(spec, Builtins(), diagnostics);
}

TEST(EndpointAttributeFilter, ReadsAttributesOfTheConfiguration) {
  config::Diagnostics diagnostics{.file = "test.yaml"};
  const auto scheduler =
      Wired(With("Heat", "LessThan", "0.5", ", producer: engines, onMissing: Fail"), &diagnostics);
  ASSERT_NE(scheduler, nullptr) << diagnostics.errors.front();
  EXPECT_THAT(diagnostics.warnings, ElementsAre(HasSubstr("attribute 'Depth' is read and shown by "
                                                          "/debug/endpoints, but no plugin")));
  EXPECT_TRUE(scheduler->NeedsMetrics());
  const TestPool pool(3);  // of which the third has said nothing
  model::LiveColumns live(32, {"Depth", "Heat"});
  live.SetAttributes(testing::kFirstSlot, std::vector<float>{7, 0.9F});
  live.SetAttributes(testing::kFirstSlot + 1, std::vector<float>{7, 0.4F});
  model::EndpointColumns columns;
  scheduler->FillColumns({}, pool.pool, live, Time(), &columns);
  sched::Workspace workspace;
  sched::Decision decision;
  Random random(1);
  scheduler->Schedule({}, columns, pool.all, random, workspace, nullptr, &decision);
  EXPECT_THAT(decision.picks, ElementsAre(1));
  // Where nobody reads them, nobody tells.
  scheduler->FillColumns({}, pool.pool, model::LiveColumns(32), Time(), &columns);
  scheduler->Schedule({}, columns, pool.all, random, workspace, nullptr, &decision);
  EXPECT_EQ(decision.verdict, sched::Verdict::kFilteredOut);
}

TEST(EndpointAttributeFilter, SaysWhichAttributesThereAre) {
  const auto error = [](const std::string& parameters) {
    config::Diagnostics diagnostics{.file = "test.yaml"};
    EXPECT_EQ(Wired(parameters, &diagnostics), nullptr);
    return diagnostics.errors;
  };
  EXPECT_THAT(error(With("Heat", "LessThan", "1", ", producer: dcgm")),
              ElementsAre(HasSubstr("plugin 'filter' wants 'Heat' from 'dcgm', which does not")));
  EXPECT_THAT(error(With("WaitingQueueSize", "LessThan", "1", ", producer: dcgm")),
              ElementsAre(HasSubstr("wants WaitingQueueSize from 'dcgm'")));
  EXPECT_THAT(error(With("WaitingQueueSiz", "LessThan", "1")),
              ElementsAre(HasSubstr("did you mean 'WaitingQueueSize'?")));
  EXPECT_THAT(error(With("Cold", "LessThan", "1")),
              ElementsAre(HasSubstr("'Cold', which no customMetrics of core-metrics-extractor "
                                    "describe; there are KVCacheUsagePercent, "
                                    "RunningRequestsSize, WaitingQueueSize, Depth, Heat")));
  EXPECT_THAT(ErrorsOf(kType, With("WaitingQueueSize", "Below", "1")),
              ElementsAre(HasSubstr("'LessThan'")));
}

}  // namespace
}  // namespace penstock::plugins
