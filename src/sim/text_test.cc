#include "sim/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>

namespace penstock::sim {
namespace {

std::vector<uint32_t> Tokens(std::string_view text) {
  std::vector<uint32_t> tokens;
  Tokenize(text, &tokens);
  return tokens;
}

TEST(Tokenize, CountsPieces) {
  struct Case {
    std::string_view text;
    size_t tokens;
  };
  const Case cases[] = {
      {"", 0},
      {"a", 1},
      {"hello", 1},
      {"hello!", 2},
      {"hello world", 2},
      {" hello", 1},
      {"hello  world", 3},  // one space by itself
      {"a\n\nb", 3},
      {"end ", 2},
      {"a\n b", 3},
      {"internationalization", 4},
      {"\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xbd\xa0\xe5\xa5\xbd", 2},  // four characters of three bytes
  };
  for (const Case& c : cases) EXPECT_EQ(Tokens(c.text).size(), c.tokens) << c.text;
  EXPECT_EQ(Tokens(std::string(80, ' ')).size(), 10u);
}

TEST(Tokenize, EnglishTakesAboutFourBytesAToken) {
  const std::string_view text =
      "The quick brown fox jumps over the lazy dog, while the engineers measure how many requests "
      "the scheduler can place each second without breaking its latency promises.";
  const double bytes = static_cast<double>(text.size()) / static_cast<double>(Tokens(text).size());
  EXPECT_GT(bytes, 3.5);
  EXPECT_LT(bytes, 5.0);
}

TEST(Tokenize, DependsOnTheBytesOnly) {
  EXPECT_EQ(Tokens("one two"), Tokens("one two"));
  EXPECT_NE(Tokens("one two"), Tokens("one too"));
  EXPECT_NE(Tokens(" a")[0], Tokens("a")[0]);
  for (const uint32_t id : Tokens("every id is below the special ones")) {
    EXPECT_LT(id, kVocabulary);
  }
}

TEST(Tokenize, WhatFollowsAWordChangesNothingBeforeIt) {
  EXPECT_TRUE(rc::check("prefix", [](const std::string& before, const std::string& after) {
    const std::string head = before + "x";
    const std::vector<uint32_t> a = Tokens(head);
    const std::vector<uint32_t> b = Tokens(head + " " + after);
    RC_ASSERT(a.size() <= b.size());
    RC_ASSERT(std::equal(a.begin(), a.end(), b.begin()));
  }));
}

TEST(Write, TokenisesToWhatItWasMadeOf) {
  for (const FirstWord first : {FirstWord::kBare, FirstWord::kSpaced}) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const Writing writing = Write(seed, 100, first);
      ASSERT_EQ(writing.tokens.size(), 100u);
      ASSERT_EQ(writing.ends.size(), 100u);
      EXPECT_EQ(writing.ends.back(), writing.text.size());
      EXPECT_EQ(Tokens(writing.text), writing.tokens) << writing.text;
    }
  }
}

TEST(Write, IsAPureFunctionOfTheSeedAndShortOnesBeginLongOnes) {
  EXPECT_EQ(Write(5, 30, FirstWord::kBare).text, Write(5, 30, FirstWord::kBare).text);
  EXPECT_NE(Write(5, 30, FirstWord::kBare).text, Write(6, 30, FirstWord::kBare).text);
  EXPECT_TRUE(Write(5, 30, FirstWord::kBare).text.starts_with(Write(5, 10, FirstWord::kBare).text));
}

TEST(Write, NeedsNoEscaping) {
  for (const char c : Write(1, 3000, FirstWord::kSpaced).text) {
    EXPECT_TRUE(c == ' ' || (c >= 'a' && c <= 'z')) << c;
  }
}

TEST(NaturalLength, StaysAroundItsMedian) {
  std::vector<uint32_t> lengths;
  for (uint64_t seed = 0; seed < 4001; ++seed) lengths.push_back(NaturalLength(seed, 192));
  std::sort(lengths.begin(), lengths.end());
  EXPECT_NEAR(lengths[2000], 192, 12);
  EXPECT_GE(lengths.front(), 24u);
  EXPECT_LE(lengths.back(), 1536u);
  EXPECT_GT(lengths[3600], 300u);
  EXPECT_GE(NaturalLength(3, 1), 1u);
}

}  // namespace
}  // namespace penstock::sim
