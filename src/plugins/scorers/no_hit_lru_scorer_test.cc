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

TEST(NoHitLruScorer, IsNeutralWhenSomebodyHasABlock) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 1, 0});
  EXPECT_THAT(Scores(*Made<Scorer>("no-hit-lru-scorer"), pool), Each(0.5));
}

TEST(NoHitLruScorer, ColdPromptsGoWhereNoneWentForLongest) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 0, 0});
  const Made<Scorer> scorer("no-hit-lru-scorer");
  sched::RequestContext context;
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(1, 0.5, 0));
  scorer->OnPicked(context, pool.columns, pool.Pick(0));
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(0, 1, 0.5));
  scorer->OnPicked(context, pool.columns, pool.Pick(2));
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(0.5, 1, 0));
  scorer->OnPicked(context, pool.columns, pool.Pick(0));
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(0, 1, 0.5));
}

TEST(NoHitLruScorer, ShortPromptsDecideLessWhereFullTokensSaysSo) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 0, 0});
  const Made<Scorer> scorer("no-hit-lru-scorer", "{fullTokens: 4000}");
  sched::RequestContext context;
  const auto scores_of = [&](uint64_t tokens) {
    context.input_tokens = tokens;
    return Scores(*scorer, pool, context);
  };
  EXPECT_THAT(scores_of(0), Each(0.5));
  EXPECT_THAT(scores_of(1000), ElementsAre(0.625, 0.5, 0.375));
  EXPECT_THAT(scores_of(4000), ElementsAre(1, 0.5, 0));
  EXPECT_THAT(scores_of(100'000), ElementsAre(1, 0.5, 0));
  EXPECT_EQ(scorer->Needs().size(), 2u) << "it counts tokens";
  EXPECT_EQ(Made<Scorer>("no-hit-lru-scorer")->Needs().size(), 1u);
}

TEST(NoHitLruScorer, LearnsFromColdRequestsOnly) {
  TestPool pool(2);
  const Made<Scorer> scorer("no-hit-lru-scorer");
  sched::RequestContext context;
  pool.SetPrefix(4, {1, 0});
  scorer->OnPicked(context, pool.columns, pool.Pick(0));
  pool.SetPrefix(4, {0, 0});
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(1, 0));
}

TEST(NoHitLruScorer, ABlockOfWhoIsNoCandidateIsNoHit) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 0, 3});
  pool.all.Clear(2);
  const Made<Scorer> scorer("no-hit-lru-scorer");
  sched::RequestContext context;
  sched::Picked picked = pool.Pick(0);
  picked.scored = &pool.all;
  scorer->OnPicked(context, pool.columns, picked);
  const std::vector<float> scores = Scores(*scorer, pool);
  EXPECT_EQ(scores[0], 0);
  EXPECT_EQ(scores[1], 1);
}

TEST(NoHitLruScorer, RemembersAsManyEndpointsAsItIsTold) {
  TestPool pool(3);
  pool.SetPrefix(4, {0, 0, 0});
  const Made<Scorer> scorer("no-hit-lru-scorer", "{lruSize: 1}");
  sched::RequestContext context;
  scorer->OnPicked(context, pool.columns, pool.Pick(0));
  scorer->OnPicked(context, pool.columns, pool.Pick(1));
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(1, 0, 0.5));
}

TEST(NoHitLruScorer, ForgetsAnEndpointThatLeft) {
  TestPool pool(2);
  pool.SetPrefix(4, {0, 0});
  const Made<Scorer> scorer("no-hit-lru-scorer");
  sched::RequestContext context;
  scorer->OnPicked(context, pool.columns, pool.Pick(0));
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(0, 1));
  scorer->OnEndpointRemoved(pool.pool.slots[0]);
  EXPECT_THAT(Scores(*scorer, pool), ElementsAre(1, 0));
}

TEST(NoHitLruScorer, ASingleEndpointScoresOne) {
  TestPool pool(1);
  pool.SetPrefix(4, {0});
  EXPECT_THAT(Scores(*Made<Scorer>("no-hit-lru-scorer"), pool), ElementsAre(1));
}

}  // namespace
}  // namespace penstock::plugins
