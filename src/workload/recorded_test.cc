#include "workload/recorded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "workload/testing.h"

namespace penstock::workload {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kHead = "{\"penstock_recording\":1,\"start\":5}\n";

Result<std::unique_ptr<Source>> Read(const std::string& text, const RecordedOptions& options = {}) {
  return ReadRecorded([&] { return Result<LineReader>(LineReader::OfText(text, "f")); }, options);
}

std::string Key(int number) {
  std::string key = std::to_string(number);
  return std::string(16 - key.size(), '0') + key;
}

std::string Arrive(int n, double t_s, uint64_t tokens, const std::vector<int>& keys,
                   const std::string& more = "") {
  std::string text = "{\"e\":\"arrive\",\"t\":" + std::to_string(static_cast<int64_t>(t_s * 1e9)) +
                     ",\"n\":" + std::to_string(n) + ",\"lane\":0,\"to\":\"e\",\"stream\":true," +
                     more + "\"tokens\":" + std::to_string(tokens) +
                     ",\"prefixes\":[{\"size\":64,\"ends\":[" + std::to_string(keys.size()) +
                     "],\"keys\":\"";
  for (const int key : keys) text += Key(key);
  return text + "\"}]}\n";
}

std::string End(int n, const std::string& rest) {
  return "{\"e\":\"end\",\"t\":9,\"n\":" + std::to_string(n) + ",\"kind\":" + rest + "}\n";
}

TEST(Recorded, RequestsComeAsTheyCameAndAnswerAsLong) {
  const std::string text =
      std::string(kHead) + "{\"e\":\"lane\",\"lane\":0,\"seed\":1}\n" +
      Arrive(0, 0.5, 150, {1, 2, 3}, "\"session\":\"00000000000000ff\",\"max\":70,") +
      "{\"e\":\"tick\",\"t\":1}\n" + Arrive(1, 1.5, 130, {1, 2, 4}) +
      End(1, "\"complete\",\"status\":200,\"in\":260,\"out\":20") +
      End(0, "\"complete\",\"status\":200,\"in\":300,\"out\":10,\"cached\":7");
  auto source = Read(text);
  ASSERT_TRUE(source) << source.error().message;
  const Played played = Play(**source);
  ASSERT_EQ(played.jobs.size(), 2U);
  const Job& first = played.jobs[0];
  const Job& second = played.jobs[1];
  EXPECT_EQ(first.at, milliseconds(500));
  EXPECT_EQ(second.at, milliseconds(1500));
  EXPECT_EQ(first.session, 255U);
  EXPECT_EQ(second.session, 0U);
  EXPECT_EQ(first.max_output_tokens, 70U);
  EXPECT_EQ(first.output_tokens, 10U);
  EXPECT_EQ(second.output_tokens, 20U);
  // The engines counted twice as many tokens as the gateway had estimated.
  const auto tokens = [](const Job& job) {
    std::vector<uint32_t> out;
    for (const Piece& piece : job.prompt) out.push_back(piece.tokens);
    return out;
  };
  EXPECT_THAT(tokens(first), ElementsAre(128, 128, 44));
  EXPECT_THAT(tokens(second), ElementsAre(128, 128, 4));
  EXPECT_EQ(first.prompt[0], second.prompt[0]);
  EXPECT_EQ(first.prompt[1], second.prompt[1]);
  EXPECT_NE(first.prompt[2].content, second.prompt[2].content);
}

TEST(Recorded, RunsAsManyTimesAsFast) {
  const std::string text = std::string(kHead) + Arrive(0, 1, 64, {1}) +
                           End(0, "\"complete\",\"in\":64,\"out\":1") + Arrive(1, 3, 64, {1}) +
                           End(1, "\"complete\",\"in\":64,\"out\":1");
  auto source = Read(text, {.rate_scale = 4});
  const Played played = Play(**source);
  ASSERT_EQ(played.jobs.size(), 2U);
  EXPECT_EQ(played.jobs[1].at, milliseconds(750));
}

TEST(Recorded, LeavesOutWhatNobodyKnowsAndCountsIt) {
  const std::string text =
      std::string(kHead) + Arrive(0, 1, 64, {1}) + Arrive(1, 2, 0, {}) + Arrive(2, 3, 64, {1}) +
      "{\"e\":\"arrive\",\"t\":3,\"n\":3,\"lane\":0,\"status\":503,\"tokens\":9,\"prefixes\":[]}"
      "\n" +
      Arrive(4, 4, 64, {1}) + End(0, "\"client_gone\",\"in\":64,\"out\":3") +
      End(1, "\"complete\",\"in\":1,\"out\":3") + End(4, "\"complete\",\"in\":64,\"out\":5");
  auto source = Read(text);
  const Played played = Play(**source);
  ASSERT_EQ(played.jobs.size(), 1U);
  EXPECT_EQ(played.jobs[0].output_tokens, 5U);
  EXPECT_THAT((*source)->Skipped(), ElementsAre(HasSubstr("3 requests: rejected or broken off"),
                                                "1 requests: without a prompt"));
}

TEST(Recorded, KeysThatStandForAllPoliciesAndPromptsBeyondTheKeys) {
  const std::string text =
      std::string(kHead) +
      "{\"e\":\"arrive\",\"t\":0,\"n\":0,\"lane\":0,\"to\":\"e\",\"tokens\":0,"
      "\"prefixes\":[],\"prompt\":{\"size\":64,\"tokens\":200,\"ends\":[2],\"keys\":\"" +
      Key(1) + Key(2) + "\"}}\n" + End(0, "\"complete\",\"in\":200,\"out\":5");
  auto source = Read(text);
  const Played played = Play(**source);
  ASSERT_EQ(played.jobs.size(), 1U);
  ASSERT_EQ(played.jobs[0].prompt.size(), 3U);
  EXPECT_EQ(played.jobs[0].prompt[2].tokens, 72U);
  EXPECT_EQ(played.jobs[0].prompt_tokens(), 200U);
}

TEST(Recorded, ComplaintsNameTheLine) {
  const std::string head(kHead);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "is no recording"},
      {"{}\n", "f:1: is no recording"},
      {"timestamp\n", "f:1: is no recording"},
      {head + Arrive(1, 0, 64, {1}), "f:2: n: requests do not count up"},
      {head + End(0, "\"complete\""), "f:2: n: ends before it came"},
      {head + "{\"e\":\"arrive\",\"t\":\"x\"}\n", "f:2: t: no time"},
      {head + "{\"e\":\"arrive\",\"n\":-1}\n", "f:2: n: '-1' is no number"},
      {head + "{\"e\":\"arrive\",\"n\":0,\"prefixes\":[{\"keys\":\"0\"}]}\n", "f:2: keys:"},
      {head + "{\"e\":\"arrive\",\"n\":0,\"prefixes\":[{\"size\":0}]}\n", "f:2: size:"},
      {head + "{\"e\":\"arrive\",\"n\":0\n", "f:2: expected"},
  };
  for (const auto& [text, complaint] : cases) {
    const auto source = Read(text);
    ASSERT_FALSE(source) << text;
    EXPECT_THAT(source.error().message, HasSubstr(complaint)) << text;
  }
}

}  // namespace
}  // namespace penstock::workload
