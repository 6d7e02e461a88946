// Gives an answer the model's name back that the client used, where the request's was rewritten:
// every "model":"SERVED" and "model": "SERVED" becomes "model":"NAMED", however the answer is cut
// into pieces. What a model wrote is safe: in a string the quotes would be escaped.
//
// THREADS: belongs to one answer.
// COST: one substring search a piece; holds back at most the length of what is searched, and only
// when a piece ends in its beginning.
// SOURCE: spec endpoint-picker 2.6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::api {

class ModelRestorer {
 public:
  // `served` is what the engine was asked for, `named` what the client asked for.
  ModelRestorer(std::string_view served, std::string_view named);

  // Appends to `out` what is known of the answer after the next piece.
  void Feed(std::string_view piece, std::string* out);
  // Appends the rest, at the end of the answer.
  void Finish(std::string* out);

  uint64_t replaced() const { return replaced_; }

 private:
  enum class Fit : uint8_t { kNone, kBegins, kWhole };
  Fit FitOf(std::string_view text, size_t* size) const;
  // Returns where what is held back begins.
  size_t Pass(std::string_view text, std::string* out);

  std::string served_;  // with its quotes
  std::string named_;   // so
  bool is_needed_;
  char before_ = '\0';  // the last byte passed
  std::string held_;
  uint64_t replaced_ = 0;
};

}  // namespace penstock::api
