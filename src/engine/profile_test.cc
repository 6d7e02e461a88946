#include "engine/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace penstock::engine {
namespace {

using testing::HasSubstr;

constexpr std::string_view kMinimal = R"(name: p
model: m
origin: nowhere
quality: guess
scheduler: {maxModelLen: 160}
kvCache: {blocks: 10}
stepTime: {floorMs: 2.5, decodeContextNs: 42}
)";

TEST(Profile, BuiltinsLoadAndCarryTheirFileName) {
  const auto names = BuiltinProfileNames();
  EXPECT_THAT(names, testing::IsSupersetOf({"h100-qwen3-32b-tp2", "rtx4090-llama-3.1-8b",
                                            "rtxpro6000-llama-3.1-8b"}));
  for (const std::string& name : names) {
    auto profile = LoadProfile(name);
    ASSERT_TRUE(profile.has_value()) << profile.error().message;
    EXPECT_EQ(profile->name, name);
    EXPECT_TRUE(profile->step_time.floor_ms > 0 || profile->kernel_times != nullptr);
  }
}

// The profile's own anchor: 8192 tokens of prefill in about 412 ms, and 298 thousand tokens of KV.
TEST(Profile, H100HoldsItsAnchor) {
  const auto profile = LoadProfile("h100-qwen3-32b-tp2");
  ASSERT_TRUE(profile.has_value()) << profile.error().message;
  StepLoad load;
  load.Add(0, 8192);
  EXPECT_NEAR(StepSeconds(profile->step_time, load), 0.412, 0.001);
  StepLoad at_the_knee;
  at_the_knee.new_tokens = 200;
  StepLoad one;
  one.new_tokens = 1;
  EXPECT_DOUBLE_EQ(StepSeconds(profile->step_time, one), 0.0135);
  EXPECT_NEAR(StepSeconds(profile->step_time, at_the_knee), 0.0135, 1e-9);
  EXPECT_EQ(profile->kv_cache.blocks * profile->kv_cache.block_size, 298'000u);
  EXPECT_EQ(profile->Options().max_num_batched_tokens, 8192u);
}

TEST(Profile, ReadsEveryPart) {
  const auto profile = ParseProfile(kMinimal, "p.yaml");
  ASSERT_TRUE(profile.has_value()) << profile.error().message;
  const EngineOptions options = profile->Options();
  EXPECT_EQ(options.num_blocks, 10u);
  EXPECT_EQ(options.max_model_len, 160u);
  EXPECT_EQ(options.costs.floor_ms, 2.5);
  EXPECT_EQ(options.costs.decode_context_ns, 42);
  EXPECT_EQ(options.costs.idle_ms, 0);
  EXPECT_FALSE(options.async_scheduling);

  const auto async = ParseProfile(
      "name: a\nmodel: m\norigin: o\nquality: guess\nkvCache: {blocks: 4096}\n"
      "scheduler: {asyncScheduling: true}\nstepTime: {idleMs: 6.2}\n",
      "p.yaml");
  ASSERT_TRUE(async.has_value()) << async.error().message;
  EXPECT_TRUE(async->Options().async_scheduling);
  EXPECT_EQ(async->Options().costs.idle_ms, 6.2);
}

TEST(Profile, HasWhatTransfersTake) {
  std::string text(kMinimal);
  const auto plain = ParseProfile(text, "p.yaml");
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  EXPECT_EQ(plain->Options().cpu_blocks, 0u);
  EXPECT_EQ(plain->Options().peer_link.gb_per_s, 12.5);
  text.replace(text.find("{blocks: 10}"), 12, "{blocks: 10, bytesPerToken: 131072}");
  text += "kvOffload: {cpuBlocks: 40, gbPerS: 50}\nkvTransfer: {latencyUs: 500}\n";
  const auto profile = ParseProfile(text, "p.yaml");
  ASSERT_TRUE(profile.has_value()) << profile.error().message;
  const EngineOptions options = profile->Options();
  EXPECT_EQ(options.kv_bytes_per_token, 131072u);
  EXPECT_EQ(options.cpu_blocks, 40u);
  EXPECT_EQ(options.tier_link.gb_per_s, 50);
  EXPECT_EQ(options.tier_link.latency_us, 1);
  EXPECT_EQ(options.peer_link.gb_per_s, 12.5);
  EXPECT_EQ(options.peer_link.latency_us, 500);
  text.replace(text.find(", bytesPerToken: 131072"), 23, "");
  EXPECT_THAT(ParseProfile(text, "p.yaml").error().message, HasSubstr("kvCache.bytesPerToken"));
}

TEST(Profile, BuiltinsCanHaveATier) {
  for (const std::string& name : BuiltinProfileNames()) {
    EXPECT_GT(LoadProfile(name)->kv_cache.bytes_per_token, 0u) << name;
  }
}

TEST(Profile, SaysWhereAMistakeIs) {
  std::string text(kMinimal);
  text.replace(text.find("floorMs"), 7, "floorms");
  const auto unknown = ParseProfile(text, "p.yaml");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_THAT(unknown.error().message, HasSubstr("p.yaml:7:"));
  EXPECT_THAT(unknown.error().message, HasSubstr("floorMs"));

  text = kMinimal;
  text.replace(text.find("guess"), 5, "sure!");
  EXPECT_FALSE(ParseProfile(text, "p.yaml").has_value());

  text = kMinimal;
  text.replace(text.find("160"), 3, "161");
  EXPECT_THAT(ParseProfile(text, "p.yaml").error().message, HasSubstr("160 tokens"));
}

TEST(Profile, AnUnknownNameListsTheKnownOnes) {
  const auto profile = LoadProfile("h100-qwen3-32b-tp1");
  ASSERT_FALSE(profile.has_value());
  EXPECT_EQ(profile.error().code, Code::kNotFound);
  EXPECT_THAT(profile.error().message, HasSubstr("did you mean 'h100-qwen3-32b-tp2'"));
  EXPECT_EQ(LoadProfile("./no/such.yaml").error().code, Code::kNotFound);
}

TEST(Profile, KernelTimesStandBesideTheProfile) {
  const std::string folder =
      std::filesystem::temp_directory_path() / ("penstock-profile-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string yaml =
      "name: mine\nmodel: m\norigin: here\nquality: guess\nkvCache: {blocks: 4096}\n"
      "stepTime: {constantMs: 1}\nkernelTimes: mine.csv\n";
  std::ofstream(folder + "/mine.yaml") << yaml;
  const auto missing = LoadProfile(folder + "/mine.yaml");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, testing::HasSubstr("mine.csv: cannot be read"));
  std::ofstream(folder + "/mine.csv")
      << "kind,a,b,c,us\ndense,1,,,1000\nper_sequence,1,,,1\ndecode,1,1,,1\nprefill,2,0,,1\n"
         "mixed,1,1,2,1\n";
  const auto profile = LoadProfile(folder + "/mine.yaml");
  ASSERT_TRUE(profile) << profile.error().message;
  ASSERT_NE(profile->Options().kernel_times, nullptr);
  StepLoad load;
  load.Add(0, 1);
  EXPECT_NEAR(profile->Options().kernel_times->Seconds(load), 1.002e-3, 1e-9);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace penstock::engine
