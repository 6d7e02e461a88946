#include "sim/text.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/random.h"

namespace penstock::sim {
namespace {

constexpr size_t kWordBytes = 5;
constexpr size_t kSpaceBytes = 8;
constexpr size_t kMediaTokens = 256;

// At most five letters each, so that each is one token.
constexpr std::array<std::string_view, 128> kWords = {
    "the",   "a",     "of",    "and",   "to",    "in",    "is",    "it",    "that",  "for",
    "on",    "with",  "as",    "this",  "by",    "from",  "or",    "one",   "all",   "we",
    "can",   "more",  "when",  "each",  "which", "there", "time",  "way",   "many",  "then",
    "them",  "would", "like",  "these", "water", "long",  "day",   "part",  "first", "made",
    "over",  "new",   "sound", "take",  "only",  "work",  "place", "year",  "back",  "most",
    "very",  "after", "thing", "our",   "just",  "name",  "good",  "think", "say",   "great",
    "where", "help",  "much",  "line",  "right", "too",   "mean",  "old",   "any",   "same",
    "tell",  "boy",   "came",  "want",  "show",  "also",  "form",  "three", "small", "set",
    "put",   "end",   "does",  "well",  "large", "must",  "big",   "even",  "such",  "here",
    "why",   "ask",   "went",  "light", "kind",  "off",   "need",  "house", "point", "try",
    "us",    "again", "world", "near",  "build", "self",  "earth", "head",  "stand", "own",
    "page",  "found", "study", "still", "learn", "plant", "cover", "food",  "sun",   "four",
    "state", "keep",  "eye",   "never", "last",  "let",   "city",  "tree"};

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

uint32_t PieceId(std::string_view piece) {
  return static_cast<uint32_t>(XXH3_64bits(piece.data(), piece.size()) % kVocabulary);
}

// The end of the piece that begins at `at`. REQUIRES: at < text.size().
size_t PieceEnd(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && IsSpace(text[end])) ++end;
  // A word takes the one space before it along.
  const size_t spaces = end - at;
  if (spaces > 1 || (spaces == 1 && (end == text.size() || text[at] != ' '))) {
    const bool leaves_one = end < text.size() && text[end - 1] == ' ' && spaces > 1;
    return std::min(end - (leaves_one ? 1 : 0), at + kSpaceBytes);
  }
  const size_t limit = std::min(text.size(), end + kWordBytes);
  while (end < limit && !IsSpace(text[end])) ++end;
  // Not inside a UTF-8 sequence.
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) ++end;
  return end;
}

}  // namespace

void Tokenize(std::string_view text, std::vector<uint32_t>* tokens) {
  tokens->reserve(tokens->size() + text.size() / 4);
  for (size_t at = 0; at < text.size();) {
    const size_t end = PieceEnd(text, at);
    tokens->push_back(PieceId(text.substr(at, end - at)));
    at = end;
  }
}

void TokenizeMedia(std::string_view content, std::vector<uint32_t>* tokens) {
  Random random(XXH3_64bits(content.data(), content.size()));
  tokens->push_back(kImage);
  for (size_t i = 1; i < kMediaTokens; ++i) {
    tokens->push_back(static_cast<uint32_t>(random.Below(kVocabulary)));
  }
}

Writing Write(uint64_t seed, uint32_t count, FirstWord first) {
  Random random(seed);
  Writing writing;
  writing.tokens.reserve(count);
  writing.ends.reserve(count);
  writing.text.reserve(size_t{count} * 5);
  for (uint32_t i = 0; i < count; ++i) {
    const size_t begin = writing.text.size();
    if (i > 0 || first == FirstWord::kSpaced) writing.text += ' ';
    writing.text += kWords[random.Below(kWords.size())];
    writing.tokens.push_back(PieceId(std::string_view(writing.text).substr(begin)));
    writing.ends.push_back(static_cast<uint32_t>(writing.text.size()));
  }
  return writing;
}

uint32_t NaturalLength(uint64_t seed, uint32_t median) {
  Random random(seed);
  const double radius = std::sqrt(-2 * std::log(1 - random.Uniform()));
  const double normal = radius * std::cos(2 * std::numbers::pi * random.Uniform());
  const double length = median * std::exp(0.5 * normal);
  const double least = std::max(1.0, median / 8.0);
  return static_cast<uint32_t>(std::clamp(length, least, median * 8.0));
}

}  // namespace penstock::sim
