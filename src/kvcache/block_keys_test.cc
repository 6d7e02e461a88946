#include "kvcache/block_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace penstock::kvcache {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct Keyed {
  std::vector<uint64_t> keys;
  std::vector<uint32_t> ends;
  bool operator==(const Keyed&) const = default;
};

Keyed KeysOf(const std::vector<model::PromptPart>& parts, uint64_t seed = 1,
             size_t block_bytes = 16, size_t max_blocks = SIZE_MAX) {
  Keyed keyed;
  AppendBlockKeys(parts, seed, block_bytes, max_blocks, &keyed.keys, &keyed.ends);
  return keyed;
}
Keyed KeysOf(std::string_view text) { return KeysOf({{text, true}}); }

TEST(BlockKeys, CountTheShortLastBlock) {
  EXPECT_THAT(KeysOf("").keys, IsEmpty());
  EXPECT_THAT(KeysOf("").ends, IsEmpty());
  EXPECT_THAT(KeysOf("a").keys, SizeIs(1));
  EXPECT_THAT(KeysOf(std::string(16, 'a')).keys, SizeIs(1));
  EXPECT_THAT(KeysOf(std::string(17, 'a')).keys, SizeIs(2));
}

TEST(BlockKeys, AreEqualUpToTheFirstDifference) {
  const std::string shared(48, 's');
  const auto a = KeysOf(shared + "this goes on like this").keys;
  const auto b = KeysOf(shared + "that goes on like this").keys;
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i] == b[i], i < 3) << i;
}

TEST(BlockKeys, DifferByModelSaltAndBlockSize) {
  const uint64_t seed = KeySeed("llama", "salt", 256);
  EXPECT_EQ(seed, KeySeed("llama", "salt", 256));
  EXPECT_NE(seed, KeySeed("llama", "", 256));
  EXPECT_NE(seed, KeySeed("llamasalt", "", 256));
  EXPECT_NE(seed, KeySeed("llama-lora", "salt", 256));
  EXPECT_NE(seed, KeySeed("llama", "salt", 512));
  const std::vector<model::PromptPart> prompt{{"hello", true}};
  EXPECT_NE(KeysOf(prompt, seed).keys, KeysOf(prompt, seed + 1).keys);
}

TEST(BlockKeys, EveryPromptOfARequestIsASequenceOfItsOwn) {
  const std::string text(40, 'x');
  const Keyed two = KeysOf({{text, true}, {text, true}});
  EXPECT_THAT(two.ends, ElementsAre(3, 6));
  const Keyed one = KeysOf(text);
  EXPECT_TRUE(std::equal(one.keys.begin(), one.keys.end(), two.keys.begin()));
  EXPECT_TRUE(std::equal(one.keys.begin(), one.keys.end(), two.keys.begin() + 3));
}

TEST(BlockKeys, StopAtTheLimitOfEachPrompt) {
  const std::string text(100, 'x');
  const Keyed keyed = KeysOf({{text, true}, {"y", true}, {text, false}}, 1, 16, 2);
  EXPECT_THAT(keyed.ends, ElementsAre(2, 4));
}

TEST(BlockKeys, DoNotDependOnHowThePromptIsCutIntoParts) {
  const bool ok = rc::check([](const std::string& text, const std::vector<uint8_t>& cuts) {
    RC_PRE(!text.empty());
    std::vector<model::PromptPart> parts;
    std::string_view rest = text;
    for (const uint8_t cut : cuts) {
      parts.push_back({rest.substr(0, cut % 40), parts.empty()});
      rest.remove_prefix(parts.back().bytes.size());
    }
    parts.push_back({rest, parts.empty()});
    RC_ASSERT(KeysOf(parts) == KeysOf(text));
  });
  EXPECT_TRUE(ok);
}

TEST(BlockKeys, GoOnBehindThoseThatAreKnown) {
  const bool ok =
      rc::check([](const std::string& text, const std::string& other, uint8_t cut, uint8_t share) {
        const std::string_view whole = text;
        const std::vector<model::PromptPart> parts = {
            {whole.substr(0, cut), true},
            {whole.substr(std::min<size_t>(cut, text.size())), false},
            {other, true}};
        const Keyed all = KeysOf(parts, 1, 4, 30);
        const size_t full = std::min<size_t>(text.size() / 4, 30);
        Keyed known;
        known.keys.assign(all.keys.begin(),
                          all.keys.begin() + static_cast<ptrdiff_t>(full * share / 255));
        AppendBlockKeys(parts, 1, 4, 30, &known.keys, &known.ends);
        RC_ASSERT(known == all);
      });
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace penstock::kvcache
