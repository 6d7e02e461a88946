// The tier in host memory, what peers give, and what is held for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/testing.h"

namespace penstock::engine {
namespace {

using ::testing::HasSubstr;

Time At(int64_t ms) { return Time(milliseconds(ms)); }

// A block is on its way for 1 ms, and every transfer for another half.
EngineOptions Linked() {
  EngineOptions options = Small();
  options.kv_bytes_per_token = 1000;
  options.tier_link = options.peer_link = {0.004, 500};
  return options;
}

EngineOptions Tiered(uint32_t cpu_blocks = 100) {
  EngineOptions options = Linked();
  options.cpu_blocks = cpu_blocks;
  return options;
}

Request Remote(uint64_t id, uint32_t prompt, uint32_t output, std::vector<uint64_t> hashes = {}) {
  Request request = Ask(id, prompt, output, std::move(hashes));
  request.remote_tokens = prompt;
  return request;
}

Request Held(uint64_t id, uint32_t prompt, Duration hold, std::vector<uint64_t> hashes = {}) {
  Request request = Ask(id, prompt, 1, std::move(hashes));
  request.hold = hold;
  return request;
}

// Runs prompts without hashes until nothing of what was cached is left.
void Evict(Engine& engine) {
  ASSERT_TRUE(engine.Submit(Ask(900, 63, 1)));
  StepsUntilIdle(engine);
}

// `id` has run, and its blocks are in the tier only.
void RunAndEvict(Engine& engine, uint64_t id, uint32_t prompt, std::vector<uint64_t> hashes) {
  ASSERT_TRUE(engine.Submit(Ask(id, prompt, 1, std::move(hashes))));
  StepsUntilIdle(engine);
  Evict(engine);
}

TEST(EngineTier, NeedsToKnowHowLargeATokenIs) {
  EngineOptions options = Tiered();
  options.kv_bytes_per_token = 0;
  EXPECT_THAT(Engine::Create(options).error().message, HasSubstr("kvCache.bytesPerToken"));
}

TEST(EngineTier, GivesBackWhatTheCacheLost) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  RunAndEvict(*engine, 1, 25, hashes);
  EXPECT_EQ(engine->Stats().cpu_blocks_used, 6u);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 2, hashes)));
  const Step wait = engine->BeginStep();
  EXPECT_EQ(wait.load.sequences, 0u);
  EXPECT_EQ(wait.duration, microseconds(6500));
  ASSERT_EQ(wait.events.size(), 1u);
  EXPECT_EQ(wait.events[0].kind, Event::Kind::kLoading);
  EXPECT_EQ(wait.events[0].count, 24u);
  EXPECT_EQ(engine->Stats().loading, 1u);
  EXPECT_EQ(engine->Stats().waiting, 1u);
  EXPECT_EQ(engine->Stats().used_blocks, 7u);  // of the whole prompt
  EXPECT_TRUE(engine->EndStep().empty());
  const Step step = engine->BeginStep();
  EXPECT_EQ(step.load.new_tokens, 1u);
  EXPECT_EQ(step.events[0].kind, Event::Kind::kScheduled);
  EXPECT_EQ(step.events[0].count, 24u);
  EXPECT_EQ(engine->EndStep().size(), 1u);
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.loading, 0u);
  EXPECT_EQ(stats.prefix_hit_tokens, 0u);
  EXPECT_EQ(stats.external_query_tokens, 25u + 63u + 25u);
  EXPECT_EQ(stats.external_hit_tokens, 24u);
}

TEST(EngineTier, AHitCoversFullBlocksButNeverTheLastToken) {
  struct Case {
    uint32_t first, second, hit;
  };
  for (const Case& c : {Case{3, 3, 0}, Case{4, 4, 0}, Case{5, 5, 4}, Case{12, 12, 8},
                        Case{12, 20, 12}, Case{13, 12, 8}}) {
    auto engine = Make(Tiered());
    RunAndEvict(*engine, 1, c.first, Hashes(1, c.first));
    ASSERT_TRUE(engine->Submit(Ask(2, c.second, 1, Hashes(1, c.second))));
    StepsUntilIdle(*engine);
    EXPECT_EQ(engine->Stats().external_hit_tokens, c.hit) << c.first << ", " << c.second;
    EXPECT_EQ(engine->Stats().used_blocks, 0u);
  }
}

TEST(EngineTier, ContinuesWhereTheCacheEnds) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 40);
  ASSERT_TRUE(engine->Submit(Ask(1, 41, 1, hashes)));
  StepsUntilIdle(*engine);
  ASSERT_TRUE(engine->Submit(Ask(2, 44, 1)));  // leaves 5 of the 10 blocks
  StepsUntilIdle(*engine);
  ASSERT_TRUE(engine->Submit(Ask(3, 41, 1, hashes)));
  EXPECT_EQ(RunStep(*engine), "l3:20");
  EXPECT_EQ(RunStep(*engine), "s3:40 t3:1 f3:1");
  EXPECT_EQ(engine->Stats().prefix_hit_tokens, 20u);
  EXPECT_EQ(engine->Stats().external_hit_tokens, 20u);
}

TEST(EngineTier, IsNotAskedForWhatTheCacheHas) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  ASSERT_TRUE(engine->Submit(Ask(1, 25, 1, hashes)));
  StepsUntilIdle(*engine);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 1, hashes)));
  EXPECT_EQ(RunStep(*engine), "s2:24 t2:1 f2:1");
}

TEST(EngineTier, IsBoundedAndKeepsWhatWasUsedLast) {
  auto engine = Make(Tiered(8));
  RunAndEvict(*engine, 1, 25, Hashes(1, 24));
  RunAndEvict(*engine, 2, 25, Hashes(1000, 24));
  EXPECT_EQ(engine->Stats().cpu_blocks_used, 8u);
  ASSERT_TRUE(engine->Submit(Ask(3, 25, 1, Hashes(1, 24))));
  EXPECT_EQ(RunStep(*engine), "l3:8");  // the head of what was used first
}

TEST(EngineTier, HoldsOnlyWhatWasComputed) {
  auto engine = Make(Tiered());
  ASSERT_TRUE(engine->Submit(Ask(1, 25, 1, Hashes(1, 24))));
  engine->BeginStep();
  EXPECT_TRUE(engine->Abort(1));
  engine->EndStep();
  EXPECT_EQ(engine->Stats().cpu_blocks_used, 0u);
}

TEST(EngineTier, LoadingHoldsUpNobodyElse) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  RunAndEvict(*engine, 1, 25, hashes);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 1, hashes)));
  ASSERT_TRUE(engine->Submit(Ask(3, 5, 2)));
  EXPECT_EQ(RunStep(*engine), "l2:24 s3:0 t3:1");
  EXPECT_EQ(RunStep(*engine), "s2:24 t3:2 f3:2 t2:1 f2:1");  // 6.5 ms are over after 10
}

TEST(EngineTier, AWaitEndsWhenSomethingComes) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  RunAndEvict(*engine, 1, 25, hashes);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 1, hashes)));
  EXPECT_EQ(engine->BeginStep(At(1000)).duration, microseconds(6500));
  engine->EndStep();
  ASSERT_TRUE(engine->Submit(Ask(3, 5, 1)));
  const Step step = engine->BeginStep(At(1002));
  EXPECT_EQ(step.load.new_tokens, 5u);
  EXPECT_EQ(step.duration, milliseconds(10));
  engine->EndStep();
  EXPECT_EQ(RunStep(*engine), "s2:24 t2:1 f2:1");
}

TEST(EngineTier, TransfersQueueOnTheLink) {
  auto engine = Make(Tiered());
  RunAndEvict(*engine, 1, 13, Hashes(1, 12));
  RunAndEvict(*engine, 2, 13, Hashes(1000, 12));
  ASSERT_TRUE(engine->Submit(Ask(3, 13, 1, Hashes(1, 12))));
  ASSERT_TRUE(engine->Submit(Ask(4, 13, 1, Hashes(1000, 12))));
  Step step = engine->BeginStep(At(1000));
  EXPECT_EQ(step.events.size(), 2u);
  EXPECT_EQ(step.duration, microseconds(3500));
  engine->EndStep();
  // The second has 3 ms for its own blocks behind the first's, whatever becomes of that.
  EXPECT_TRUE(engine->Abort(3));
  EXPECT_EQ(engine->BeginStep(At(1004)).duration, microseconds(2500));
  engine->EndStep();
  EXPECT_EQ(engine->Stats().used_blocks, 4u);
  EXPECT_EQ(RunStep(*engine), "s4:12 t4:1 f4:1");
}

TEST(EngineTier, SharedContentIsLoadedOnce) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  RunAndEvict(*engine, 1, 25, hashes);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 1, hashes)));
  ASSERT_TRUE(engine->Submit(Ask(3, 26, 1, hashes)));
  EXPECT_EQ(RunStep(*engine), "l2:24");
  EXPECT_EQ(engine->Stats().waiting, 2u);
  EXPECT_EQ(RunStep(*engine), "s2:24 s3:24 t2:1 f2:1 t3:1 f3:1");
  EXPECT_EQ(engine->Stats().prefix_hit_tokens, 24u);
  EXPECT_EQ(engine->Stats().external_hit_tokens, 24u);
}

TEST(EngineTier, WhoWaitsForAnothersLoadLoadsItselfWhenThatIsAborted) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  RunAndEvict(*engine, 1, 25, hashes);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 1, hashes)));
  ASSERT_TRUE(engine->Submit(Ask(3, 25, 1, hashes)));
  ASSERT_TRUE(engine->Submit(Ask(4, 25, 1, hashes)));
  EXPECT_EQ(RunStep(*engine), "l2:24");
  EXPECT_TRUE(engine->Abort(2));
  EXPECT_TRUE(engine->Abort(3));
  EXPECT_EQ(RunStep(*engine), "l4:24");
  EXPECT_EQ(RunStep(*engine), "s4:24 t4:1 f4:1");
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
}

TEST(EngineTier, AnAbortedLoadKeepsItsBlocksUntilTheTransferEnds) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  RunAndEvict(*engine, 1, 25, hashes);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 1, hashes)));
  engine->BeginStep(At(1000));
  EXPECT_TRUE(engine->Abort(2));
  EXPECT_FALSE(engine->Abort(2));
  engine->EndStep();
  EXPECT_EQ(engine->Stats().waiting, 0u);
  EXPECT_EQ(engine->Stats().used_blocks, 7u);
  EXPECT_TRUE(engine->HasWork());
  // Its name is free at once.
  ASSERT_TRUE(engine->Submit(Ask(2, 5, 1)));
  EXPECT_EQ(engine->BeginStep(At(1001)).load.new_tokens, 5u);
  engine->EndStep();
  EXPECT_EQ(engine->BeginStep(At(1011)).load.sequences, 0u);
  engine->EndStep();
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
  EXPECT_FALSE(engine->HasWork());
}

TEST(EngineTier, APreemptedRequestComesBackThroughIt) {
  EngineOptions options = Tiered();
  options.num_blocks = 4;
  options.max_model_len = 16;
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 7, 6, Hashes(1, 13))));
  ASSERT_TRUE(engine->Submit(Ask(2, 7, 4, Hashes(1000, 11))));
  EXPECT_EQ(RunStep(*engine), "s1:0 s2:0 t1:1 t2:1");
  EXPECT_EQ(RunStep(*engine), "t1:2 t2:2");
  EXPECT_EQ(RunStep(*engine), "p2:2 t1:3");
  EXPECT_EQ(RunStep(*engine), "t1:4");
  EXPECT_EQ(RunStep(*engine), "t1:5");
  EXPECT_EQ(RunStep(*engine), "t1:6 f1:6");
  // One of its two full blocks is still in the cache, or both come from the tier: 8 tokens.
  std::string seen;
  while (engine->HasWork()) seen += RunStep(*engine) + " ";
  EXPECT_THAT(seen, HasSubstr("l2:"));
  EXPECT_THAT(seen, HasSubstr("s2:8 t2:3 t2:4 f2:4"));
}

TEST(EngineTier, ResetForgetsItAndWhatIsOnItsWay) {
  auto engine = Make(Tiered());
  const auto hashes = Hashes(1, 24);
  RunAndEvict(*engine, 1, 25, hashes);
  for (uint64_t id = 2; id <= 4; ++id) ASSERT_TRUE(engine->Submit(Ask(id, 25, 1, hashes)));
  engine->BeginStep();
  EXPECT_TRUE(engine->Abort(2));
  engine->Reset();
  EXPECT_TRUE(engine->EndStep().empty());
  EXPECT_FALSE(engine->HasWork());
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.used_blocks + stats.loading + stats.waiting + stats.cpu_blocks_used, 0u);
  ASSERT_TRUE(engine->Submit(Ask(3, 25, 1, hashes)));
  EXPECT_EQ(RunStep(*engine), "s3:0 t3:1 f3:1");
}

TEST(EnginePeer, RefusesWhatCannotBe) {
  auto engine = Make(Linked());
  Request request = Remote(1, 8, 1);
  request.remote_tokens = 9;
  EXPECT_EQ(engine->Submit(request).error().code, Code::kOutOfRange);
  engine = Make(Small());
  EXPECT_EQ(engine->Submit(Remote(1, 8, 1)).error().code, Code::kInvalidArgument);
}

TEST(EnginePeer, ARemotePromptNeedsOneTokenOfComputing) {
  for (const uint32_t prompt : {24u, 25u, 27u}) {
    auto engine = Make(Linked());
    ASSERT_TRUE(engine->Submit(Remote(1, prompt, 2, Hashes(1, 28))));
    const Step wait = engine->BeginStep(At(5));
    ASSERT_EQ(wait.events.size(), 1u);
    EXPECT_EQ(wait.events[0].kind, Event::Kind::kLoading);
    EXPECT_EQ(wait.events[0].count, prompt - 1);
    EXPECT_EQ(wait.duration, microseconds(prompt == 27 ? 7500 : 6500));
    engine->EndStep();
    const Step step = engine->BeginStep();
    EXPECT_EQ(step.load.new_tokens, 1u);
    EXPECT_EQ(step.events[0].count, prompt - 1);
    engine->EndStep();
    EXPECT_EQ(RunStep(*engine), "t1:2 f1:2");
    EXPECT_EQ(engine->Stats().external_query_tokens, prompt);
    EXPECT_EQ(engine->Stats().external_hit_tokens, prompt - 1);
    EXPECT_EQ(engine->Stats().used_blocks, 0u);
  }
}

TEST(EnginePeer, WhatIsCachedIsNotFetched) {
  auto engine = Make(Linked());
  const auto hashes = Hashes(1, 32);
  ASSERT_TRUE(engine->Submit(Ask(1, 13, 1, hashes)));
  StepsUntilIdle(*engine);
  ASSERT_TRUE(engine->Submit(Remote(2, 24, 1, hashes)));
  EXPECT_EQ(RunStep(*engine), "l2:11");
  EXPECT_EQ(RunStep(*engine), "s2:23 t2:1 f2:1");
  ASSERT_TRUE(engine->Submit(Remote(3, 21, 1, hashes)));  // all of it but the last token
  EXPECT_EQ(RunStep(*engine), "s3:20 t3:1 f3:1");
}

TEST(EnginePeer, WithoutThePeerThePromptIsComputedHere) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Remote(1, 24, 1)));
  engine->BeginStep(At(0));
  EXPECT_FALSE(engine->FailLoad(2));
  EXPECT_TRUE(engine->FailLoad(1));
  EXPECT_FALSE(engine->FailLoad(1));
  engine->EndStep();
  const Step step = engine->BeginStep(At(1));  // no need to wait for the end of the transfer
  EXPECT_EQ(step.events[0].count, 0u);
  EXPECT_EQ(step.load.new_tokens, 24u);
  engine->EndStep();
  EXPECT_EQ(engine->Stats().failed_loads, 1u);
  EXPECT_FALSE(engine->HasWork());
}

TEST(EnginePeer, ASlowPeerDelaysTheLoad) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Remote(1, 24, 1)));
  EXPECT_EQ(engine->BeginStep(At(0)).duration, microseconds(6500));
  EXPECT_TRUE(engine->DelayLoad(1, At(3)));  // the link here is slower
  EXPECT_TRUE(engine->DelayLoad(1, At(30)));
  engine->EndStep();
  EXPECT_EQ(engine->BeginStep().duration, microseconds(23'500));
  engine->EndStep();
  EXPECT_EQ(RunStep(*engine), "s1:23 t1:1 f1:1");
  EXPECT_FALSE(engine->DelayLoad(1, At(90)));
}

TEST(EnginePeer, APreemptedRequestComputesWhatItHadFetched) {
  EngineOptions options = Linked();
  options.num_blocks = 4;
  options.max_model_len = 16;
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 7, 6)));
  ASSERT_TRUE(engine->Submit(Remote(2, 7, 4)));
  std::string seen;
  while (engine->HasWork()) seen += RunStep(*engine) + " ";
  EXPECT_THAT(seen, HasSubstr("l2:6"));
  EXPECT_THAT(seen, HasSubstr("p2:"));
  EXPECT_THAT(seen, HasSubstr("s2:0"));
  EXPECT_THAT(seen, HasSubstr("f2:4"));
}

TEST(EngineHold, KeepsTheBlocksUntilItsTimeIsOver) {
  auto engine = Make(Linked());
  const auto hashes = Hashes(1, 24);
  ASSERT_TRUE(engine->Submit(Held(1, 25, seconds(1), hashes)));
  EXPECT_FALSE(engine->FindHold(1));
  EXPECT_EQ(RunStep(*engine), "s1:0 t1:1 f1:1");
  const auto hold = engine->FindHold(1);
  ASSERT_TRUE(hold);
  EXPECT_EQ(hold->state, HoldState::kHeld);
  EXPECT_EQ(hold->blocks, 7u);
  EXPECT_EQ(hold->tokens, 25u);
  EXPECT_EQ(hold->prefix_hash, hashes.back());
  EXPECT_EQ(hold->expiry, At(1010));
  EXPECT_EQ(engine->Stats().used_blocks, 7u);
  EXPECT_EQ(engine->Stats().holds.blocks, 7u);
  EXPECT_EQ(engine->Submit(Ask(1, 3, 1)).error().code, Code::kAlreadyExists);
  // Idle until it ends.
  EXPECT_TRUE(engine->HasWork());
  EXPECT_EQ(engine->BeginStep(At(110)).duration, milliseconds(900));
  engine->EndStep();
  engine->BeginStep();
  engine->EndStep();
  EXPECT_FALSE(engine->HasWork());
  EXPECT_EQ(engine->FindHold(1)->state, HoldState::kExpired);
  EXPECT_EQ(engine->FindHold(1)->blocks, 0u);
  EXPECT_EQ(engine->Stats().holds.expired, 1u);
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
  EXPECT_TRUE(engine->Submit(Ask(1, 3, 1)));
}

TEST(EngineHold, ReducesAdmission) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Held(1, 31, seconds(1))));
  RunStep(*engine);                            // 8 of 16 blocks are held
  ASSERT_TRUE(engine->Submit(Ask(2, 40, 1)));  // needs 10
  ASSERT_TRUE(engine->Submit(Ask(3, 4, 1)));
  const Step wait = engine->BeginStep(At(10));
  EXPECT_EQ(wait.load.sequences, 0u);
  EXPECT_EQ(wait.duration, seconds(1));
  engine->EndStep();
  EXPECT_EQ(RunStep(*engine), "s2:0");
  EXPECT_EQ(engine->Stats().holds.expired, 1u);
}

TEST(EngineHold, ARunningRequestThatFindsNoBlockWaitsForItsEnd) {
  EngineOptions options = Linked();
  options.num_blocks = 4;
  options.max_model_len = 16;
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Held(1, 8, milliseconds(500))));
  RunStep(*engine);
  ASSERT_TRUE(engine->Submit(Ask(2, 8, 3)));
  EXPECT_EQ(RunStep(*engine), "s2:0 t2:1");
  EXPECT_EQ(RunStep(*engine), "p2:1");  // and the next step begins at once
  EXPECT_EQ(engine->BeginStep().duration, milliseconds(490));
  engine->EndStep();
  EXPECT_EQ(RunStep(*engine), "s2:0 t2:2");
  EXPECT_EQ(RunStep(*engine), "t2:3 f2:3");
}

TEST(EngineHold, IsReadOnceByWhoKnowsThePrompt) {
  auto engine = Make(Linked());
  const auto hashes = Hashes(1, 24);
  ASSERT_TRUE(engine->Submit(Held(1, 24, seconds(1), hashes)));
  RunStep(*engine);
  EXPECT_EQ(engine->ConsumeHold(7, hashes.back(), 24, At(20)).error().code, Code::kNotFound);
  EXPECT_EQ(engine->ConsumeHold(1, hashes[4], 24, At(20)).error().code, Code::kInvalidArgument);
  EXPECT_EQ(engine->ConsumeHold(1, hashes.back(), 25, At(20)).error().code, Code::kInvalidArgument);
  const auto sent = engine->ConsumeHold(1, hashes.back(), 24, At(20));
  ASSERT_TRUE(sent);
  EXPECT_EQ(*sent, Time(microseconds(26'500)));
  EXPECT_EQ(engine->FindHold(1)->state, HoldState::kConsumed);
  EXPECT_EQ(engine->Stats().used_blocks, 6u);  // while it is read
  EXPECT_EQ(engine->ConsumeHold(1, hashes.back(), 24, At(21)).error().code, Code::kAlreadyExists);
  EXPECT_TRUE(engine->ReleaseHold(1, At(27)));
  EXPECT_FALSE(engine->ReleaseHold(1, At(27)));
  EXPECT_EQ(engine->ConsumeHold(1, hashes.back(), 24, At(28)).error().code, Code::kAlreadyExists);
  EXPECT_EQ(engine->FindHold(1)->state, HoldState::kConsumed);
  EXPECT_FALSE(engine->HasWork());
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.used_blocks, 0u);
  EXPECT_EQ(stats.holds.holds, 0u);
  EXPECT_EQ(stats.holds.consumed, 1u);
  EXPECT_EQ(stats.holds.double_reads, 2u);
  EXPECT_EQ(stats.holds.wrong_reads, 2u);
  EXPECT_EQ(stats.holds.stale_reads, 1u);
  EXPECT_EQ(stats.holds.released + stats.holds.expired, 0u);
}

TEST(EngineHold, ALateReadIsStale) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Held(1, 8, milliseconds(100))));
  RunStep(*engine);
  // Exactly at the end is too late, whether or not a step has come by since.
  EXPECT_EQ(engine->ConsumeHold(1, 0, 8, At(110)).error().code, Code::kFailedPrecondition);
  EXPECT_EQ(engine->FindHold(1)->state, HoldState::kExpired);
  EXPECT_FALSE(engine->ReleaseHold(1, At(111)));
  EXPECT_FALSE(engine->ExtendHold(1, seconds(1), At(111)));
  EXPECT_EQ(engine->Stats().holds.stale_reads, 1u);
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
}

TEST(EngineHold, EndingWhileItIsReadIsAStaleRead) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Held(1, 8, milliseconds(100))));
  RunStep(*engine);
  ASSERT_TRUE(engine->ConsumeHold(1, 0, 8, At(109)));
  EXPECT_FALSE(engine->ReleaseHold(1, At(112)));
  EXPECT_EQ(engine->FindHold(1)->state, HoldState::kExpired);
  EXPECT_EQ(engine->Stats().holds.stale_reads, 1u);
  EXPECT_EQ(engine->Stats().holds.expired, 1u);
}

TEST(EngineHold, HeartbeatsLengthenItAndNeverShorten) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Held(1, 8, milliseconds(100))));
  RunStep(*engine);
  EXPECT_TRUE(engine->ExtendHold(1, milliseconds(20), At(50)));
  EXPECT_EQ(engine->FindHold(1)->expiry, At(110));
  EXPECT_TRUE(engine->ExtendHold(1, milliseconds(66), At(60)));
  EXPECT_EQ(engine->FindHold(1)->expiry, At(126));
  EXPECT_TRUE(engine->ConsumeHold(1, 0, 8, At(125)));
}

TEST(EngineHold, GivenBackUnreadItIsReleased) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Held(1, 8, seconds(1))));
  RunStep(*engine);
  EXPECT_TRUE(engine->ReleaseHold(1, At(20)));
  EXPECT_EQ(engine->FindHold(1)->state, HoldState::kReleased);
  EXPECT_EQ(engine->Stats().holds.released, 1u);
  EXPECT_EQ(engine->ConsumeHold(1, 0, 8, At(21)).error().code, Code::kFailedPrecondition);
  EXPECT_EQ(engine->Stats().holds.stale_reads, 1u);
}

TEST(EngineHold, EveryEndHoldsButAnAbortedRequestDoesNot) {
  auto engine = Make(Linked());
  Request stopped = Held(1, 8, seconds(1));
  stopped.end = FinishReason::kStop;
  ASSERT_TRUE(engine->Submit(std::move(stopped)));
  RunStep(*engine);
  EXPECT_TRUE(engine->FindHold(1));
  Request prefill = Held(2, 8, seconds(1));
  prefill.output_tokens = 0;
  ASSERT_TRUE(engine->Submit(std::move(prefill)));
  RunStep(*engine);
  EXPECT_EQ(engine->FindHold(2)->tokens, 8u);
  ASSERT_TRUE(engine->Submit(Held(3, 8, seconds(1))));
  engine->BeginStep();
  EXPECT_TRUE(engine->Abort(3));
  engine->EndStep();
  EXPECT_FALSE(engine->FindHold(3));
  EXPECT_EQ(engine->Stats().used_blocks, 4u);
}

TEST(EngineHold, SharedBlocksStayUntilTheLastHoldEnds) {
  auto engine = Make(Linked());
  const auto hashes = Hashes(1, 12);
  ASSERT_TRUE(engine->Submit(Held(1, 13, seconds(1), hashes)));
  ASSERT_TRUE(engine->Submit(Held(2, 13, seconds(2), hashes)));
  RunStep(*engine);
  EXPECT_EQ(engine->Stats().used_blocks, 5u);
  EXPECT_EQ(engine->Stats().holds.blocks, 8u);
  EXPECT_TRUE(engine->ReleaseHold(1, At(20)));
  EXPECT_EQ(engine->Stats().used_blocks, 4u);
}

TEST(EngineHold, ResetEndsAllAndForgetsThem) {
  auto engine = Make(Linked());
  ASSERT_TRUE(engine->Submit(Held(1, 8, seconds(1))));
  RunStep(*engine);
  engine->Reset();
  EXPECT_FALSE(engine->HasWork());
  EXPECT_FALSE(engine->FindHold(1));
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
  EXPECT_EQ(engine->ConsumeHold(1, 0, 8, At(20)).error().code, Code::kNotFound);
  EXPECT_EQ(engine->Stats().holds.stale_reads, 1u);
}

TEST(HoldTable, RemembersABoundedNumberOfEndedHolds) {
  BlockPool pool(1);
  HoldTable table(pool);
  const uint64_t count = HoldTable::kMaxEnded + 10;
  for (uint64_t id = 0; id < count; ++id) {
    table.Add(id, {pool.Take()}, {});
    EXPECT_TRUE(table.Release(id, Time(seconds(-1))));
  }
  EXPECT_FALSE(table.Find(9));
  EXPECT_TRUE(table.Find(10));
  // A name that is held again is not forgotten with its first life.
  table.Add(10, {pool.Take()}, {.expiry = At(1000)});
  EXPECT_FALSE(table.Find(11) == std::nullopt);
  EXPECT_TRUE(table.Release(10, At(0)));
  EXPECT_TRUE(table.Find(10));
}

}  // namespace
}  // namespace penstock::engine
