#include "tokens/tokenizer.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tokens/testing.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;
using testing::AddedTokenJson;
using testing::ByteLevel;
using testing::ByteLevelJson;
using testing::MetaspaceJson;
using testing::SomeMerges;

std::unique_ptr<Tokenizer> Make(const json::object& file) {
  auto tokenizer = Tokenizer::FromJson(json::serialize(file));
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return tokenizer ? *std::move(tokenizer) : nullptr;
}

// The tokens' texts between bars.
std::string Encoded(const Tokenizer& tokenizer, std::string_view text,
                    SpecialTokens special = SpecialTokens::kAdd) {
  std::vector<uint32_t> ids;
  EXPECT_TRUE(tokenizer.Encode(text, special, &ids).has_value());
  std::string out;
  for (const uint32_t id : ids) out += (out.empty() ? "" : "|") + tokenizer.TokenBytes(id);
  return out;
}

TEST(Tokenizer, ByteLevelMergesWithinPieces) {
  const auto tokenizer = Make(ByteLevelJson(SomeMerges(), ByteLevel(true)));
  EXPECT_EQ(Encoded(*tokenizer, "hello world"), "hello| wor|l|d");
  EXPECT_EQ(Encoded(*tokenizer, "a  the\n\n\nb"), "a| | the|\n\n|\n|b");
  EXPECT_EQ(Encoded(*tokenizer, ""), "");
  EXPECT_EQ(tokenizer->vocabulary_size(), 256 + SomeMerges().size());
}

TEST(Tokenizer, PrefixSpaceIsPutBeforeTheFirstPiece) {
  json::object pre = ByteLevel(true);
  pre["add_prefix_space"] = true;
  const auto tokenizer = Make(ByteLevelJson(SomeMerges(), pre));
  EXPECT_EQ(Encoded(*tokenizer, "the world"), " the| wor|l|d");
  EXPECT_EQ(Encoded(*tokenizer, " the"), " the");
}

TEST(Tokenizer, IgnoreMergesTakesAWholePiece) {
  json::object file = ByteLevelJson({{"a", "b"}}, ByteLevel(true));
  json::object& model = file["model"].as_object();
  model["vocab"].as_object()["abc"] = 257;
  EXPECT_EQ(Encoded(*Make(file), "abc abc"), "ab|c| |ab|c");
  model["ignore_merges"] = true;
  EXPECT_EQ(Encoded(*Make(file), "abc abc"), "abc| |ab|c");
}

TEST(Tokenizer, MetaspaceWithByteFallback) {
  const auto tokenizer = Make(MetaspaceJson());
  EXPECT_EQ(Encoded(*tokenizer, "hello world"), " hello| w|or|l|d");
  EXPECT_EQ(Encoded(*tokenizer, "  a\xc3\xa9"), "  | |a|\xc3|\xa9");
}

TEST(Tokenizer, MetaspacePreTokenizerInBothSchemas) {
  json::object file = MetaspaceJson();
  file["normalizer"] = nullptr;
  file["added_tokens"] = json::array{AddedTokenJson("<x>")};
  const std::pair<json::object, std::string> cases[] = {
      {{{"type", "Metaspace"}, {"replacement", "\u2581"}, {"add_prefix_space", true}},
       " hello|<x>| hello"},
      {{{"type", "Metaspace"},
        {"replacement", "\u2581"},
        {"prepend_scheme", "first"},
        {"split", false}},
       " hello|<x>|he|ll|o"},
      {{{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "never"}},
       "he|ll|o|<x>|he|ll|o"},
  };
  for (const auto& [pre, want] : cases) {
    file["pre_tokenizer"] = pre;
    EXPECT_EQ(Encoded(*Make(file), "hello<x>hello"), want) << json::serialize(pre);
  }
}

TEST(Tokenizer, AddedTokensAreCutOutFirst) {
  json::object file = ByteLevelJson(SomeMerges(), ByteLevel(true));
  json::object stripping = AddedTokenJson("<m>");
  stripping["lstrip"] = stripping["rstrip"] = true;
  json::object word = AddedTokenJson("the");
  word["single_word"] = true;
  file["added_tokens"] =
      json::array{AddedTokenJson("<x>"), AddedTokenJson("<x>y"), stripping, word};
  const auto tokenizer = Make(file);
  EXPECT_EQ(Encoded(*tokenizer, "hello<x>hello<x>y<x"), "hello|<x>|hello|<x>y|<|x");
  EXPECT_EQ(Encoded(*tokenizer, "a  <m> \n b"), "a|<m>|b");
  EXPECT_EQ(Encoded(*tokenizer, "the then other"), "the| the|n| |o|the|r");
  EXPECT_EQ(tokenizer->vocabulary_size(), 256 + SomeMerges().size() + 3);
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundInTheNormalisedText) {
  json::object file = ByteLevelJson(SomeMerges(), ByteLevel(true));
  file["normalizer"] = {{"type", "Lowercase"}};
  json::object token = AddedTokenJson("<Th>");
  token["normalized"] = true;
  file["added_tokens"] = json::array{token, AddedTokenJson("<X>")};
  EXPECT_EQ(Encoded(*Make(file), "<TH><th><X><x>"), "<Th>|<Th>|<X>|<|x|>");
}

TEST(Tokenizer, NormalizersOfEveryKind) {
  const std::pair<json::value, std::pair<std::string, std::string>> cases[] = {
      {{{"type", "NFC"}},
       {"e\u0301 \u212b \u1e9b\u0323 \U00011935\U00011930",
        "\u00e9 \u00c5 \u1e9b\u0323 \U00011935\U00011930"}},
      {{{"type", "NFD"}}, {"\u00e9", "e\u0301"}},
      {{{"type", "NFKC"}}, {"\ufb01 \u00bd \u32ff", "fi 1\u20442 \u32ff"}},
      {{{"type", "NFKD"}}, {"\ufb01\u00e9", "fie\u0301"}},
      {{{"type", "Lowercase"}}, {"A\u0130\u00c9", "ai\u0307\u00e9"}},
      {{{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, {"\u3000 a b \n", "a b"}},
      {{{"type", "Prepend"}, {"prepend", ">"}}, {"a", ">a"}},
      {{{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", "_"}},
       {"a \n b", "a_b"}},
      {{{"type", "Sequence"},
        {"normalizers", {{{"type", "Lowercase"}}, {{"type", "Prepend"}, {"prepend", "X"}}}}},
       {"A", "Xa"}},
  };
  for (const auto& [normalizer, texts] : cases) {
    json::object file = ByteLevelJson({}, ByteLevel(true));
    file["normalizer"] = normalizer;
    const auto tokenizer = Make(file);
    std::vector<uint32_t> ids;
    ASSERT_TRUE(tokenizer->Encode(texts.first, SpecialTokens::kAdd, &ids).has_value());
    EXPECT_EQ(tokenizer->Decode(ids), texts.second) << json::serialize(normalizer);
  }
}

TEST(Tokenizer, SplitsWithEveryBehavior) {
  const auto split = [](json::value pattern, std::string_view behavior, bool invert) {
    json::object file = ByteLevelJson({{"-", "-"}, {"a", "-"}, {"-", "b"}, {"a", "a"}}, nullptr);
    file["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}},
          ByteLevel(false)}}};
    return Encoded(*Make(file), "a--b");
  };
  const json::value dash = {{"String", "-"}};
  EXPECT_EQ(split(dash, "Isolated", false), "a|-|-|b");
  EXPECT_EQ(split(dash, "Removed", false), "a|b");
  EXPECT_EQ(split(dash, "Removed", true), "-|-");
  EXPECT_EQ(split(dash, "Contiguous", false), "a|--|b");
  EXPECT_EQ(split(dash, "MergedWithPrevious", false), "a-|-|b");
  EXPECT_EQ(split(dash, "MergedWithNext", false), "a|-|-b");
  EXPECT_EQ(split({{"Regex", "-+"}}, "Isolated", false), "a|--|b");
}

TEST(Tokenizer, DigitsPunctuationAndWhiteSpaceSplit) {
  const auto split = [](json::object step) {
    json::object file = ByteLevelJson({{"1", "2"}, {"a", "."}, {"a", " "}}, nullptr);
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {step, ByteLevel(false)}}};
    return Encoded(*Make(file), "a.12 a b");
  };
  EXPECT_EQ(split({{"type", "Digits"}, {"individual_digits", true}}), "a.|1|2| |a |b");
  EXPECT_EQ(split({{"type", "Digits"}}), "a.|12| |a |b");
  EXPECT_EQ(split({{"type", "Punctuation"}}), "a|.|12| |a |b");
  EXPECT_EQ(split({{"type", "WhitespaceSplit"}}), "a.|12|a|b");
}

TEST(Tokenizer, TheTemplateStandsAroundTheText) {
  json::object file = ByteLevelJson(SomeMerges(), ByteLevel(true));
  file["added_tokens"] = json::array{AddedTokenJson("<s>"), AddedTokenJson("</s>")};
  const auto count = static_cast<uint32_t>(256 + SomeMerges().size());
  const auto special = [](const char* name, uint32_t id) {
    return json::object{{"id", name}, {"ids", {id}}, {"tokens", {name}}};
  };
  const json::object piece = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const auto token = [](const char* name) {
    return json::object{{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
  };
  const json::object wrap = {
      {"type", "TemplateProcessing"},
      {"single", {token("<s>"), piece, token("</s>")}},
      {"special_tokens", {{"<s>", special("<s>", count)}, {"</s>", special("</s>", count + 1)}}}};
  file["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, wrap}}};
  const auto tokenizer = Make(file);
  EXPECT_EQ(Encoded(*tokenizer, "hello"), "<s>|hello|</s>");
  EXPECT_EQ(Encoded(*tokenizer, "hello", SpecialTokens::kOmit), "hello");
  file["post_processor"] = {
      {"type", "RobertaProcessing"}, {"cls", {"<s>", count}}, {"sep", {"</s>", count + 1}}};
  EXPECT_EQ(Encoded(*Make(file), ""), "<s>|</s>");
}

TEST(Tokenizer, TextThatIsNotUtf8IsReplaced) {
  const auto tokenizer = Make(ByteLevelJson(SomeMerges(), ByteLevel(true)));
  std::vector<uint32_t> broken, replaced;
  ASSERT_TRUE(tokenizer->Encode("a\xff\xe2\x82z", SpecialTokens::kAdd, &broken).has_value());
  ASSERT_TRUE(tokenizer->Encode("a\ufffd\ufffdz", SpecialTokens::kAdd, &replaced).has_value());
  EXPECT_EQ(broken, replaced);
}

TEST(Tokenizer, ATextAboveTheLimitIsRefused) {
  const auto tokenizer = Make(ByteLevelJson(SomeMerges(), ByteLevel(true)));
  std::vector<uint32_t> ids = {7};
  const auto done =
      tokenizer->Encode(std::string(Tokenizer::kMaxTextBytes + 1, ' '), SpecialTokens::kAdd, &ids);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, Code::kOutOfRange);
  EXPECT_EQ(ids, std::vector<uint32_t>{7});
}

TEST(Tokenizer, WhatIsNotSupportedIsNamed) {
  struct Case {
    std::string message;
    std::function<void(json::object&)> change;
  };
  json::value deep = {{"type", "NFC"}};
  for (int i = 0; i < 12; ++i) deep = {{"type", "Sequence"}, {"normalizers", json::array{deep}}};
  const Case cases[] = {
      {"normalizer: the normalizer 'Precompiled' is not supported",
       [](json::object& f) {
         f["normalizer"] = {{"type", "Precompiled"}};
       }},
      {"normalizer.normalizers[1]: the normalizer 'BertNormalizer' is not supported",
       [](json::object& f) {
         f["normalizer"] = {{"type", "Sequence"},
                            {"normalizers", {{{"type", "NFC"}}, {{"type", "BertNormalizer"}}}}};
       }},
      {"nest deeper than 8", [&](json::object& f) { f["normalizer"] = deep; }},
      {"pre_tokenizer: the pre_tokenizer 'BertPreTokenizer' is not supported",
       [](json::object& f) {
         f["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
       }},
      {"a step behind ByteLevel is not supported",
       [](json::object& f) {
         f["pre_tokenizer"] = {{"type", "Sequence"},
                               {"pretokenizers", {ByteLevel(true), ByteLevel(true)}}};
       }},
      {"\\h is not supported",
       [](json::object& f) {
         f["pre_tokenizer"] = {
             {"type", "Split"}, {"pattern", {{"Regex", "\\h"}}}, {"behavior", "Isolated"}};
       }},
      {"the behavior 'Sideways' is not supported",
       [](json::object& f) {
         f["pre_tokenizer"] = {
             {"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Sideways"}};
       }},
      {"the model 'Unigram' is not supported",
       [](json::object& f) { f["model"].as_object()["type"] = "Unigram"; }},
      {"'dropout' is not supported",
       [](json::object& f) { f["model"].as_object()["dropout"] = 0.1; }},
      {"end_of_word_suffix '</w>' is not supported",
       [](json::object& f) { f["model"].as_object()["end_of_word_suffix"] = "</w>"; }},
      {"merge 0: 'x!' is not in the vocabulary",
       [](json::object& f) { f["model"].as_object()["merges"] = json::array({"x !"}); }},
      {"the merge 'x' is not two tokens",
       [](json::object& f) { f["model"].as_object()["merges"] = json::array({"x"}); }},
      {"merge 0 is not two tokens",
       [](json::object& f) { f["model"].as_object()["merges"] = json::array({json::value(1)}); }},
      {"the id of 'x' is not a number",
       [](json::object& f) { f["model"].as_object()["vocab"].as_object()["x"] = -1; }},
      {"model.byte_fallback is not true or false",
       [](json::object& f) { f["model"].as_object()["byte_fallback"] = "yes"; }},
      {"added_tokens[0].content is not a text",
       [](json::object& f) {
         f["added_tokens"] = json::array{json::object{{"content", 5}}};
       }},
      {"the post_processor 'Other' is not supported",
       [](json::object& f) {
         f["post_processor"] = {{"type", "Other"}};
       }},
      {"the token '<s>' is not in special_tokens",
       [](json::object& f) {
         f["post_processor"] = {{"type", "TemplateProcessing"},
                                {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}}};
       }},
      {"'model' is missing", [](json::object& f) { f.erase("model"); }},
  };
  for (const Case& c : cases) {
    json::object file = ByteLevelJson({}, ByteLevel(true));
    c.change(file);
    const auto tokenizer = Tokenizer::FromJson(json::serialize(file));
    ASSERT_FALSE(tokenizer.has_value()) << c.message;
    EXPECT_NE(tokenizer.error().message.find(c.message), std::string::npos)
        << tokenizer.error().message;
  }
}

TEST(Tokenizer, WhatIsNoFileIsAnErrorWithItsPath) {
  for (const char* text : {"", "[]", "{", "\xff", "null", "{\"model\":null}", "{\"model\":[]}"}) {
    EXPECT_FALSE(Tokenizer::FromJson(text).has_value()) << text;
  }
  const auto missing = Tokenizer::Load("/nowhere/tokenizer.json");
  ASSERT_FALSE(missing.has_value());
  EXPECT_TRUE(missing.error().message.starts_with("/nowhere/tokenizer.json"));
}

// Text as one piece after another and at once, over what the cuts have to bear.
TEST(Tokenizer, ATextMayBeCutWhereItSays) {
  json::object llama = MetaspaceJson();
  llama["added_tokens"] = json::array{AddedTokenJson("<|x|>")};
  json::object gpt = ByteLevelJson(SomeMerges(), ByteLevel(true));
  json::object normalized = AddedTokenJson("<|x");
  normalized["normalized"] = true;
  gpt["added_tokens"] = json::array{AddedTokenJson("<|x|>"), normalized};
  json::object nfc = gpt;
  nfc["normalizer"] = {{"type", "NFC"}};
  Random random(3);
  for (const json::object& file : {llama, gpt, nfc}) {
    const auto tokenizer = Make(file);
    size_t cuts_seen = 0;
    for (int i = 0; i < 60; ++i) {
      const std::string text = testing::RandomText(random, 2500);
      std::vector<uint32_t> whole;
      std::vector<Cut> cuts;
      ASSERT_TRUE(tokenizer->EncodeFrom(text, 0, false, &whole, &cuts).has_value());
      for (size_t k = 0; k < cuts.size(); k += 1 + cuts.size() / 16) {
        const Cut& cut = cuts[k];
        // Another end, from where the cut is settled, changes nothing before it.
        std::vector<uint32_t> other;
        const std::string changed = text.substr(0, cut.settled) + testing::RandomText(random, 20);
        ASSERT_TRUE(tokenizer->EncodeFrom(changed, 0, false, &other, nullptr).has_value());
        std::vector<uint32_t> joined(whole.begin(),
                                     whole.begin() + static_cast<ptrdiff_t>(cut.tokens));
        ASSERT_TRUE(tokenizer->EncodeFrom(changed, cut.offset, cut.is_in_text, &joined, nullptr)
                        .has_value());
        ASSERT_EQ(joined, other)
            << changed.substr(0, cut.settled).substr(cut.offset > 40 ? cut.offset - 40 : 0);
        ++cuts_seen;
      }
    }
    EXPECT_GT(cuts_seen, 100U);
  }
}

}  // namespace
}  // namespace penstock::tokens
