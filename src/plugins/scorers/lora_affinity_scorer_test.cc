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

sched::RequestContext Asking(std::string model) {
  sched::RequestContext context;
  context.request.target_model = std::move(model);
  return context;
}

TEST(LoraAffinityScorer, ActiveThenRoomThenWaitingThenFull) {
  TestPool pool(5);
  auto& endpoints = pool.pool.endpoints;
  endpoints[0].lora = {{"sql", "chat"}, {}, 2};
  endpoints[1].lora = {{"chat"}, {}, 2};
  endpoints[2].lora = {{"chat"}, {"sql"}, 2};
  endpoints[3].lora = {{"chat"}, {"code"}, 2};
  endpoints[4].lora = {};  // an engine without adapters
  pool.Index();
  const Made<Scorer> scorer("lora-affinity-scorer");
  EXPECT_THAT(Scores(*scorer, pool, Asking("sql")),
              Pointwise(FloatEq(), {1.0F, 0.8F, 0.6F, 0.0F, 0.0F}));
}

TEST(LoraAffinityScorer, SeesChangesInTheNextSnapshot) {
  TestPool pool(1);
  pool.pool.endpoints[0].lora = {{"sql"}, {}, 1};
  pool.Index();
  const Made<Scorer> scorer("lora-affinity-scorer");
  EXPECT_THAT(Scores(*scorer, pool, Asking("sql")), ElementsAre(1));
  EXPECT_THAT(Scores(*scorer, pool, Asking("code")), ElementsAre(0));
  pool.pool.endpoints[0].lora = {{"code"}, {}, 1};
  pool.Index();
  EXPECT_THAT(Scores(*scorer, pool, Asking("sql")), ElementsAre(0));
  EXPECT_THAT(Scores(*scorer, pool, Asking("code")), ElementsAre(1));
}

}  // namespace
}  // namespace penstock::plugins
