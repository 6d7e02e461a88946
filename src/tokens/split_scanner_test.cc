// The scanners against their expressions, run by PCRE2.
#include "tokens/split_scanner.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tokens/pattern.h"
#include "tokens/testing.h"

namespace penstock::tokens {
namespace {

struct Case {
  const char* name;
  const char* expression;
};

constexpr Case kCases[] = {
    {"gpt2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {"cl100k",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {"o200k",
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {"deepseek",
     "[!\"#$%&'()*+,\\-./"
     ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
     "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
};

std::vector<std::string> ByExpression(const Pattern& pattern, std::string_view text) {
  std::vector<Span> matches;
  EXPECT_TRUE(pattern.FindAll(text, &matches).has_value());
  std::vector<std::string> pieces;
  size_t at = 0;
  for (const Span& match : matches) {
    if (at < match.begin) pieces.emplace_back(text.substr(at, match.begin - at));
    pieces.emplace_back(text.substr(match.begin, match.end - match.begin));
    at = match.end;
  }
  if (at < text.size()) pieces.emplace_back(text.substr(at));
  return pieces;
}

class SplitScanner : public ::testing::TestWithParam<Case> {};

TEST_P(SplitScanner, FindsWhatItsExpressionFinds) {
  const auto scanner = ScannerOf(GetParam().expression);
  ASSERT_TRUE(scanner.has_value());
  const auto pattern = Pattern::Make(GetParam().expression);
  ASSERT_TRUE(pattern.has_value()) << pattern.error().message;
  Random random(7);
  for (int i = 0; i < 4000; ++i) {
    const std::string text = tokens::testing::RandomText(random, random.Below(24));
    std::vector<std::string> pieces;
    ScanPieces(*scanner, text, [&](std::string_view piece) { pieces.emplace_back(piece); });
    ASSERT_EQ(pieces, ByExpression(*pattern, text)) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SplitScanner, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(Pattern, RefusesWhatPcreReadsInAnotherWay) {
  for (const char* expression :
       {"", "\\h+", "[a[bc]]", "[a&&b]", "a{2}+", "[]a]", "(", "\\Ra", "\\G", "[[:alpha"}) {
    EXPECT_FALSE(Pattern::Make(expression).has_value()) << expression;
  }
}

TEST(Pattern, WhiteSpaceIsUnicodeS) {
  const auto pattern = Pattern::Make("\\s+|[^\\s]+");
  ASSERT_TRUE(pattern.has_value());
  EXPECT_EQ(ByExpression(*pattern, "a\u180e b\u3000\u00a0"),
            (std::vector<std::string>{"a\u180e", " ", "b", "\u3000\u00a0"}));
}

TEST(Pattern, EmptyMatchesAreSkipped) {
  const auto pattern = Pattern::Make("x*");
  ASSERT_TRUE(pattern.has_value());
  EXPECT_EQ(ByExpression(*pattern, "\u00e9xx\u00e9"),
            (std::vector<std::string>{"\u00e9", "xx", "\u00e9"}));
}

TEST(Pattern, ARunawayExpressionIsAnError) {
  const auto pattern = Pattern::Make("(a+a+)+b");
  ASSERT_TRUE(pattern.has_value());
  std::vector<Span> matches;
  const auto found = pattern->FindAll(std::string(200, 'a') + "xb", &matches);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, Code::kResourceExhausted);
}

}  // namespace
}  // namespace penstock::tokens
