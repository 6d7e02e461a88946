#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/block_hash.h"
#include "engine/testing.h"

namespace penstock::engine {
namespace {

using Kind = Event::Kind;

// The H100 profile's numbers.
StepCosts H100() {
  StepCosts costs;
  costs.floor_ms = 13.5;
  costs.base_ms = 4.7;
  costs.per_token_us = 44;
  costs.decode_context_ns = 42;
  costs.per_sequence_us = 30;
  costs.prefill_attention_ns = 1.4;
  return costs;
}

TEST(EngineCreate, RefusesBoundsThatCannotWork) {
  EngineOptions options = Small();
  options.max_model_len = 65;
  EXPECT_THAT(Engine::Create(options).error().message, testing::HasSubstr("64 tokens"));
  options = Small();
  options.max_num_seqs = 0;
  EXPECT_THAT(Engine::Create(options).error().message, testing::HasSubstr("max_num_seqs"));
}

TEST(EngineSubmit, RefusesWhatCannotRun) {
  EngineOptions options = Small();
  options.max_waiting = 2;
  auto engine = Make(options);
  EXPECT_EQ(engine->Submit(Ask(1, 0, 1)).error().code, Code::kOutOfRange);
  EXPECT_EQ(engine->Submit(Ask(1, 64, 1)).error().code, Code::kOutOfRange);
  EXPECT_TRUE(engine->Submit(Ask(1, 64, 0)).has_value());
  EXPECT_EQ(engine->Submit(Ask(1, 3, 1)).error().code, Code::kAlreadyExists);
  EXPECT_TRUE(engine->Submit(Ask(2, 3, 1)).has_value());
  EXPECT_EQ(engine->Submit(Ask(3, 3, 1)).error().code, Code::kResourceExhausted);
  Request far = Ask(4, 3, 1);
  far.lora = 5000;
  EXPECT_EQ(engine->Submit(far).error().code, Code::kOutOfRange);
}

TEST(EngineStep, OneRequestGetsItsFirstTokenFromThePrefillAndOneAStep) {
  auto engine = Make(Small());
  ASSERT_TRUE(engine->Submit(Ask(7, 3, 3)));
  EXPECT_EQ(RunStep(*engine), "s7:0 t7:1");
  EXPECT_EQ(RunStep(*engine), "t7:2");
  EXPECT_EQ(engine->Stats().used_blocks, 1u);  // the newest token is not in the cache yet
  EXPECT_EQ(RunStep(*engine), "t7:3 f7:3");
  EXPECT_FALSE(engine->HasWork());
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.used_blocks, 0u);
  EXPECT_EQ(stats.prompt_tokens, 3u);
  EXPECT_EQ(stats.generation_tokens, 3u);
  EXPECT_EQ(stats.steps, 3u);
}

TEST(EngineStep, PrefillOnlyEndsWithoutAToken) {
  auto engine = Make(Small());
  ASSERT_TRUE(engine->Submit(Ask(1, 40, 0)));
  EXPECT_EQ(RunStep(*engine), "s1:0");  // 32 of 40 tokens
  EXPECT_EQ(RunStep(*engine), "f1:0");
  EXPECT_EQ(engine->Stats().prompt_tokens, 40u);
  EXPECT_EQ(engine->Stats().generation_tokens, 0u);
}

TEST(EngineStep, OutputBeyondTheModelLengthIsCut) {
  auto engine = Make(Small());
  Request request = Ask(1, 60, 100);
  request.end = FinishReason::kStop;
  ASSERT_TRUE(engine->Submit(std::move(request)));
  Event last;
  while (engine->HasWork()) {
    engine->BeginStep();
    for (const Event& event : engine->EndStep()) last = event;
  }
  EXPECT_EQ(last.kind, Kind::kFinished);
  EXPECT_EQ(last.count, 4u);
  EXPECT_EQ(last.reason, FinishReason::kLength);
}

TEST(EngineStep, LongPromptsGoInChunksOfTheBudget) {
  EngineOptions options = Small();
  options.num_blocks = 1000;
  options.max_model_len = 4000;
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 100, 1)));
  EXPECT_EQ(StepsUntilIdle(*engine), 4);  // 32 + 32 + 32 + 4

  options.long_prefill_tokens = 10;
  engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 100, 1)));
  ASSERT_TRUE(engine->Submit(Ask(2, 5, 1)));
  EXPECT_EQ(RunStep(*engine), "s1:0 s2:0 t2:1 f2:1");  // the short prompt is not held up
  EXPECT_EQ(StepsUntilIdle(*engine), 9);
}

TEST(EngineStep, DecodesGoBeforePrefillsInTheBudget) {
  EngineOptions options = Small();
  options.max_num_batched_tokens = 8;
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 4, 10)));
  ASSERT_TRUE(engine->Submit(Ask(2, 4, 10)));
  RunStep(*engine);
  ASSERT_TRUE(engine->Submit(Ask(3, 12, 1)));
  for (int i = 0; i < 2; ++i) {
    const Step step = engine->BeginStep();
    EXPECT_EQ(step.load.new_tokens, 8u);  // 1 + 1 + a chunk of 6
    EXPECT_EQ(step.load.prefill_chunks, 1u);
    engine->EndStep();
  }
  EXPECT_EQ(engine->Stats().running, 2u);
}

TEST(EngineStep, SequencesAreBounded) {
  auto engine = Make(Small());
  for (uint64_t id = 1; id <= 6; ++id) ASSERT_TRUE(engine->Submit(Ask(id, 1, 2)));
  EXPECT_EQ(RunStep(*engine), "s1:0 s2:0 s3:0 s4:0 t1:1 t2:1 t3:1 t4:1");
  EXPECT_EQ(engine->Stats().waiting, 2u);
  EXPECT_EQ(RunStep(*engine), "t1:2 f1:2 t2:2 f2:2 t3:2 f3:2 t4:2 f4:2");
  EXPECT_EQ(RunStep(*engine), "s5:0 s6:0 t5:1 t6:1");
}

TEST(EngineStep, TheHeadOfTheLineWaitsForItsBlocks) {
  auto engine = Make(Small());
  ASSERT_TRUE(engine->Submit(Ask(1, 30, 20)));
  ASSERT_TRUE(engine->Submit(Ask(2, 40, 1)));  // needs 10 of the 8 blocks that are left
  ASSERT_TRUE(engine->Submit(Ask(3, 1, 1)));   // would fit, but is not served first
  EXPECT_EQ(RunStep(*engine), "s1:0 t1:1");
  EXPECT_EQ(RunStep(*engine), "t1:2");
  EXPECT_EQ(engine->Stats().waiting, 2u);
  EXPECT_TRUE(engine->Abort(1));
  EXPECT_EQ(RunStep(*engine), "s2:0");
}

TEST(EnginePrefix, HitsCoverFullBlocksButNeverTheLastToken) {
  struct Case {
    const char* what;
    uint32_t first_prompt, first_output, second_prompt;
    uint32_t hit;
  };
  const Case cases[] = {
      {"shorter than a block", 3, 1, 3, 0},
      {"exactly one block: its last token must be computed", 4, 1, 4, 0},
      {"one block and one token", 5, 1, 5, 4},
      {"three blocks", 12, 1, 12, 8},
      {"a growing prompt", 12, 1, 20, 12},
      {"output blocks: 8 + 5 tokens, the last one was never computed", 8, 5, 20, 12},
      {"output blocks: 8 + 4 tokens hold 11 computed ones", 8, 4, 20, 8},
  };
  for (const Case& c : cases) {
    auto engine = Make(Small());
    const std::vector<uint64_t> hashes = Hashes(100, 40);
    ASSERT_TRUE(engine->Submit(Ask(1, c.first_prompt, c.first_output, hashes)));
    StepsUntilIdle(*engine);
    ASSERT_TRUE(engine->Submit(Ask(2, c.second_prompt, 1, hashes)));
    const Step step = engine->BeginStep();
    EXPECT_EQ(step.events[0].count, c.hit) << c.what;
    EXPECT_EQ(step.load.new_tokens, c.second_prompt - c.hit) << c.what;
    engine->EndStep();
    EXPECT_EQ(engine->Stats().prefix_query_tokens, c.first_prompt + c.second_prompt) << c.what;
    EXPECT_EQ(engine->Stats().prefix_hit_tokens, c.hit) << c.what;
  }
}

TEST(EnginePrefix, RequestsOfOneStepShareBlocks) {
  auto engine = Make(Small());
  const std::vector<uint64_t> hashes = Hashes(1, 12);
  ASSERT_TRUE(engine->Submit(Ask(1, 13, 2, hashes)));
  ASSERT_TRUE(engine->Submit(Ask(2, 13, 2, hashes)));
  EXPECT_EQ(RunStep(*engine), "s1:0 s2:12 t1:1 t2:1");
  EXPECT_EQ(engine->Stats().used_blocks, 5u);  // 3 shared, one each for the rest
}

TEST(EnginePrefix, ADifferentBeginningSharesNothing) {
  const std::vector<uint32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8};
  const auto plain = HashBlocks(tokens, 4, RootHash("", ""));
  const auto lora = HashBlocks(tokens, 4, RootHash("a", ""));
  const auto salt = HashBlocks(tokens, 4, RootHash("", "a"));
  ASSERT_EQ(plain.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NE(plain[i], lora[i]);
    EXPECT_NE(plain[i], salt[i]);
    EXPECT_NE(lora[i], salt[i]);
  }
  const std::vector<uint32_t> changed = {9, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_NE(HashBlocks(changed, 4, RootHash("", ""))[1], plain[1]);
}

TEST(EnginePrefix, TheLeastRecentlyUsedContentIsReusedFirstAndTailsBeforeHeads) {
  auto engine = Make(Small());  // 16 blocks
  const auto a = Hashes(1000, 24);
  const auto b = Hashes(2000, 24);
  ASSERT_TRUE(engine->Submit(Ask(1, 25, 1, a)));
  StepsUntilIdle(*engine);
  ASSERT_TRUE(engine->Submit(Ask(2, 25, 1, b)));
  StepsUntilIdle(*engine);
  // Least recently used first: two blocks that were never used, the partly filled one of a, the
  // rest of a from its tail on. Seven blocks of something else leave two of a.
  ASSERT_TRUE(engine->Submit(Ask(3, 28, 1)));
  StepsUntilIdle(*engine);
  ASSERT_TRUE(engine->Submit(Ask(4, 25, 1, b)));
  EXPECT_EQ(engine->BeginStep().events[0].count, 24u);  // and takes the second of a
  engine->EndStep();
  ASSERT_TRUE(engine->Submit(Ask(5, 25, 1, a)));
  EXPECT_EQ(engine->BeginStep().events[0].count, 4u);
  engine->EndStep();
}

TEST(EnginePrefix, SwitchedOffNothingHits) {
  EngineOptions options = Small();
  options.prefix_caching = false;
  auto engine = Make(options);
  for (uint64_t id = 1; id <= 2; ++id) {
    ASSERT_TRUE(engine->Submit(Ask(id, 13, 1, Hashes(1, 12))));
    StepsUntilIdle(*engine);
  }
  EXPECT_EQ(engine->Stats().prefix_hit_tokens, 0u);
}

TEST(EnginePreemption, TheTailLosesItsBlocksAndComesBackInFront) {
  EngineOptions options = Small();
  options.num_blocks = 4;
  options.max_model_len = 16;
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 7, 6)));
  ASSERT_TRUE(engine->Submit(Ask(2, 7, 4)));
  EXPECT_EQ(RunStep(*engine), "s1:0 s2:0 t1:1 t2:1");
  ASSERT_TRUE(engine->Submit(Ask(3, 1, 1)));
  EXPECT_EQ(RunStep(*engine), "t1:2 t2:2");  // all four blocks are full
  // 1 needs a fifth: 2 goes, and nobody is admitted in this step.
  EXPECT_EQ(RunStep(*engine), "p2:2 t1:3");
  EXPECT_EQ(engine->Stats().preemptions, 1u);
  EXPECT_EQ(engine->Stats().waiting, 2u);
  // 2 waits in front of 3 for three blocks.
  EXPECT_EQ(RunStep(*engine), "t1:4");
  EXPECT_EQ(RunStep(*engine), "t1:5");
  EXPECT_EQ(RunStep(*engine), "t1:6 f1:6");
  // It recomputes prompt and output and goes on with the next token.
  EXPECT_EQ(RunStep(*engine), "s2:0 s3:0 t2:3 t3:1 f3:1");
  EXPECT_EQ(RunStep(*engine), "t2:4 f2:4");
  EXPECT_EQ(engine->Stats().prompt_tokens, 15u);  // once each, though one was recomputed
  EXPECT_EQ(engine->Stats().generation_tokens, 11u);
}

TEST(EnginePreemption, PriorityTakesFromTheLeastUrgentAndServesTheMostUrgentFirst) {
  EngineOptions options = Small();
  options.policy = Policy::kPriority;
  options.num_blocks = 4;
  options.max_model_len = 16;
  auto engine = Make(options);
  Request low = Ask(1, 7, 6);
  low.priority = 5;
  ASSERT_TRUE(engine->Submit(std::move(low)));
  ASSERT_TRUE(engine->Submit(Ask(2, 7, 6)));
  EXPECT_EQ(RunStep(*engine), "s2:0 s1:0 t2:1 t1:1");
  EXPECT_EQ(RunStep(*engine), "t2:2 t1:2");
  EXPECT_EQ(RunStep(*engine), "p1:2 t2:3");
}

TEST(EnginePreemption, AVictimThatWasAlreadyScheduledLeavesNoFalseContent) {
  EngineOptions options = Small();
  options.policy = Policy::kPriority;
  options.num_blocks = 5;
  options.max_model_len = 20;
  auto engine = Make(options);
  const auto hashes = Hashes(50, 20);
  Request low = Ask(1, 7, 9, hashes);
  low.priority = 5;
  ASSERT_TRUE(engine->Submit(std::move(low)));
  EXPECT_EQ(RunStep(*engine), "s1:0 t1:1");
  ASSERT_TRUE(engine->Submit(Ask(2, 12, 5, Hashes(500, 20))));
  // 1 runs first in the step and would fill its second block; 2 fills the pool.
  EXPECT_EQ(RunStep(*engine), "s2:0 t1:2 t2:1");
  EXPECT_EQ(engine->Stats().used_blocks, 5u);
  // 1 asks for a third block: it is the least urgent itself.
  EXPECT_EQ(RunStep(*engine), "p1:2 t2:2");
  EXPECT_EQ(StepsUntilIdle(*engine), 3 + 7);
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
}

TEST(EngineAbort, WorksInEveryState) {
  auto engine = Make(Small());
  EXPECT_FALSE(engine->Abort(1));
  // Waiting.
  ASSERT_TRUE(engine->Submit(Ask(1, 8, 4)));
  EXPECT_TRUE(engine->Abort(1));
  EXPECT_FALSE(engine->HasWork());
  // Running, during a step: its token does not come.
  ASSERT_TRUE(engine->Submit(Ask(2, 8, 4)));
  ASSERT_TRUE(engine->Submit(Ask(3, 8, 4)));
  engine->BeginStep();
  EXPECT_TRUE(engine->Abort(2));
  ASSERT_TRUE(engine->Submit(Ask(4, 8, 4)));  // takes the place of 2, but is not in this step
  const auto events = engine->EndStep();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].id, 3u);
  // Running, between steps.
  EXPECT_TRUE(engine->Abort(3));
  EXPECT_EQ(RunStep(*engine), "s4:0 t4:1");
  // In the middle of its prompt.
  EXPECT_TRUE(engine->Abort(4));
  ASSERT_TRUE(engine->Submit(Ask(5, 40, 4)));
  EXPECT_EQ(RunStep(*engine), "s5:0");
  EXPECT_TRUE(engine->Abort(5));
  EXPECT_FALSE(engine->Abort(5));
  EXPECT_FALSE(engine->HasWork());
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
}

TEST(EngineReset, DropsEverything) {
  auto engine = Make(Small());
  ASSERT_TRUE(engine->Submit(Ask(1, 13, 4, Hashes(1, 16))));
  ASSERT_TRUE(engine->Submit(Ask(2, 13, 4)));
  engine->BeginStep();
  engine->Reset();
  EXPECT_TRUE(engine->EndStep().empty());
  EXPECT_FALSE(engine->HasWork());
  EXPECT_EQ(engine->Stats().used_blocks, 0u);
  ASSERT_TRUE(engine->Submit(Ask(1, 13, 1, Hashes(1, 16))));
  EXPECT_EQ(RunStep(*engine), "s1:0 t1:1 f1:1");
}

TEST(EngineLora, DistinctAdaptersAreBoundedAndOthersPassTheBlockedOne) {
  EngineOptions options = Small();
  options.max_loras = 1;
  auto engine = Make(options);
  const uint32_t adapters[] = {1, 2, 1, 0};
  for (uint64_t id = 1; id <= 4; ++id) {
    Request request = Ask(id, 1, 2);
    request.lora = adapters[id - 1];
    ASSERT_TRUE(engine->Submit(std::move(request)));
  }
  EXPECT_EQ(RunStep(*engine), "s1:0 s3:0 s4:0 t1:1 t3:1 t4:1");
  EXPECT_EQ(engine->LoraLoads()[1].running, 2u);
  EXPECT_EQ(engine->LoraLoads()[2].waiting, 1u);
  RunStep(*engine);
  EXPECT_EQ(RunStep(*engine), "s2:0 t2:1");
}

TEST(StepTime, FollowsTheFormula) {
  const StepCosts costs = H100();
  StepLoad decode;
  decode.Add(999, 1);
  EXPECT_NEAR(StepSeconds(costs, decode) * 1e3, 13.5 + 0.042 + 0.03, 1e-9);
  StepLoad mixed = decode;
  mixed.Add(1000, 500);
  StepCosts doubled = costs;
  doubled.mixed_factor = 2;
  EXPECT_NEAR(StepSeconds(doubled, mixed) * 1e3,
              4.7 + 0.044 * 501 + 0.042 * 2 + 0.06 + 1.4e-6 * 500 * 1250, 1e-9);
  doubled.all_reduce_ms = 1;
  doubled.all_reduce_per_token_us = 2;
  doubled.constant_ms = 0.5;
  EXPECT_NEAR((StepSeconds(doubled, mixed) - StepSeconds(costs, mixed)) * 1e3,
              0.042 + 1 + 0.002 * 501 + 0.5, 1e-9);
}

// Anchors: Qwen3-32B on two H100s prefills 8192 tokens in about 400 ms; 100 sequences with 770
// thousand tokens of context decode in 46.5 to 52 ms a step.
TEST(StepTime, MeetsTheH100Anchors) {
  EngineOptions options;
  options.num_blocks = 18'625;
  options.max_model_len = 40'960;
  options.costs = H100();
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 8192, 1)));
  EXPECT_NEAR(ToMillis(engine->BeginStep().duration), 412, 1);
  StepLoad load;
  for (int i = 0; i < 100; ++i) load.Add(7699, 1);
  const double ms = StepSeconds(options.costs, load) * 1e3;
  EXPECT_GT(ms, 46.5);
  EXPECT_LT(ms, 52);
}

TEST(StepTime, NoiseHasTheStatedSpreadAndNoBias) {
  EngineOptions options = Small();
  options.costs.noise = 0.1;
  options.num_blocks = 4000;
  options.max_model_len = 16'000;
  auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 1, 10'000)));
  double sum = 0, squares = 0;
  int n = 0;
  while (engine->HasWork()) {
    const double ms = ToMillis(engine->BeginStep().duration);
    engine->EndStep();
    sum += ms;
    squares += ms * ms;
    ++n;
  }
  const double mean = sum / n;
  EXPECT_NEAR(mean, 10, 0.05);
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean), 1, 0.05);
}

}  // namespace
}  // namespace penstock::engine
