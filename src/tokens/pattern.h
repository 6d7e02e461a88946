// A regular expression of a tokenizer.json, in the dialect of Oniguruma that the reference uses,
// run by PCRE2's JIT. What means something else in PCRE2 is translated or refused.
//
// THREADS: const methods from any thread. OWNS: the compiled expression.
// COST: about 100 ns a match; a text on which the expression runs away is an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace penstock::tokens {

// A part of a text, in bytes.
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

class Pattern {
 public:
  // Errors name the expression.
  static Result<Pattern> Make(std::string_view expression);

  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  // Appends every match in `text`, from left to right, none over another. REQUIRES: valid UTF-8.
  Result<> FindAll(std::string_view text, std::vector<Span>* matches) const;

 private:
  struct Code;

  explicit Pattern(std::string shown);

  std::string shown_;
  std::unique_ptr<Code> code_;
};

// Appends every occurrence of `wanted`, which is not empty, from left to right, none over another.
void FindAllText(std::string_view text, std::string_view wanted, std::vector<Span>* matches);

}  // namespace penstock::tokens
