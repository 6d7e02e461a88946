#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using testing::TestPool;

uint64_t Tokens(const std::vector<model::PromptPart>& parts, uint64_t extra = 0) {
  sched::RequestContext context;
  context.request.prompt = parts;
  context.request.extra_tokens = extra;
  Made<sched::Producer>("token-producer")->Prepare(context, Time());
  return context.input_tokens;
}

TEST(TokenProducer, FourBytesAreOneToken) {
  EXPECT_EQ(Tokens({}), 0u);
  EXPECT_EQ(Tokens({{"", true}}), 0u);
  EXPECT_EQ(Tokens({{"a", true}}), 1u);
  EXPECT_EQ(Tokens({{"abcd", true}}), 1u);
  EXPECT_EQ(Tokens({{"abcde", true}}), 2u);
}

TEST(TokenProducer, PartsOfAPromptAreCountedTogetherAndPromptsApart) {
  EXPECT_EQ(Tokens({{"ab", true}, {"cd", false}}), 1u);
  EXPECT_EQ(Tokens({{"ab", true}, {"cd", true}}), 2u);
}

TEST(TokenProducer, AddsTheEstimateForImages) { EXPECT_EQ(Tokens({{"abcd", true}}, 576), 577u); }

TEST(TokenProducer, SaysWhichBackEndsAreMissing) {
  EXPECT_THAT(ErrorsOf("token-producer", "{modelName: m, vllm: {url: 'http://localhost:8000'}}"),
              ElementsAre(HasSubstr("render back end is not available yet")));
  EXPECT_THAT(ErrorsOf("tokenizer", "{udsTokenizerConfig: {socketFile: /tmp/s}}"),
              ElementsAre(HasSubstr("Unix socket")));
  EXPECT_THAT(Made<sched::Producer>("tokenizer", "{modelName: m}")->type(), "token-producer");
}

}  // namespace
}  // namespace penstock::plugins
