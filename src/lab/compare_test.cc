#include "lab/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/profile.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "workload/open.h"

namespace penstock::lab {
namespace {

using ::testing::HasSubstr;

Arm ArmOf(std::string name) {
  return {name, [name]() -> Result<std::unique_ptr<sched::Scheduler>> {
            const auto spec = sched::BuiltinPolicy(name);
            if (!spec) return std::unexpected(spec.error());
            config::Diagnostics diagnostics;
            return sched::Scheduler::Create(*spec, plugins::Builtins(), &diagnostics);
          }};
}

CompareOptions Options(uint32_t threads) {
  CompareOptions options;
  options.workload = "b2b <saas>";
  options.fleet = "4 engines";
  options.open = [](uint64_t seed) {
    return workload::Open("b2b-saas", seed, {.max_requests = 150});
  };
  for (int i = 0; i < 4; ++i) {
    options.replay.engines.push_back(
        {"e" + std::to_string(i), engine::LoadProfile("h100-qwen3-32b-tp2")->Options(), 2});
  }
  options.arms = {ArmOf("random"), ArmOf("sticky")};
  options.seeds = 3;
  options.threads = threads;
  return options;
}

TEST(Estimate, IsStudents) {
  const Estimate estimate = EstimateOf({1, 2, 3});
  EXPECT_DOUBLE_EQ(estimate.mean, 2);
  EXPECT_NEAR(estimate.half_width, 4.303 / std::sqrt(3.0), 1e-9);
  EXPECT_EQ(EstimateOf({5}).half_width, 0);
}

TEST(Compare, ThreadsDoNotChangeAnything) {
  const auto alone = Compare(Options(1));
  size_t heard = 0;
  const auto together = Compare(Options(3), [&](size_t done, size_t all) {
    EXPECT_LE(done, all);
    ++heard;
  });
  ASSERT_TRUE(alone && together);
  EXPECT_EQ(heard, 6u);
  ASSERT_EQ(alone->arms.size(), 2u);
  for (size_t a = 0; a < 2; ++a) {
    EXPECT_EQ(alone->arms[a].digests, together->arms[a].digests);
    EXPECT_EQ(alone->arms[a].Of("ttft_mean_s").runs, together->arms[a].Of("ttft_mean_s").runs);
  }
}

TEST(Compare, TellsBetterFromNoise) {
  const auto comparison = Compare(Options(2));
  ASSERT_TRUE(comparison);
  const ArmResult& random = comparison->arms[0];
  const ArmResult& sticky = comparison->arms[1];
  EXPECT_EQ(Judge(sticky, random, "hit_share"), Verdict::kBetter);
  EXPECT_EQ(Judge(random, sticky, "hit_share"), Verdict::kWorse);
  EXPECT_EQ(Judge(random, random, "hit_share"), Verdict::kNoise);
  EXPECT_EQ(BestArm(*comparison, "hit_share"), 1u);
  EXPECT_EQ(BestArm(*comparison, "ttft_mean_s"), 1u);
}

TEST(Compare, AnErrorNamesTheArm) {
  CompareOptions options = Options(2);
  options.arms.push_back(ArmOf("stiky"));
  const auto comparison = Compare(options);
  ASSERT_FALSE(comparison);
  EXPECT_THAT(comparison.error().message, HasSubstr("stiky: unknown policy 'stiky'"));
}

TEST(Compare, ReportsShowEveryArmAndEscapeNames) {
  const auto comparison = Compare(Options(2));
  ASSERT_TRUE(comparison);
  EXPECT_THAT(RenderTable(*comparison), HasSubstr("cache hits %"));
  EXPECT_THAT(RenderJson(*comparison), HasSubstr(R"("name":"sticky","numbers":{"ttft_mean_s":)"));
  const std::string html = RenderHtml(*comparison, "penstock lab compare <x>");
  EXPECT_THAT(html, HasSubstr("<h1>b2b &lt;saas></h1>"));
  EXPECT_THAT(html, HasSubstr("<code>penstock lab compare &lt;x></code>"));
  EXPECT_THAT(html, HasSubstr("</svg>"));
}

}  // namespace
}  // namespace penstock::lab
