// Asynchronous scheduling: when a step gets to know of new requests and of blocks that are free.
#include <gtest/gtest.h>

#include "engine/testing.h"

namespace penstock::engine {
namespace {

EngineOptions Async() {
  EngineOptions options = Small();
  options.async_scheduling = true;
  options.costs.idle_ms = 5;
  return options;
}

TEST(AsyncScheduling, WhoComesDuringAStepRunsInTheOneAfterTheNext) {
  const auto engine = Make(Async());
  ASSERT_TRUE(engine->Submit(Ask(1, 4, 8)));
  EXPECT_EQ(RunStep(*engine), "s1:0 t1:1");
  EXPECT_EQ(RunStep(*engine), "t1:2");
  engine->BeginStep();
  ASSERT_TRUE(engine->Submit(Ask(2, 4, 8)));
  engine->EndStep();
  EXPECT_EQ(RunStep(*engine), "t1:4");
  EXPECT_EQ(RunStep(*engine), "s2:0 t1:5 t2:1");
}

TEST(AsyncScheduling, WhoComesBetweenTwoStepsMissesTheOneThatIsMade) {
  const auto engine = Make(Async());
  ASSERT_TRUE(engine->Submit(Ask(1, 4, 8)));
  EXPECT_EQ(RunStep(*engine), "s1:0 t1:1");
  EXPECT_EQ(RunStep(*engine), "t1:2");
  ASSERT_TRUE(engine->Submit(Ask(2, 4, 8)));
  EXPECT_EQ(RunStep(*engine), "t1:3");
  EXPECT_EQ(RunStep(*engine), "s2:0 t1:4 t2:1");
}

TEST(AsyncScheduling, TheStepAfterAnIdleEnginesFirstTakesWhoCameDuringThat) {
  const auto engine = Make(Async());
  ASSERT_TRUE(engine->Submit(Ask(1, 4, 8)));
  engine->BeginStep();
  ASSERT_TRUE(engine->Submit(Ask(2, 4, 8)));
  engine->EndStep();
  EXPECT_EQ(RunStep(*engine), "s2:0 t1:2 t2:1");
}

TEST(AsyncScheduling, BlocksOfAnEndedRequestAreForTheStepAfterTheNext) {
  for (const bool is_async : {false, true}) {
    EngineOptions options = Async();
    options.async_scheduling = is_async;
    const auto engine = Make(options);
    ASSERT_TRUE(engine->Submit(Ask(1, 20, 2)));
    ASSERT_TRUE(engine->Submit(Ask(2, 4, 20)));
    EXPECT_EQ(RunStep(*engine), "s1:0 s2:0 t1:1 t2:1");
    ASSERT_TRUE(engine->Submit(Ask(3, 48, 2)));  // 12 of 16 blocks
    EXPECT_EQ(RunStep(*engine), "t1:2 f1:2 t2:2");
    if (is_async) {
      EXPECT_EQ(engine->Stats().running, 1u);
      EXPECT_EQ(RunStep(*engine), "t2:3");
    }
    EXPECT_EQ(RunStep(*engine).substr(0, 4), "s3:0");
  }
}

TEST(AsyncScheduling, ASlotOfAnEndedRequestIsForTheStepAfterTheNext) {
  EngineOptions options = Async();
  options.max_num_seqs = 2;
  const auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 4, 2)));
  ASSERT_TRUE(engine->Submit(Ask(2, 4, 9)));
  ASSERT_TRUE(engine->Submit(Ask(3, 4, 9)));
  EXPECT_EQ(RunStep(*engine), "s1:0 s2:0 t1:1 t2:1");
  EXPECT_EQ(RunStep(*engine), "t1:2 f1:2 t2:2");
  EXPECT_EQ(RunStep(*engine), "t2:3");
  EXPECT_EQ(RunStep(*engine), "s3:0 t2:4 t3:1");
}

TEST(AsyncScheduling, ARunningRequestGetsBlocksOfEndedOnesRatherThanPreempting) {
  EngineOptions options = Async();
  options.num_blocks = 4;
  options.max_model_len = 16;
  const auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 7, 2)));
  ASSERT_TRUE(engine->Submit(Ask(2, 7, 9)));
  EXPECT_EQ(RunStep(*engine), "s1:0 s2:0 t1:1 t2:1");
  EXPECT_EQ(RunStep(*engine), "t1:2 f1:2 t2:2");
  EXPECT_EQ(RunStep(*engine), "t2:3");
  EXPECT_EQ(engine->Stats().preemptions, 0u);
}

TEST(AsyncScheduling, WhenNothingRunsAllIsKnownAndFree) {
  const auto engine = Make(Async());
  ASSERT_TRUE(engine->Submit(Ask(1, 48, 2)));
  EXPECT_EQ(RunStep(*engine), "s1:0");
  EXPECT_EQ(RunStep(*engine), "t1:1");
  ASSERT_TRUE(engine->Submit(Ask(2, 48, 1)));
  EXPECT_EQ(RunStep(*engine), "t1:2 f1:2");
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
  EXPECT_EQ(engine->Stats().waiting, 1u);
  EXPECT_EQ(RunStep(*engine), "s2:0");
}

TEST(AsyncScheduling, AbortForgetsARequestThatIsNotKnownYet) {
  const auto engine = Make(Async());
  ASSERT_TRUE(engine->Submit(Ask(1, 4, 9)));
  EXPECT_EQ(RunStep(*engine), "s1:0 t1:1");
  EXPECT_EQ(RunStep(*engine), "t1:2");
  ASSERT_TRUE(engine->Submit(Ask(2, 4, 9)));
  EXPECT_EQ(RunStep(*engine), "t1:3");
  ASSERT_TRUE(engine->Submit(Ask(3, 4, 9)));
  EXPECT_TRUE(engine->Abort(2));
  EXPECT_EQ(engine->Stats().waiting, 1u);
  EXPECT_EQ(RunStep(*engine), "t1:4");
  EXPECT_EQ(RunStep(*engine), "s3:0 t1:5 t3:1");
  engine->Reset();
  EXPECT_FALSE(engine->HasWork());
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
}

TEST(IdleCost, IsPaidByAStepThatFollowsNone) {
  for (const bool is_async : {false, true}) {
    EngineOptions options = Async();
    options.async_scheduling = is_async;
    const auto engine = Make(options);
    ASSERT_TRUE(engine->Submit(Ask(1, 4, 3)));
    EXPECT_EQ(engine->BeginStep(Time(seconds(1))).duration, milliseconds(15));
    engine->EndStep();
    EXPECT_EQ(engine->BeginStep(Time(milliseconds(1015))).duration, milliseconds(10));
    engine->EndStep();
    EXPECT_EQ(engine->BeginStep(Time(seconds(2))).duration, milliseconds(15));
    engine->EndStep();
    ASSERT_TRUE(engine->Submit(Ask(2, 4, 3)));
    EXPECT_EQ(engine->BeginStep().duration, milliseconds(15));  // nothing ran beside it
  }
}

}  // namespace
}  // namespace penstock::engine
