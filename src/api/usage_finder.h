// Follows JSON texts byte by byte, one after the other, and notes the token counts and errors it
// comes by. Needs no memory for what it passes.
//
// THREADS: belongs to its caller. COST: strings and what cannot hold usage at 16 bytes a step.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace penstock::api {

struct Usage {
  bool found = false;
  uint64_t input_tokens = 0;  // all of the prompt's, cached ones included
  uint64_t output_tokens = 0;
  bool cached_known = false;
  uint64_t cached_tokens = 0;
};

class UsageFinder {
 public:
  // The next piece of the text. What is no JSON is passed without harm.
  void Feed(std::string_view piece);
  // Another text begins. What was found stays.
  void NextText();

  const Usage& usage() const { return usage_; }
  // True once a text was an error: {"error": ...}, {"type": "error"} or {"object": "error"}, or one
  // in OpenAI's {"response": {"error": ...}}.
  bool saw_error() const { return saw_error_; }

 private:
  // What the object at hand is.
  enum class Where : uint8_t { kOutside, kRoot, kEnvelope, kUsage, kDetails };
  enum class Key : uint8_t {
    kNone,
    kUsage,
    kEnvelope,
    kDetails,
    kKind,  // "type", "object": the name of what the object is
    kError,
    kInput,
    kOutput,
    kCached,
    kCacheRead,  // these two are Anthropic's, whose input_tokens leave them out
    kCacheCreated,
  };
  enum class Number : uint8_t { kNone, kWhole, kOther };
  static constexpr size_t kMaxLevel = 5;

  const char* PassString(const char* at, const char* end);
  const char* PassIgnored(const char* at, const char* end);
  void Take(char c);
  void Open(char bracket);
  void Close();
  void BeginString();
  void EndString();
  void TakeNumber(char c);
  void EndNumber();
  Where where() const { return levels_[level_]; }
  Key KeyOf(std::string_view name) const;

  Usage usage_;
  uint64_t input_ = 0, cache_read_ = 0, cache_created_ = 0;  // of which input_tokens are made
  bool saw_error_ = false;

  std::array<Where, kMaxLevel> levels_ = {Where::kOutside};
  uint8_t level_ = 0;
  bool done_ = false;           // the root is closed
  uint32_t ignored_depth_ = 0;  // containers open below the object at hand that hold no usage
  bool in_string_ = false;
  bool after_backslash_ = false;
  bool at_value_ = false;  // behind the colon of a field
  bool keeps_word_ = false;
  Key key_ = Key::kNone;
  Number number_kind_ = Number::kNone;
  uint8_t word_size_ = 0;
  std::array<char, 32> word_ = {};  // the key or kind being read; longer ones are none of ours
  uint64_t number_ = 0;
};

}  // namespace penstock::api
