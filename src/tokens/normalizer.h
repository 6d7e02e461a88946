// What a tokenizer does to a text before it splits it.
//
// THREADS: const methods from any thread. COST: none for a text that stays as it is (ASCII under
// the Unicode forms); else linear. SOURCE: the "normalizer" of tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/result.h"
#include "tokens/pattern.h"

namespace penstock::tokens {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };
struct Lowercase {};
struct Strip {
  bool left = true;
  bool right = true;
};
struct Prepend {
  std::string text;
};
struct Replace {
  std::variant<std::string, Pattern> wanted;
  std::string by;
};
using NormalizerStep = std::variant<UnicodeForm, Lowercase, Strip, Prepend, Replace>;

// What stands before a text.
enum class TextStart {
  kOfInput,       // nothing
  kAfterToken,    // an added token
  kContinuation,  // text: this is the rest of a piece that was cut
};

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  bool IsIdentity() const { return steps_.empty(); }
  // Whether a text may be cut where an ASCII letter stands before a space, and its parts normalised
  // alone; only what is known not to look across.
  bool AllowsCuts() const;

  // `text`, or a view of `*scratch` that holds what it became. REQUIRES: valid UTF-8 that is not in
  // `*scratch`.
  Result<std::string_view> Apply(std::string_view text, TextStart start,
                                 std::string* scratch) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace penstock::tokens
