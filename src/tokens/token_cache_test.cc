#include "tokens/token_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "tokens/testing.h"

namespace penstock::tokens {
namespace {

std::unique_ptr<Tokenizer> ChatTokenizer() {
  boost::json::object file =
      testing::ByteLevelJson(testing::SomeMerges(), testing::ByteLevel(true));
  file["added_tokens"] = boost::json::array{testing::AddedTokenJson("<|x|>")};
  return *Tokenizer::FromJson(boost::json::serialize(file));
}

std::vector<uint32_t> Whole(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<uint32_t> tokens;
  EXPECT_TRUE(tokenizer.Encode(text, SpecialTokens::kAdd, &tokens).has_value());
  return tokens;
}

TEST(TokenCache, AGrowingTextHasTheTokensOfTheWhole) {
  const auto tokenizer = ChatTokenizer();
  Random random(5);
  for (const size_t budget : {size_t{1} << 24, size_t{1} << 17}) {
    TokenCache cache(*tokenizer, budget, 1);
    for (int chat = 0; chat < 10; ++chat) {
      std::string text;
      for (int turn = 0; turn < 15; ++turn) {
        text += testing::RandomText(random, random.Below(2000));
        std::vector<uint32_t> tokens;
        ASSERT_TRUE(cache.Encode(text, SpecialTokens::kAdd, &tokens).has_value());
        ASSERT_EQ(tokens, Whole(*tokenizer, text));
        // A template may take back the end of a prompt; a cut may go through a character.
        if (turn % 3 == 2)
          text.resize(text.size() - std::min<size_t>(text.size(), random.Below(3000)));
      }
    }
    const TokenCache::Stats stats = cache.stats();
    EXPECT_EQ(stats.texts, 150U);
    EXPECT_LE(stats.bytes, budget);
    EXPECT_GT(stats.reused_bytes, 0U);
    EXPECT_EQ(stats.evicted > 0, budget < (1 << 20));
  }
}

TEST(TokenCache, OnlyTheTailOfAKnownTextIsTokenised) {
  const auto tokenizer = ChatTokenizer();
  TokenCache cache(*tokenizer, 1 << 20, 1);
  std::string text;
  while (text.size() < 100'000) text += "hello the world ";
  std::vector<uint32_t> tokens;
  ASSERT_TRUE(cache.Encode(text, SpecialTokens::kAdd, &tokens).has_value());
  EXPECT_EQ(cache.stats().reused_bytes, 0U);
  ASSERT_TRUE(cache.Encode(text + "hello", SpecialTokens::kAdd, &tokens).has_value());
  EXPECT_GT(cache.stats().reused_bytes, text.size() - 2 * TokenCache::kBlockBytes);
}

TEST(TokenCache, AnotherBeginningSharesNothing) {
  const auto tokenizer = ChatTokenizer();
  TokenCache cache(*tokenizer, 1 << 20, 1);
  std::string text;
  while (text.size() < 10'000) text += "hello the world ";
  std::vector<uint32_t> tokens;
  ASSERT_TRUE(cache.Encode("a" + text, SpecialTokens::kAdd, &tokens).has_value());
  ASSERT_TRUE(cache.Encode("b" + text, SpecialTokens::kAdd, &tokens).has_value());
  EXPECT_EQ(cache.stats().reused_bytes, 0U);
}

TEST(TokenCache, TheFirstBlocksOutliveThoseBehindThem) {
  const auto tokenizer = ChatTokenizer();
  TokenCache cache(*tokenizer, 1'600'000, 1);
  std::string shared;
  while (shared.size() < 20'000) shared += "hello the world ";
  std::vector<uint32_t> tokens;
  Random random(9);
  ASSERT_TRUE(cache.Encode(shared, SpecialTokens::kAdd, &tokens).has_value());
  for (int i = 0; i < 60; ++i) {
    const uint64_t before = cache.stats().reused_bytes;
    const std::string text = shared + testing::RandomText(random, 10'000);
    ASSERT_TRUE(cache.Encode(text, SpecialTokens::kAdd, &tokens).has_value());
    EXPECT_GE(cache.stats().reused_bytes - before, shared.size() - 2 * TokenCache::kBlockBytes);
  }
  EXPECT_GT(cache.stats().evicted, 0U);
}

TEST(TokenCache, ThreadsShareIt) {
  const auto tokenizer = ChatTokenizer();
  TokenCache cache(*tokenizer, 200'000, 1);
  std::vector<std::string> texts;
  Random random(4);
  for (int i = 0; i < 8; ++i) {
    texts.push_back((i > 0 ? texts.back() : "") + testing::RandomText(random, 1500));
  }
  std::vector<std::vector<uint32_t>> want;
  for (const std::string& text : texts) want.push_back(Whole(*tokenizer, text));
  std::vector<std::jthread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Random own(t);
      for (int i = 0; i < 60; ++i) {
        const size_t which = own.Below(texts.size());
        std::vector<uint32_t> tokens;
        ASSERT_TRUE(cache.Encode(texts[which], SpecialTokens::kAdd, &tokens).has_value());
        ASSERT_EQ(tokens, want[which]);
      }
    });
  }
}

}  // namespace
}  // namespace penstock::tokens
