#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using ::testing::ElementsAre;
using testing::Made;
using testing::TestPool;

TEST(PrecisePrefixCacheScorer, ScoresTheMatchedShare) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 1, 4}, 16);
  EXPECT_THAT(testing::Scores(*Made<sched::Scorer>("precise-prefix-cache-scorer"), pool),
              ElementsAre(0, 0.25, 1));
  pool.SetPrefix(0, {0, 0, 0}, 16);
  EXPECT_THAT(testing::Scores(*Made<sched::Scorer>("precise-prefix-cache-scorer"), pool),
              ElementsAre(0, 0, 0));
}

TEST(PrecisePrefixCacheScorer, IsItsOwnProducer) {
  sched::SchedulingSpec spec;
  spec.plugins = {{"handler", "single-profile-handler", {}},
                  {"picker", "max-score-picker", {}},
                  {"precise", "precise-prefix-cache-scorer", {}},
                  {"other", "prefix-cache-scorer", {}}};
  spec.profiles = {{"default", {{"precise", 1.0}, {"other", 1.0}, {"picker", 1.0}}}};
  config::Diagnostics diagnostics;
  const auto scheduler = sched::Scheduler::Create(spec, Builtins(), &diagnostics);
  EXPECT_THAT(diagnostics.errors, ::testing::IsEmpty());
  ASSERT_NE(scheduler, nullptr);
  EXPECT_NE(scheduler->knows_caches(), nullptr);
  sched::RequestContext context;
  scheduler->Prepare(context, Time());
  EXPECT_EQ(context.prefix_keys.size(), 1u);
}

}  // namespace
}  // namespace penstock::plugins
