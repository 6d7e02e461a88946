// How a normalised text is split into the pieces that merges do not cross.
//
// THREADS: const methods from any thread.
// COST: a well-known split 10 to 20 ns a piece and no allocation; others as their expressions cost.
// SOURCE: the "pre_tokenizer" of tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/result.h"
#include "tokens/normalizer.h"
#include "tokens/pattern.h"
#include "tokens/split_scanner.h"

namespace penstock::tokens {

// What becomes of a match of a split.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// A class of characters as a pattern: every character of it is a match.
struct CharMatch {
  enum class Kind { kNumbers, kPunctuation, kSpaces } kind;
};

struct Split {
  std::variant<std::string, Pattern, Scanner, CharMatch> pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what does not match counts as the match
};

// The three splits of DeepSeek V3 in one pass.
struct DeepSeekSplit {};

// Puts a space before a piece that begins with none.
struct PrefixSpace {};

struct Metaspace {
  enum class Prefix { kNever, kFirst, kAlways };
  std::string replacement = "\xe2\x96\x81";
  Prefix prefix = Prefix::kAlways;
  bool split = true;
};

using PreTokenizerStep = std::variant<Split, DeepSeekSplit, PrefixSpace, Metaspace>;

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps);

  // Whether every step is known to split between an ASCII letter and a space after it, whatever
  // stands around them, or to be without influence there.
  bool AllowsCuts() const;
  // Whether it is one of the scanners alone; see ScanPieces.
  const Scanner* only_scanner() const;
  bool is_deep_seek() const;

  // Calls emit(piece) for every piece in order; a piece is good until the call returns. REQUIRES:
  // valid UTF-8.
  template <class Emit>
  Result<> Split(std::string_view text, TextStart start, const Emit& emit) const {
    if (const Scanner* scanner = only_scanner()) {
      ScanPieces(*scanner, text, emit);
      return {};
    }
    if (is_deep_seek()) {
      ScanDeepSeek(text, emit);
      return {};
    }
    std::vector<Piece> pieces;
    if (auto done = SplitBySteps(text, start, &pieces); !done) return done;
    for (const Piece& piece : pieces) emit(piece.text());
    return {};
  }

 private:
  // A view, or a text of its own where a step made one.
  struct Piece {
    std::string_view view;
    std::string own;
    bool is_own = false;
    bool is_first = false;  // begins where the input begins

    std::string_view text() const { return is_own ? std::string_view(own) : view; }
  };

  template <class Emit>
  static void ScanDeepSeek(std::string_view text, const Emit& emit) {
    const scan::Text t{text};
    size_t rest = 0;
    const auto flush = [&](size_t end) {
      if (rest < end) ScanPieces(Scanner::kDeepSeek, text.substr(rest, end - rest), emit);
    };
    for (size_t at = 0; at < text.size();) {
      const Char c = t.At(at);
      const uint16_t classes = t.classes[c.code];
      if ((classes & (kNumber | kKanaHan)) == 0) {
        at += c.size;
        continue;
      }
      flush(at);
      if ((classes & kNumber) != 0) {
        const size_t end = scan::Digits(t, at, 3);
        emit(text.substr(at, end - at));
        at = end;
      } else {
        const size_t end = t.Run(at, kKanaHan);
        ScanPieces(Scanner::kDeepSeek, text.substr(at, end - at), emit);
        at = end;
      }
      rest = at;
    }
    flush(text.size());
  }

  Result<> SplitBySteps(std::string_view text, TextStart start, std::vector<Piece>* pieces) const;

  std::vector<PreTokenizerStep> steps_;
};

}  // namespace penstock::tokens
