// Reads one JSON text in memory, front to back, as the caller pulls: no tree, no copies, no
// allocation. Everything that is passed, also what the caller skips, is held to RFC 8259, so a text
// that was read to its end is valid JSON apart from its UTF-8, which is not looked at.
//
//   JsonScanner json(text);
//   for (json.EnterObject(); json.NextField(&key);) {
//     if (key.raw == "model") json.ReadString(&model); else json.Skip();
//   }
//   if (!json.Finish()) return json.Complaint();
//
// Every value has to be read or skipped before the next field or element. The first mistake stops
// the scanner: everything returns false from then on, so loops end by themselves.
//
// THREADS: belongs to its caller. OWNS: nothing; views point into the text.
// COST: one pass; strings at 16 bytes a step; 17 ns a number of ReadUints.
// SOURCE: RFC 8259.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::wire {

// A string as it stands between its quotes.
struct JsonString {
  std::string_view raw;
  bool escaped = false;  // raw holds escapes: the text is not raw itself
};

// Writes the text of a string to `out`, which has room for raw.size() bytes, and returns its
// length. A lone surrogate becomes U+FFFD. REQUIRES: raw comes from a JsonScanner.
size_t UnescapeJson(std::string_view raw, char* out);

// The first quote, backslash or control character in [at, end), or end.
const char* FindStringStop(const char* at, const char* end);

class JsonScanner {
 public:
  static constexpr uint32_t kMaxDepth = 512;
  enum class Kind : uint8_t { kObject, kArray, kString, kNumber, kBool, kNull, kNone };

  explicit JsonScanner(std::string_view text)
      : begin_(text.data()), at_(text.data()), end_(text.data() + text.size()) {}

  // What the next value looks like; kNone for the end, for what begins no value and after a
  // mistake. Moves past white space only.
  Kind Peek();

  bool EnterObject();
  // True with the next key, standing before its value; false after the end of the object.
  bool NextField(JsonString* key);
  bool EnterArray();
  // True when an element has to follow; false after the end of the array.
  bool NextElement();

  bool ReadString(JsonString* value);
  bool ReadNumber(std::string_view* text);
  bool ReadBool(bool* value);
  // Reads an array of whole numbers below 2^32, which is one or a mistake, and appends them.
  bool ReadUints(std::vector<uint32_t>* values);
  // Passes one value of any kind.
  bool Skip();
  // True when nothing but white space is left and there was no mistake.
  bool Finish();

  // Where the next byte is read; where the mistake is after one.
  const char* position() const { return at_; }
  size_t offset() const { return static_cast<size_t>(at_ - begin_); }
  bool ok() const { return expected_ == nullptr; }
  bool too_deep() const { return too_deep_; }
  // "expected ',' or '}' at byte 17, found 'x'". REQUIRES: !ok().
  std::string Complaint() const;

 private:
  bool Fail(const char* at, const char* expected);
  bool Enter(char bracket, const char* expected);
  bool Leave();
  void SkipSpace();
  bool PassEscape(const char** at);
  bool PassDigits();
  bool PassWord(std::string_view word, const char* expected);

  const char* begin_;
  const char* at_;
  const char* end_;
  const char* expected_ = nullptr;
  uint32_t depth_ = 0;
  bool fresh_ = false;  // a container was entered and nothing of it read yet
  bool too_deep_ = false;
};

}  // namespace penstock::wire
