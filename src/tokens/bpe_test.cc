#include "tokens/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/random.h"
#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

// A vocabulary over a few letters with merges drawn at random, and the slow way to apply them.
struct Drawn {
  std::vector<std::string> texts;  // by id
  std::vector<std::pair<std::string, std::string>> merges;

  explicit Drawn(Random& random) {
    for (const char c : std::string("abcd")) texts.emplace_back(1, c);
    const size_t count = 3 + random.Below(40);
    for (size_t i = 0; i < count; ++i) {
      const std::string left = texts[random.Below(texts.size())];
      const std::string right = texts[random.Below(texts.size())];
      if ((left + right).size() > 12) continue;
      if (std::ranges::find(merges, std::pair(left, right)) != merges.end()) continue;
      merges.emplace_back(left, right);
      if (std::ranges::find(texts, left + right) == texts.end()) texts.push_back(left + right);
    }
  }

  Bpe::Model Model(Bpe::Alphabet alphabet) const {
    Bpe::Model model;
    model.alphabet = alphabet;
    for (size_t id = 0; id < texts.size(); ++id) {
      model.vocabulary.emplace_back(texts[id], static_cast<uint32_t>(id));
    }
    for (const auto& [left, right] : merges) model.merges.emplace_back(left, right);
    return model;
  }

  std::vector<uint32_t> Slow(std::string_view piece) const {
    std::vector<std::string> symbols;
    for (const char c : piece) symbols.emplace_back(1, c);
    for (;;) {
      size_t best = merges.size();
      size_t place = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto found = std::ranges::find(merges, std::pair(symbols[i], symbols[i + 1]));
        const auto rank = static_cast<size_t>(found - merges.begin());
        if (rank < best) best = rank, place = i;
      }
      if (best == merges.size()) break;
      symbols[place] += symbols[place + 1];
      symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(place) + 1);
    }
    std::vector<uint32_t> ids;
    for (const std::string& symbol : symbols) {
      ids.push_back(static_cast<uint32_t>(std::ranges::find(texts, symbol) - texts.begin()));
    }
    return ids;
  }
};

TEST(Bpe, MergesTheLowestRankFirstThenTheLeftmost) {
  Random random(11);
  for (int round = 0; round < 200; ++round) {
    const Drawn drawn(random);
    const auto alphabet = round % 2 == 0 ? Bpe::Alphabet::kBytes : Bpe::Alphabet::kChars;
    const auto bpe = Bpe::Make(drawn.Model(alphabet));
    ASSERT_TRUE(bpe.has_value()) << bpe.error().message;
    for (int i = 0; i < 40; ++i) {
      std::string piece;
      const size_t size = 1 + random.Below(i % 4 == 0 ? 300 : 20);
      for (size_t k = 0; k < size; ++k) piece += static_cast<char>('a' + random.Below(4));
      std::vector<uint32_t> tokens;
      bpe->Encode(piece, &tokens);
      ASSERT_EQ(tokens, drawn.Slow(piece)) << piece;
      tokens.clear();
      bpe->Encode(piece, &tokens);  // from the thread's table, where it is short
      ASSERT_EQ(tokens, drawn.Slow(piece)) << piece;
    }
  }
}

TEST(Bpe, CutsWhereNothingJoinsChangeNothing) {
  Random random(12);
  for (int round = 0; round < 200; ++round) {
    const Drawn drawn(random);
    const auto bpe = Bpe::Make(drawn.Model(Bpe::Alphabet::kChars));
    ASSERT_TRUE(bpe.has_value());
    std::string piece;
    for (int k = 0; k < 60; ++k) piece += static_cast<char>('a' + random.Below(4));
    std::vector<uint32_t> whole, parts;
    bpe->Encode(piece, &whole);
    size_t begin = 0;
    for (size_t at = 1; at < piece.size(); ++at) {
      if (!bpe->NeverJoins(static_cast<uint32_t>(piece[at - 1]), static_cast<uint32_t>(piece[at])))
        continue;
      bpe->Encode(std::string_view(piece).substr(begin, at - begin), &parts);
      begin = at;
    }
    bpe->Encode(std::string_view(piece).substr(begin), &parts);
    ASSERT_EQ(whole, parts) << piece;
  }
}

TEST(Bpe, ALongRunOfOneLetterIsLinkedAndMerged) {
  Bpe::Model model;
  model.vocabulary = {{"a", 0}, {"aa", 1}, {"aaaa", 2}};
  model.merges = {{"a", "a"}, {"aa", "aa"}};
  const auto bpe = Bpe::Make(model);
  ASSERT_TRUE(bpe.has_value());
  std::vector<uint32_t> tokens;
  bpe->Encode(std::string((1 << 20) + 3, 'a'), &tokens);
  ASSERT_EQ(tokens.size(), (1U << 18) + 2);
  EXPECT_EQ(tokens[0], 2U);
  EXPECT_EQ(tokens.back(), 0U);
}

TEST(Bpe, WhatIsUnknownIsFusedOrNotOrLeftOut) {
  Bpe::Model model;
  model.alphabet = Bpe::Alphabet::kChars;
  model.vocabulary = {{"<unk>", 0}, {"a", 1}};
  const auto encode = [&] {
    const auto bpe = Bpe::Make(model);
    std::vector<uint32_t> tokens;
    bpe->Encode("axya\u00e9", &tokens);
    return tokens;
  };
  EXPECT_EQ(encode(), (std::vector<uint32_t>{1, 1}));
  model.unknown = "<unk>";
  EXPECT_EQ(encode(), (std::vector<uint32_t>{1, 0, 0, 1, 0}));
  model.fuse_unknown = true;
  EXPECT_EQ(encode(), (std::vector<uint32_t>{1, 0, 1, 0}));
}

TEST(Bpe, ErrorsNameTheTokenOrMerge) {
  Bpe::Model model;
  model.vocabulary = {{"a", 0}, {"b", 1}};
  model.merges = {{"a", "b"}};
  EXPECT_EQ(Bpe::Make(model).error().message, "merge 0: 'ab' is not in the vocabulary");
  model.merges.clear();
  model.vocabulary.emplace_back("c", Bpe::kMaxId + 1);
  EXPECT_EQ(Bpe::Make(model).error().message, "token 'c': id 16777216 is above 16777215");
  model.vocabulary.back() = {"c", 1};
  EXPECT_EQ(Bpe::Make(model).error().message, "tokens 'b' and 'c' have the same id 1");
}

TEST(Unicode, IllFormedPartsBecomeOneReplacementEach) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"ok", "ok"},
      {"\x80", "\ufffd"},
      {"a\xc0\xaf!", "a\ufffd\ufffd!"},
      {"\xe2\x82x", "\ufffdx"},
      {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
      {"\xf0\x9f\x91", "\ufffd"},
      {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
      {"\xe2\x82\xac\xe2", "\u20ac\ufffd"},
  };
  for (const auto& [text, want] : cases) {
    std::string out;
    AppendLossyUtf8(text, &out);
    EXPECT_EQ(out, want);
  }
}

}  // namespace
}  // namespace penstock::tokens
