#include "sim/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "sim/request.h"

namespace penstock::sim {
namespace {

using model::Api;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Lt;

// Every byte that the words are made of is a token, "the" one too.
class WordsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("penstock_sim_words_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    std::string vocabulary;
    for (char c = 'a'; c <= 'z'; ++c) {
      vocabulary += '"' + std::string(1, c) + "\": " + std::to_string(c - 'a') + ", ";
    }
    std::ofstream(folder_ / "tokenizer.json")
        << R"({"added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "ByteLevel",
               "add_prefix_space": false, "use_regex": true}, "post_processor": null,
               "model": {"type": "BPE", "vocab": {)" +
               vocabulary + R"("\u0120": 26, "th": 27, "the": 28},
               "merges": [["t", "h"], ["th", "e"]]}})";
    std::ofstream(folder_ / "chat_template.jinja")
        << "{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}tool{% endif %}";
    auto loaded = tokens::PromptTokenizer::Load({.path = folder_.string()});
    ASSERT_TRUE(loaded) << loaded.error().message;
    tokenizer_ = *std::move(loaded);
    names_.tokenizer = tokenizer_.get();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::vector<std::vector<uint32_t>> Prompts(Api api, std::string_view body) const {
    auto job = ParseJob(api, body, names_);
    EXPECT_TRUE(job) << job.error().message;
    return job ? job->prompts : std::vector<std::vector<uint32_t>>();
  }

  std::filesystem::path folder_;
  std::unique_ptr<tokens::PromptTokenizer> tokenizer_;
  Names names_{"m", {}, 2048};
};

TEST_F(WordsTest, PromptsAreTheTokenizers) {
  EXPECT_THAT(Prompts(Api::kCompletions, R"({"prompt": ["the", "ab"]})"),
              ElementsAre(ElementsAre(28), ElementsAre(0, 1)));
  EXPECT_THAT(Prompts(Api::kCompletions, R"({"prompt": [7, 5]})"), ElementsAre(ElementsAre(7, 5)));
  EXPECT_THAT(Prompts(Api::kChatCompletions,
                      R"({"messages": [{"role": "user", "content": "the"}], "tools": [
                          {"type": "function", "function": {"name": "f"}}]})"),
              ElementsAre(ElementsAre(28, 't' - 'a', 'o' - 'a', 'o' - 'a', 'l' - 'a')));
  EXPECT_THAT(Prompts(Api::kTokenize, R"({"messages": [{"role": "user", "content": "a the"}]})"),
              ElementsAre(ElementsAre(0, 26, 28)));
}

TEST_F(WordsTest, WhatTheTemplateCannotTellIsToldWithoutIt) {
  const auto prompts = Prompts(Api::kChatCompletions, R"({"messages": [{"role": "user", "content": [
      {"type": "image_url", "image_url": {"url": "u"}}]}]})");
  ASSERT_EQ(prompts.size(), 1u);
  EXPECT_GE(prompts[0].size(), 256u);
}

TEST_F(WordsTest, WhatTheTemplateRefusesIsABadRequest) {
  const auto job =
      ParseJob(Api::kChatCompletions,
               R"({"messages": [{"role": "user", "content": "a"}], "chat_template": "x"})", names_);
  ASSERT_FALSE(job);
  EXPECT_EQ(job.error().status, 400);
  EXPECT_EQ(job.error().message, "the request brings its own chat template");
}

TEST_F(WordsTest, AnswersAreTheirTokens) {
  for (const FirstWord first : {FirstWord::kBare, FirstWord::kSpaced}) {
    const Writing writing = WriteWith(*tokenizer_, 5, 100, first);
    ASSERT_EQ(writing.tokens.size(), 100u);
    ASSERT_EQ(writing.ends.size(), 100u);
    EXPECT_EQ(writing.ends.back(), writing.text.size());
    EXPECT_EQ(writing.text.starts_with(' '), first == FirstWord::kSpaced);
    EXPECT_THAT(writing.tokens, Each(Lt(29u)));
    std::vector<uint32_t> again;
    ASSERT_TRUE(tokenizer_->EncodeText(writing.text, "false", &again));
    EXPECT_EQ(again, writing.tokens);
    const Writing shorter = WriteWith(*tokenizer_, 5, 60, first);
    EXPECT_TRUE(writing.text.starts_with(shorter.text));
  }
}

}  // namespace
}  // namespace penstock::sim
