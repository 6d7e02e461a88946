#include "traffic/answer.h"

#include <gtest/gtest.h>

namespace penstock::traffic {
namespace {

constexpr std::string_view kStream =
    R"(data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hé"},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{"content":"llo \"you\"\n"},"finish_reason":"stop"}]}

data: {"id":"c","choices":[],"usage":{"prompt_tokens":321,"total_tokens":324,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":160}}}

data: [DONE]

)";
constexpr std::string_view kText = "Héllo \"you\"\n";

void ExpectWhole(const AnswerReader& answer) {
  EXPECT_EQ(answer.problem(), "");
  EXPECT_EQ(answer.text(), kText);
  EXPECT_TRUE(answer.has_output());
  EXPECT_TRUE(answer.usage().is_known);
  EXPECT_TRUE(answer.usage().cached_known);
  EXPECT_EQ(answer.usage().prompt_tokens, 321u);
  EXPECT_EQ(answer.usage().cached_tokens, 160u);
  EXPECT_EQ(answer.usage().output_tokens, 3u);
}

TEST(AnswerReader, ReadsAStreamCutAtEveryByte) {
  for (size_t cut = 0; cut <= kStream.size(); ++cut) {
    AnswerReader answer(AnswerReader::Format::kStream);
    answer.Feed(kStream.substr(0, cut));
    answer.Feed(kStream.substr(cut));
    answer.Finish();
    ExpectWhole(answer);
  }
  AnswerReader bytewise(AnswerReader::Format::kStream);
  for (size_t i = 0; i < kStream.size(); ++i) bytewise.Feed(kStream.substr(i, 1));
  bytewise.Finish();
  ExpectWhole(bytewise);
}

TEST(AnswerReader, TheRoleAloneIsNoOutput) {
  AnswerReader answer(AnswerReader::Format::kStream);
  answer.Feed(kStream.substr(0, kStream.find("\n\n") + 2));
  EXPECT_FALSE(answer.has_output());
  answer.Feed(R"(data: {"choices":[{"delta":{"reasoning_content":"hm"}}]})"
              "\n\n");
  EXPECT_TRUE(answer.has_output());
  EXPECT_EQ(answer.text(), "");
}

TEST(AnswerReader, ReadsAWholeAnswer) {
  AnswerReader answer(AnswerReader::Format::kWhole);
  answer.Feed(R"({"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}],)");
  answer.Feed(R"("usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":null}})");
  answer.Finish();
  EXPECT_EQ(answer.problem(), "");
  EXPECT_EQ(answer.text(), "Hi");
  EXPECT_TRUE(answer.usage().is_known);
  EXPECT_FALSE(answer.usage().cached_known);
}

TEST(AnswerReader, SaysWhatIsWrong) {
  const struct {
    AnswerReader::Format format;
    std::string_view body;
    std::string_view problem;
  } kCases[] = {
      {AnswerReader::Format::kStream, "", "without [DONE]"},
      {AnswerReader::Format::kStream, "data: {\"choices\":[]}\n\n", "without [DONE]"},
      {AnswerReader::Format::kStream, "data: nonsense\n\ndata: [DONE]\n\n", "JSON"},
      {AnswerReader::Format::kStream, "data: [1]\n\n", "JSON"},
      {AnswerReader::Format::kStream, "data: {\"error\":{\"message\":\"it broke\"}}\n\n",
       "it broke"},
      {AnswerReader::Format::kWhole, "", "JSON"},
      {AnswerReader::Format::kWhole, "{\"choices\":", "JSON"},
      {AnswerReader::Format::kWhole, "{\"error\":\"plain\"}", "plain"},
  };
  for (const auto& c : kCases) {
    AnswerReader answer(c.format);
    answer.Feed(c.body);
    answer.Finish();
    EXPECT_NE(answer.problem().find(c.problem), std::string::npos)
        << c.body << ": '" << answer.problem() << "'";
  }
}

TEST(AnswerReader, KeepsABoundedAmount) {
  AnswerReader whole(AnswerReader::Format::kWhole);
  for (int i = 0; i < 3; ++i) whole.Feed(std::string(AnswerReader::kMaxBytes / 2, ' '));
  EXPECT_NE(whole.problem(), "");
  AnswerReader stream(AnswerReader::Format::kStream);
  const std::string event =
      R"(data: {"choices":[{"delta":{"content":")" + std::string(100'000, 'a') + "\"}}]}\n\n";
  for (int i = 0; i < 20; ++i) stream.Feed(event);
  EXPECT_NE(stream.problem(), "");
  EXPECT_LE(stream.text().size(), AnswerReader::kMaxBytes);
}

TEST(AnswerReader, OddFieldsDoNoHarm) {
  for (std::string_view json :
       {R"({"choices":{}})", R"({"choices":[7]})", R"({"choices":[{"delta":[]}]})",
        R"({"choices":[{"delta":{"content":null}}]})", R"({"usage":7})",
        R"({"usage":{"prompt_tokens":-1,"prompt_tokens_details":{"cached_tokens":"x"}}})"}) {
    AnswerReader answer(AnswerReader::Format::kWhole);
    answer.Feed(json);
    answer.Finish();
    EXPECT_EQ(answer.problem(), "") << json;
    EXPECT_FALSE(answer.usage().is_known) << json;
    EXPECT_FALSE(answer.has_output()) << json;
  }
}

TEST(ErrorText, TakesTheMessageOrTheBegin) {
  EXPECT_EQ(ErrorText(R"({"error":{"message":"no engine","code":503}})"), "no engine");
  EXPECT_EQ(ErrorText("<html>\n"), "<html>");
  EXPECT_EQ(ErrorText(std::string(5000, 'x')).size(), 300u);
  EXPECT_EQ(ErrorText(""), "");
}

}  // namespace
}  // namespace penstock::traffic
