#include "traffic/prose.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <numbers>
#include <string_view>

namespace penstock::traffic {
namespace {

constexpr std::array<std::string_view, 96> kWords = {
    "about",  "after", "agent",  "all",    "and",   "any",   "are",   "ask",    "before", "best",
    "call",   "can",   "case",   "change", "check", "clear", "code",  "cost",   "could",  "data",
    "date",   "day",   "does",   "done",   "each",  "error", "every", "file",   "find",   "first",
    "for",    "form",  "from",   "given",  "goal",  "good",  "has",   "have",   "help",   "how",
    "in",     "is",    "it",     "item",   "keep",  "know",  "last",  "line",   "list",   "long",
    "look",   "made",  "make",   "many",   "mean",  "more",  "most",  "must",   "name",   "need",
    "never",  "new",   "next",   "not",    "note",  "of",    "often", "on",     "one",    "only",
    "order",  "other", "part",   "plan",   "point", "price", "read",  "report", "result", "rule",
    "same",   "say",   "should", "state",  "step",  "table", "tell",  "that",   "the",    "then",
    "things", "to",    "use",    "user",   "when",  "with"};

double DrawNormal(Random& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.Uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.Uniform());
}

}  // namespace

double LogNormal::Draw(Random& random) const {
  return std::clamp(median * std::exp(sigma * DrawNormal(random)), least, most);
}

double DrawExponential(Random& random, double rate) {
  return -std::log(1 - random.Uniform()) / rate;
}

std::string Prose(Random& random, uint32_t tokens) {
  // A short word is one token for every tokenizer; a full stop is one of its own.
  std::string text;
  text.reserve(size_t{tokens} * 5);
  uint64_t left_in_sentence = 0;
  for (uint32_t i = 0; i < tokens; ++i) {
    const bool begins = left_in_sentence == 0;
    if (begins && i > 0 && i + 1 < tokens) {
      text += '.';
      ++i;
    }
    if (!text.empty()) text += ' ';
    const size_t at = text.size();
    text += kWords[random.Below(kWords.size())];
    if (begins) {
      text[at] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[at])));
      left_in_sentence = 6 + random.Below(14);
    }
    --left_in_sentence;
  }
  return text;
}

}  // namespace penstock::traffic
