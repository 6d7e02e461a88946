#include "lab/log_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "core/random.h"
#include "lab/testing.h"

namespace penstock::lab {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

engine::EngineOptions Engine(const engine::StepCosts& costs) {
  engine::EngineOptions options;
  options.num_blocks = 20'000;
  options.costs = costs;
  return options;
}

constexpr engine::StepCosts kCosts{.floor_ms = 13.5,
                                   .per_token_us = 46,
                                   .decode_context_ns = 42,
                                   .per_sequence_us = 150,
                                   .prefill_attention_ns = 1.4};

struct Traffic {
  size_t requests = 300;
  double gap_s = 0.2;  // mean
  uint32_t longest_prompt = 8'000;
};

// What an engine of these costs would leave in its log, with `overhead_s` before each answer.
RequestLog MakeLog(const engine::StepCosts& costs, const Traffic& traffic, double overhead_s) {
  Random random(1);
  RequestLog log;
  double at = 0;
  for (size_t i = 0; i < traffic.requests; ++i) {
    RunRequest& request = log.requests.emplace_back();
    request.arrival = FromSeconds(at);
    // Chats and long documents by turns: what sequences and what contexts cost shows apart.
    const uint32_t longest = i / 50 % 2 == 0 ? 200 : traffic.longest_prompt;
    request.prompt_tokens = 20 + static_cast<uint32_t>(random.Below(longest - 20));
    request.output_tokens = 20 + static_cast<uint32_t>(random.Below(280));
    at -= std::log(1 - random.Uniform()) * traffic.gap_s;
  }
  auto run = RunEngine(log.requests, {.engine = Engine(costs)});
  EXPECT_TRUE(run) << run.error().message;
  log.times = run->requests;
  for (RunTimes& times : log.times) {
    times.first_token += FromSeconds(overhead_s);
    times.last_token += FromSeconds(overhead_s);
  }
  log.rows = log.requests.size();
  return log;
}

TEST(FitLog, FindsTheCostsThatTheEngineHad) {
  const auto fit = FitLog(MakeLog(kCosts, {.gap_s = 0.15}, 0.004), Engine({}));
  ASSERT_TRUE(fit) << fit.error().message;
  EXPECT_NEAR(fit->costs.floor_ms / kCosts.floor_ms, 1, 0.05);
  EXPECT_NEAR(fit->costs.per_token_us / kCosts.per_token_us, 1, 0.05);
  EXPECT_NEAR(fit->costs.decode_context_ns / kCosts.decode_context_ns, 1, 0.2);
  EXPECT_NEAR(fit->costs.per_sequence_us / kCosts.per_sequence_us, 1, 0.2);
  EXPECT_NEAR(fit->costs.prefill_attention_ns / kCosts.prefill_attention_ns, 1, 0.35);
  EXPECT_NEAR(fit->overhead_s, 0.004, 0.004);
  EXPECT_LT(fit->held_out.tpot, 0.005);
  EXPECT_LT(fit->held_out.ttft, 0.03);
  EXPECT_EQ(fit->fitted.requests + fit->held_out.requests, 300u);
  EXPECT_GT(fit->most_at_once, 50u);
}

// Costs this small are hard to tell apart; what they make together is met all the same.
TEST(FitLog, MeetsTheTimesOfCalmTraffic) {
  engine::StepCosts costs = kCosts;
  costs.per_sequence_us = 30;
  const auto fit = FitLog(MakeLog(costs, {.gap_s = 0.3}, 0.004), Engine({}));
  ASSERT_TRUE(fit) << fit.error().message;
  EXPECT_NEAR(fit->costs.floor_ms / costs.floor_ms, 1, 0.05);
  EXPECT_NEAR(fit->costs.per_token_us / costs.per_token_us, 1, 0.05);
  EXPECT_LT(fit->held_out.tpot, 0.01);
  EXPECT_LT(fit->held_out.ttft, 0.1);
}

TEST(FitLog, SaysWhatALogOfLoneShortRequestsDoesNotTell) {
  const auto fit =
      FitLog(MakeLog(kCosts, {.requests = 60, .gap_s = 1e4, .longest_prompt = 150}, 0), Engine({}));
  ASSERT_TRUE(fit) << fit.error().message;
  EXPECT_EQ(fit->most_at_once, 1u);
  EXPECT_NEAR(fit->costs.floor_ms / 13.5, 1, 0.03);
  EXPECT_EQ(fit->costs.per_sequence_us, 0);
  for (const char* what :
       {"never has two requests at once", "perSequenceUs is not determined",
        "perTokenUs is hardly determined", "prefillAttentionNs is not determined"}) {
    EXPECT_THAT(fit->notes, Contains(HasSubstr(what)));
  }
  EXPECT_THAT(fit->notes, Not(Contains(HasSubstr("floorMs"))));
}

TEST(FitLog, OfALogThatGoesOnOnlyWhatIsWholeCounts) {
  const RequestLog log = MakeLog(kCosts, {.requests = 120, .gap_s = 0.3}, 0);
  const auto fit = FitLog(log, Engine({}), 80);
  ASSERT_TRUE(fit) << fit.error().message;
  EXPECT_LT(fit->fitted.requests + fit->held_out.requests, 80u);
  EXPECT_LT(fit->held_out.tpot, 0.01);
  EXPECT_THAT(FitLog(log, Engine({}), 21).error().message,
              HasSubstr("over before the rest of the log, are too few"));
}

TEST(FitLog, WhatWasAnsweredInOnePieceIsOnlyCompany) {
  RequestLog log = MakeLog(kCosts, {.requests = 120, .gap_s = 0.3}, 0);
  for (size_t i = 0; i < 120; i += 3) log.times[i].first_token = RunTimes().first_token;
  const auto fit = FitLog(log, Engine({}));
  ASSERT_TRUE(fit) << fit.error().message;
  EXPECT_EQ(fit->fitted.requests + fit->held_out.requests, 80u);
  EXPECT_THAT(fit->notes, Contains(HasSubstr("40 requests were answered in one piece")));
  EXPECT_NEAR(fit->costs.floor_ms / kCosts.floor_ms, 1, 0.05);
  EXPECT_LT(fit->held_out.tpot, 0.01);
}

TEST(FitLog, RefusesWhatIsTooLittle) {
  RequestLog log = MakeLog(kCosts, {.requests = 19}, 0);
  EXPECT_EQ(FitLog(log, Engine({})).error().message, "19 requests are too few: 20 at least");
  log = MakeLog(kCosts, {.requests = 40}, 0);
  engine::EngineOptions small = Engine({});
  small.max_model_len = 100;
  EXPECT_THAT(FitLog(log, small).error().message, HasSubstr("that the model takes"));
  for (RunRequest& request : log.requests) request.output_tokens = 1;
  EXPECT_THAT(FitLog(log, Engine({})).error().message, HasSubstr("with 8 tokens of output"));
}

TEST(RunEngine, TokensThatWereCachedAreReadOnce) {
  const RunRequest request = {.prompt_tokens = 4'000, .output_tokens = 10, .cached_tokens = 3'207};
  std::vector<RunRequest> requests(3, request);
  for (size_t i = 0; i < 3; ++i) requests[i].arrival = seconds(10 * i);
  requests[2].cached_tokens = 0;
  const auto run = RunEngine(requests, {.engine = Engine(kCosts)});
  ASSERT_TRUE(run) << run.error().message;
  const auto ttft = [&](size_t i) { return run->requests[i].first_token - run->requests[i].sent; };
  EXPECT_EQ(run->stats.prefix_hit_tokens, 3'200u);
  EXPECT_EQ(ttft(2), ttft(0));
  EXPECT_LT(ttft(1), ttft(0) / 3);
}

TEST(FitLog, MeetsARealRun) {
  const std::string data = DataFolder();
  if (data.empty()) GTEST_SKIP() << "no ../shared/data and no PENSTOCK_DATA";
  const auto log = ReadRequestLog(data + "/vllm-runs/rtxpro6000_llama-3.1-8b/requests.jsonl");
  ASSERT_TRUE(log) << log.error().message;
  engine::EngineOptions options = Engine({});
  options.num_blocks = 35'000;
  options.max_num_seqs = 128;
  options.max_num_batched_tokens = 2048;
  const auto fit = FitLog(*log, options);
  ASSERT_TRUE(fit) << fit.error().message;
  EXPECT_LT(fit->held_out.tpot, 0.01);
  EXPECT_LT(fit->held_out.ttft, 0.03);
  EXPECT_LT(std::fabs(fit->held_out.mean_ttft), 0.02);
}

}  // namespace
}  // namespace penstock::lab
