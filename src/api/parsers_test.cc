#include "api/parsers.h"

#include <gtest/gtest.h>

#include <array>
#include <initializer_list>

namespace penstock::api {
namespace {

using model::Api;

ParserSet Set(std::initializer_list<ParserKind> kinds) {
  return ParserSet(std::span(kinds.begin(), kinds.size()));
}

Api ApiOf(const ParserSet& set, std::string_view path) {
  const auto route = set.Find(path);
  EXPECT_TRUE(route) << path;
  return route ? route->api : Api::kOther;
}

TEST(ParserSet, LongestSuffixWins) {
  const ParserSet& set = ParserSet::Default();
  EXPECT_EQ(ApiOf(set, "/v1/completions"), Api::kCompletions);
  EXPECT_EQ(ApiOf(set, "/v1/chat/completions"), Api::kChatCompletions);
  EXPECT_EQ(ApiOf(set, "/team-a/v1/chat/completions?x=/v1/messages"), Api::kChatCompletions);
  EXPECT_EQ(ApiOf(set, "/v1/chat/completions/render"), Api::kChatRender);
  EXPECT_EQ(ApiOf(set, "/v1/completions/render"), Api::kCompletionRender);
  EXPECT_EQ(ApiOf(set, "/v1/embeddings"), Api::kEmbeddings);
  EXPECT_EQ(ApiOf(set, "/v1/responses"), Api::kResponses);
  EXPECT_EQ(ApiOf(set, "/v1/conversations"), Api::kConversations);
  EXPECT_EQ(ApiOf(set, "/v1/images/generations"), Api::kImages);
  EXPECT_EQ(ApiOf(set, "/v1/messages"), Api::kMessages);
  EXPECT_EQ(ApiOf(set, "/v1/messages/count_tokens"), Api::kCountTokens);
  EXPECT_EQ(ApiOf(set, "/inference/v1/generate"), Api::kVllmGenerate);
  EXPECT_EQ(ApiOf(set, "/x/v2/rerank"), Api::kRerank);
  EXPECT_EQ(ApiOf(set, "/v1/chat%2Fcompletion%73#y"), Api::kChatCompletions);
  EXPECT_EQ(ApiOf(set, "completions"), Api::kCompletions);
  for (std::string_view other :
       {"", "/", "?/v1/completions", "/v1/completions/", "/generate", "/detokenize",
        "/v1/messages/count_tokens/x", "/v1/chat/completions%3F"}) {
    EXPECT_EQ(ApiOf(set, other), Api::kOther) << other;
    EXPECT_EQ(set.Find(other)->parser, ParserKind::kPassthrough) << other;
  }
}

TEST(ParserSet, OfEqualSuffixesTheFirstConfiguredWins) {
  EXPECT_EQ(ParserSet::Default().Find("/v1/completions")->parser, ParserKind::kOpenAi);
  const ParserSet set = Set({ParserKind::kVllmHttp, ParserKind::kOpenAi});
  EXPECT_EQ(set.Find("/v1/completions")->parser, ParserKind::kVllmHttp);
  EXPECT_EQ(set.Find("/inference/v1/generate")->parser, ParserKind::kVllmHttp);
}

TEST(ParserSet, ClaimsNothingBeyondItsParsersAndNothingBehindPassthrough) {
  const ParserSet none = Set({});
  EXPECT_FALSE(none.Find("/v1/completions"));
  const ParserSet anthropic = Set({ParserKind::kAnthropic});
  EXPECT_TRUE(anthropic.Find("/v1/messages"));
  EXPECT_FALSE(anthropic.Find("/v1/completions"));
  EXPECT_FALSE(anthropic.FindWhole("/v1/completions"));
  const ParserSet behind = Set({ParserKind::kPassthrough, ParserKind::kOpenAi});
  EXPECT_EQ(behind.Find("/v1/completions")->parser, ParserKind::kPassthrough);
  EXPECT_EQ(behind.Find("/v1/completions")->api, Api::kOther);
}

TEST(ParserSet, SglangTakesItsOnePathOnly) {
  const ParserSet set = Set({ParserKind::kSglangHttp});
  EXPECT_EQ(ApiOf(set, "/generate?x"), Api::kSglangGenerate);
  EXPECT_FALSE(set.Find("/x/generate"));
  EXPECT_FALSE(set.Find("/inference/v1/generate"));
  const ParserSet both = Set({ParserKind::kSglangHttp, ParserKind::kVllmHttp});
  EXPECT_EQ(ApiOf(both, "/inference/v1/generate"), Api::kVllmGenerate);
}

TEST(ParserSet, TellsWhoseAnswersAreSkipped) {
  EXPECT_FALSE(ParserSet::Default().Find("/v1/messages/count_tokens")->reads_answer);
  EXPECT_TRUE(ParserSet::Default().Find("/v1/messages")->reads_answer);
  EXPECT_TRUE(ParserSet::Default().Find("/x")->reads_answer);
}

TEST(ParserSet, ShortEndingsAreWholeOnes) {
  const ParserSet& set = ParserSet::Default();
  EXPECT_EQ(ApiOf(set, "/score"), Api::kScore);
  EXPECT_EQ(ApiOf(set, "/v1/rerank"), Api::kRerank);
  for (const std::string_view none :
       {"", "/", "score", "/scor", "/xscore", "e", "messages.", "ssages"}) {
    EXPECT_EQ(ApiOf(set, none), Api::kOther) << none;
  }
  EXPECT_EQ(set.Find(std::string_view())->api, Api::kOther);
}

// What the gateway serves is read by the picker alike.
TEST(ParserSet, WholePathsAreReadAsTheirSuffixIs) {
  const ParserSet& set = ParserSet::Default();
  for (std::string_view path :
       {"/v1/chat/completions", "/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
        "/v1/messages/count_tokens", "/v1/conversations", "/v1/images/generations",
        "/v1/chat/completions/render", "/v1/completions/render", "/tokenize", "/v1/rerank",
        "/v2/rerank", "/score", "/inference/v1/generate", "/generate", "/health", "/v1/models"}) {
    EXPECT_EQ(set.FindWhole(path)->api, set.Find(path)->api) << path;
  }
}

TEST(Parsers, HaveTheTypesAndProtocolsOfLlmD) {
  for (const ParserKind kind :
       {ParserKind::kOpenAi, ParserKind::kAnthropic, ParserKind::kVllmHttp, ParserKind::kSglangHttp,
        ParserKind::kVllmGrpc, ParserKind::kVertexAi, ParserKind::kPassthrough}) {
    EXPECT_EQ(ParserOfType(ParserType(kind)), kind);
    EXPECT_EQ(AppProtocols(kind).empty(), kind == ParserKind::kPassthrough);
  }
  EXPECT_EQ(ParserType(ParserKind::kVllmHttp), "vllmhttp-parser");
  EXPECT_FALSE(ParserOfType("openai"));
}

}  // namespace
}  // namespace penstock::api
