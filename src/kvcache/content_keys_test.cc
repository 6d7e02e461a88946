#include "kvcache/content_keys.h"

#include <gtest/gtest.h>

#include <set>

namespace penstock::kvcache {
namespace {

std::vector<uint32_t> Tokens(size_t n, uint32_t first = 1) {
  std::vector<uint32_t> tokens(n);
  for (size_t i = 0; i < n; ++i) tokens[i] = first + static_cast<uint32_t>(i);
  return tokens;
}

TEST(ContentKeys, AKeyDependsOnItsBlockAlone) {
  const ContentKeys keys("a secret of the test", 4);
  std::vector<uint64_t> of_both;
  std::vector<uint64_t> of_second;
  keys.Append(Tokens(8), {}, &of_both);
  keys.Append(Tokens(4, 5), {}, &of_second);
  ASSERT_EQ(of_both.size(), 2u);
  EXPECT_EQ(of_both[1], of_second[0]);
  EXPECT_NE(of_both[0], of_both[1]);
}

TEST(ContentKeys, ThePartialBlockHasNoneAndKeysGrowWithThePrompt) {
  const ContentKeys keys("a secret of the test", 4);
  std::vector<uint64_t> whole;
  keys.Append(Tokens(11), {}, &whole);
  EXPECT_EQ(whole.size(), 2u);
  std::vector<uint64_t> grown;
  keys.Append(Tokens(5), {}, &grown);
  keys.Append(Tokens(11), {}, &grown);
  EXPECT_EQ(grown, whole);
  keys.Append(Tokens(3), {}, &grown);
  EXPECT_EQ(grown, whole);
}

TEST(ContentKeys, AnotherSecretGivesOtherKeys) {
  const ContentKeys one("one secret of the test", 4);
  const ContentKeys other("other secret of the test", 4);
  EXPECT_NE(one.Key(Tokens(4), 0), other.Key(Tokens(4), 0));
  EXPECT_NE(one.Namespace("m", ""), other.Namespace("m", ""));
}

TEST(ContentKeys, ExtrasChangeTheKeyOfTheirBlockOnly) {
  const ContentKeys keys("a secret of the test", 4);
  std::vector<uint64_t> plain;
  std::vector<uint64_t> with;
  keys.Append(Tokens(12), {}, &plain);
  keys.Append(Tokens(12), std::vector<uint64_t>{0, 7}, &with);
  EXPECT_EQ(plain[0], with[0]);
  EXPECT_NE(plain[1], with[1]);
  EXPECT_EQ(plain[2], with[2]);
}

TEST(ContentKeys, NamespacesDifferByNameSaltAndWhereOneEnds) {
  const ContentKeys keys("a secret of the test", 4);
  const std::set<uint64_t> numbers{keys.Namespace("ab", "c"),
                                   keys.Namespace("a", "bc"),
                                   keys.Namespace("abc", ""),
                                   keys.Namespace("", "abc"),
                                   ContentKeys::GroupNamespace(keys.Namespace("ab", "c"), 0),
                                   ContentKeys::GroupNamespace(keys.Namespace("ab", "c"), 1)};
  EXPECT_EQ(numbers.size(), 6u);
}

TEST(ContentKeys, FoldedExtrasIgnoreNothingAndRepeats) {
  EXPECT_EQ(ContentKeys::FoldExtras(0, 5), 5u);
  EXPECT_EQ(ContentKeys::FoldExtras(5, 0), 5u);
  EXPECT_EQ(ContentKeys::FoldExtras(5, 5), 5u);
  EXPECT_NE(ContentKeys::FoldExtras(5, 6), ContentKeys::FoldExtras(6, 5));
}

}  // namespace
}  // namespace penstock::kvcache
