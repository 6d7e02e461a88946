#include "lab/calibrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/random.h"

namespace penstock::lab {
namespace {

using ::testing::HasSubstr;

// What an engine of these costs would take, `noise` off at most.
struct Made {
  std::vector<PrefillPoint> prefills;
  std::vector<DecodePoint> decodes;
};
Made Measure(const engine::StepCosts& costs, double overhead_s, double noise) {
  Random random(1);
  const auto off = [&] { return 1 + noise * (2 * random.Uniform() - 1); };
  Made made;
  for (const uint32_t tokens : {16U, 512U, 1024U, 2048U, 4096U, 8192U}) {
    engine::StepLoad load;
    load.Add(0, tokens);
    made.prefills.push_back({tokens, (engine::StepSeconds(costs, load) + overhead_s) * off()});
  }
  for (const auto& [sequences, context] :
       {std::pair{1U, 100U}, std::pair{8U, 100U}, std::pair{32U, 100U}, std::pair{8U, 4000U}}) {
    engine::StepLoad load;
    for (uint32_t i = 0; i < sequences; ++i) load.Add(context - 1, 1);
    made.decodes.push_back(
        {sequences, static_cast<double>(context), engine::StepSeconds(costs, load) * off()});
  }
  return made;
}

constexpr engine::StepCosts kCosts{.floor_ms = 13.5,
                                   .base_ms = 4.7,
                                   .per_token_us = 44,
                                   .decode_context_ns = 42,
                                   .per_sequence_us = 30,
                                   .prefill_attention_ns = 1.4};

TEST(FitStepCosts, FindsTheCostsThatTheTimesWereMadeOf) {
  const Made made = Measure(kCosts, 0.003, 0);
  const auto found = FitStepCosts(made.prefills, made.decodes);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_NEAR(found->costs.floor_ms, 13.5, 1e-6);
  EXPECT_NEAR(found->costs.per_sequence_us, 30, 1e-4);
  EXPECT_NEAR(found->costs.decode_context_ns, 42, 1e-4);
  EXPECT_NEAR(found->costs.base_ms, 4.7, 1e-3);
  EXPECT_NEAR(found->costs.per_token_us, 44, 1e-4);
  EXPECT_NEAR(found->costs.prefill_attention_ns, 1.4, 1e-4);
  EXPECT_NEAR(found->overhead_s, 0.003, 2e-5);
  EXPECT_LT(found->prefill_error, 0.01);
  EXPECT_LT(found->decode_error, 1e-6);
}

TEST(FitStepCosts, NoiseMovesThemALittle) {
  const Made made = Measure(kCosts, 0.003, 0.02);
  const auto found = FitStepCosts(made.prefills, made.decodes);
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->costs.floor_ms / 13.5, 1, 0.05);
  EXPECT_NEAR(found->costs.per_token_us / 44, 1, 0.1);
  EXPECT_NEAR(found->costs.decode_context_ns / 42, 1, 0.25);
  EXPECT_LT(found->prefill_error, 0.04);
}

TEST(FitStepCosts, NoCostIsNegative) {
  engine::StepCosts costs = kCosts;
  costs.per_sequence_us = costs.prefill_attention_ns = 0;
  const Made made = Measure(costs, 0, 0.05);
  const auto found = FitStepCosts(made.prefills, made.decodes);
  ASSERT_TRUE(found);
  for (const double cost : {found->costs.per_sequence_us, found->costs.prefill_attention_ns,
                            found->costs.base_ms, found->costs.decode_context_ns}) {
    EXPECT_GE(cost, 0);
  }
}

TEST(FitStepCosts, SaysWhatIsMissing) {
  const Made made = Measure(kCosts, 0, 0);
  const std::span<const PrefillPoint> prefills(made.prefills);
  const std::span<const DecodePoint> decodes(made.decodes);
  EXPECT_THAT(FitStepCosts(prefills, decodes.first(1)).error().message,
              HasSubstr("there are 1, 1 and 5"));
  EXPECT_THAT(FitStepCosts(prefills.first(3), decodes).error().message,
              HasSubstr("there are 3, 1 and 2"));
  EXPECT_THAT(FitStepCosts(prefills.subspan(1), decodes).error().message,
              HasSubstr("there are 3, 0 and 5"));
  const DecodePoint nothing[] = {{4, 100, 0}};
  EXPECT_THAT(FitStepCosts(prefills, nothing).error().message, HasSubstr("no time"));
}

TEST(RenderProfile, IsReadBack) {
  engine::Profile profile = *engine::LoadProfile("h100-qwen3-32b-tp2");
  profile.name = "mine \"quoted\"";
  profile.description = "at http://127.0.0.1:8000: fitted";
  const auto read = engine::ParseProfile(RenderProfile(profile), "mine.yaml");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->name, profile.name);
  EXPECT_EQ(read->description, profile.description);
  EXPECT_EQ(read->kv_cache.blocks, profile.kv_cache.blocks);
  EXPECT_DOUBLE_EQ(read->step_time.floor_ms, 13.5);
  EXPECT_DOUBLE_EQ(read->step_time.prefill_attention_ns, 1.4);
}

}  // namespace
}  // namespace penstock::lab
