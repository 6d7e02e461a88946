// Small tokenizers and texts for the tests of this module and for tests/fuzz.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/random.h"
#include "tokens/byte_alphabet.h"

namespace penstock::tokens::testing {

using Merges = std::vector<std::pair<std::string, std::string>>;

// Merges that have ties, overlaps and one result in two ways.
inline Merges SomeMerges() {
  return {{"t", "h"},   {"th", "e"},   {" ", "the"}, {"h", "e"}, {"l", "l"},
          {"he", "ll"}, {"hell", "o"}, {" ", "w"},   {"o", "r"}, {" w", "or"},
          {"a", "a"},   {"aa", "a"},   {"aa", "aa"}, {"a", "b"}, {"b", "a"},
          {"ab", "ab"}, {"\n", "\n"},  {" ", " "},   {"e", "r"}};
}

// A byte-level tokenizer.json with all bytes and `merges`, written in plain bytes.
inline boost::json::object ByteLevelJson(const Merges& merges, boost::json::value pre_tokenizer) {
  boost::json::object vocabulary;
  const auto spelled = [](std::string_view bytes) {
    std::string out;
    AppendSpellingOf(bytes, &out);
    return out;
  };
  const auto add = [&](std::string_view token) {
    if (!vocabulary.contains(token)) vocabulary.emplace(token, vocabulary.size());
  };
  for (int byte = 0; byte < 256; ++byte) add(spelled(std::string(1, static_cast<char>(byte))));
  boost::json::array pairs;
  for (const auto& [left, right] : merges) {
    add(spelled(left + right));
    pairs.push_back(boost::json::array{spelled(left), spelled(right)});
  }
  return {
      {"added_tokens", boost::json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", std::move(pre_tokenizer)},
      {"post_processor", nullptr},
      {"model", {{"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", std::move(pairs)}}}};
}

inline boost::json::object ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}

// A tokenizer.json over characters as Llama 2's: U+2581 for spaces, bytes for what is not in it.
inline boost::json::object MetaspaceJson() {
  boost::json::object vocabulary;
  const auto add = [&](std::string_view token) {
    if (!vocabulary.contains(token)) vocabulary.emplace(token, vocabulary.size());
  };
  add("<unk>");
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    add(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
  }
  boost::json::array merges;
  for (std::string_view letter : {"\u2581", "h", "e", "l", "o", "w", "r", "d", "a", "b"})
    add(letter);
  for (std::pair<std::string, std::string> pair : {std::pair<std::string, std::string>{"h", "e"},
                                                   {"l", "l"},
                                                   {"\u2581", "he"},
                                                   {"\u2581he", "ll"},
                                                   {"\u2581hell", "o"},
                                                   {"\u2581", "w"},
                                                   {"o", "r"},
                                                   {"\u2581", "\u2581"}}) {
    add(pair.first + pair.second);
    merges.push_back(boost::json::string(pair.first + " " + pair.second));
  }
  return {{"added_tokens", boost::json::array()},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", "\u2581"}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}}},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true},
            {"vocab", std::move(vocabulary)},
            {"merges", std::move(merges)}}}};
}

inline boost::json::object AddedTokenJson(std::string_view text) {
  return {{"id", 0},         {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// A text of pieces that matter to splits: words, white space, marks, contractions, other scripts.
inline std::string RandomText(Random& random, size_t pieces) {
  static constexpr std::string_view kPieces[] = {
      "a",      "b",      "hello",  " the",   "The",    "ABC",        "d",       " ",      "  ",
      "\n",     "\r\n",   "\t",     "'",      "'s",     "'LL",        "'\u017f", "1",      "234",
      ".",      "!?",     "/",      "-",      "\u00e9", "e",          "\u0301",  "\u6f22", "\u30ab",
      "\u3000", "\u00a0", "\u01c5", "\u02b0", "\u00bd", "\U0001f44d", "\u200d",  "\u2581", "<|x|>",
      "<|x",    "|>",     " w",     "\u0660", "\u180e", "\ufeff",     "\u0901",  "_",      "$"};
  std::string out;
  for (size_t i = 0; i < pieces; ++i) out += kPieces[random.Below(std::size(kPieces))];
  return out;
}

}  // namespace penstock::tokens::testing
