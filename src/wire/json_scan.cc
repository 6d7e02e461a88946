#include "wire/json_scan.h"

#include <bit>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace penstock::wire {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The value of a hexadecimal digit, or -1.
int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

uint32_t HexUnit(const char* digits) {
  uint32_t unit = 0;
  for (int i = 0; i < 4; ++i) unit = unit << 4 | static_cast<uint32_t>(HexValue(digits[i]));
  return unit;
}

char* PutUtf8(uint32_t point, char* out) {
  if (point < 0x80) {
    *out++ = static_cast<char>(point);
  } else if (point < 0x800) {
    *out++ = static_cast<char>(0xC0 | point >> 6);
    *out++ = static_cast<char>(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    *out++ = static_cast<char>(0xE0 | point >> 12);
    *out++ = static_cast<char>(0x80 | (point >> 6 & 0x3F));
    *out++ = static_cast<char>(0x80 | (point & 0x3F));
  } else {
    *out++ = static_cast<char>(0xF0 | point >> 18);
    *out++ = static_cast<char>(0x80 | (point >> 12 & 0x3F));
    *out++ = static_cast<char>(0x80 | (point >> 6 & 0x3F));
    *out++ = static_cast<char>(0x80 | (point & 0x3F));
  }
  return out;
}

// The code point of the \uXXXX at *at, or of a pair of them; moves *at behind it.
uint32_t TakeUnicode(const char** at, const char* end) {
  const uint32_t unit = HexUnit(*at + 2);
  *at += 6;
  if (unit < 0xD800 || unit > 0xDFFF) return unit;
  if (unit < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
    const uint32_t low = HexUnit(*at + 2);
    if (low >= 0xDC00 && low <= 0xDFFF) {
      *at += 6;
      return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
  }
  return 0xFFFD;
}

// Copies what stands before the first backslash and returns its length. May write as many bytes
// behind it as [at, end) has left.
size_t CopyPlain(const char* at, const char* end, char* out) {
  const char* const begin = at;
#ifdef __SSE2__
  const __m128i backslash = _mm_set1_epi8('\\');
  for (; end - at >= 16; at += 16, out += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
    const auto mask = static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, backslash)));
    if (mask != 0) return static_cast<size_t>(at - begin) + std::countr_zero(mask);
  }
#endif
  while (at != end && *at != '\\') *out++ = *at++;
  return static_cast<size_t>(at - begin);
}

char Unescaped(char letter) {
  switch (letter) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return letter;
  }
}

}  // namespace

size_t UnescapeJson(std::string_view raw, char* out) {
  const char* at = raw.data();
  const char* const end = at + raw.size();
  char* const out_begin = out;
  while (at != end) {
    const size_t plain = CopyPlain(at, end, out);
    at += plain;
    out += plain;
    if (at == end) break;
    if (at[1] == 'u') {
      out = PutUtf8(TakeUnicode(&at, end), out);
    } else {
      *out++ = Unescaped(at[1]);
      at += 2;
    }
  }
  return static_cast<size_t>(out - out_begin);
}

const char* FindStringStop(const char* at, const char* end) {
#ifdef __SSE2__
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i control = _mm_set1_epi8(0x1F);
  while (end - at >= 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i stops =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
                     _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
    const auto mask = static_cast<uint32_t>(_mm_movemask_epi8(stops));
    if (mask != 0) return at + std::countr_zero(mask);
    at += 16;
  }
#endif
  for (; at != end; ++at) {
    if (*at == '"' || *at == '\\' || static_cast<unsigned char>(*at) < 0x20) return at;
  }
  return end;
}

JsonScanner::Kind JsonScanner::Peek() {
  if (!ok()) return Kind::kNone;
  SkipSpace();
  if (at_ == end_) return Kind::kNone;
  switch (*at_) {
    case '{':
      return Kind::kObject;
    case '[':
      return Kind::kArray;
    case '"':
      return Kind::kString;
    case 't':
    case 'f':
      return Kind::kBool;
    case 'n':
      return Kind::kNull;
    default:
      return *at_ == '-' || IsDigit(*at_) ? Kind::kNumber : Kind::kNone;
  }
}

bool JsonScanner::EnterObject() { return Enter('{', "'{'"); }

bool JsonScanner::EnterArray() { return Enter('[', "'['"); }

bool JsonScanner::Enter(char bracket, const char* expected) {
  if (!ok()) return false;
  SkipSpace();
  if (at_ == end_ || *at_ != bracket) return Fail(at_, expected);
  if (depth_ == kMaxDepth) {
    too_deep_ = true;
    return Fail(at_, "at most 512 levels of nesting");
  }
  ++at_;
  ++depth_;
  fresh_ = true;
  return true;
}

bool JsonScanner::Leave() {
  ++at_;
  --depth_;
  fresh_ = false;
  return false;
}

bool JsonScanner::NextField(JsonString* key) {
  if (!ok()) return false;
  SkipSpace();
  if (at_ != end_ && *at_ == '}') return Leave();
  if (!fresh_) {
    if (at_ == end_ || *at_ != ',') return Fail(at_, "',' or '}'");
    ++at_;
    SkipSpace();
  }
  fresh_ = false;
  if (at_ == end_ || *at_ != '"') return Fail(at_, "a key in double quotes");
  if (!ReadString(key)) return false;
  SkipSpace();
  if (at_ == end_ || *at_ != ':') return Fail(at_, "':'");
  ++at_;
  return true;
}

bool JsonScanner::NextElement() {
  if (!ok()) return false;
  SkipSpace();
  if (at_ != end_ && *at_ == ']') return Leave();
  if (!fresh_) {
    if (at_ == end_ || *at_ != ',') return Fail(at_, "',' or ']'");
    ++at_;
    SkipSpace();
  }
  fresh_ = false;
  return (at_ != end_ && *at_ != ']') || Fail(at_, "a value");
}

bool JsonScanner::ReadString(JsonString* value) {
  if (!ok()) return false;
  SkipSpace();
  if (at_ == end_ || *at_ != '"') return Fail(at_, "a string");
  const char* const begin = at_ + 1;
  const char* at = begin;
  value->escaped = false;
  for (;;) {
    at = FindStringStop(at, end_);
    if (at == end_) return Fail(at, "'\"' at the end of a string");
    if (*at == '"') break;
    if (*at != '\\') return Fail(at, "control characters in strings to be escaped");
    value->escaped = true;
    if (!PassEscape(&at)) return false;
  }
  value->raw = {begin, static_cast<size_t>(at - begin)};
  at_ = at + 1;
  return true;
}

bool JsonScanner::PassEscape(const char** at) {
  const char* letter = *at + 1;
  if (letter == end_) return Fail(letter, "an escape");
  if (*letter == 'u') {
    for (int i = 1; i <= 4; ++i) {
      if (end_ - letter <= i || HexValue(letter[i]) < 0) {
        return Fail(end_ - letter <= i ? end_ : letter + i, "four hexadecimal digits after \\u");
      }
    }
    *at = letter + 5;
    return true;
  }
  // strchr would find the terminating zero, too.
  if (*letter == '\0' || std::strchr("\"\\/bfnrt", *letter) == nullptr) {
    return Fail(letter, "one of \"\\/bfnrtu after a backslash");
  }
  *at = letter + 1;
  return true;
}

bool JsonScanner::PassDigits() {
  if (at_ == end_ || !IsDigit(*at_)) return Fail(at_, "a digit");
  const char* at = at_;
  while (at != end_ && IsDigit(*at)) ++at;
  at_ = at;
  return true;
}

bool JsonScanner::ReadUints(std::vector<uint32_t>* values) {
  constexpr const char* kWanted = "a whole number below 2^32";
  for (EnterArray(); NextElement();) {
    // Most lists have nothing but these, a comma and a space: the rest is NextElement's.
    const char* at = at_;
    for (;;) {
      const char* const begin = at;
      uint64_t value = 0;
      for (; at != end_ && IsDigit(*at) && value <= UINT32_MAX; ++at) {
        value = value * 10 + static_cast<uint64_t>(*at - '0');
      }
      const bool has_zero = at - begin > 1 && *begin == '0';
      const bool goes_on = at != end_ && (IsDigit(*at) || *at == '.' || *at == 'e' || *at == 'E');
      if (at == begin || has_zero || goes_on || value > UINT32_MAX) return Fail(begin, kWanted);
      values->push_back(static_cast<uint32_t>(value));
      if (end_ - at < 3 || *at != ',') break;
      const char* const next = at[1] == ' ' ? at + 2 : at + 1;
      if (!IsDigit(*next)) break;
      at = next;
    }
    at_ = at;
  }
  return ok();
}

bool JsonScanner::ReadNumber(std::string_view* text) {
  if (!ok()) return false;
  SkipSpace();
  if (at_ == end_ || (*at_ != '-' && !IsDigit(*at_))) return Fail(at_, "a number");
  const char* const begin = at_;
  if (*at_ == '-') ++at_;
  if (at_ != end_ && *at_ == '0') {
    ++at_;
  } else if (!PassDigits()) {
    return false;
  }
  if (at_ != end_ && *at_ == '.') {
    ++at_;
    if (!PassDigits()) return false;
  }
  if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!PassDigits()) return false;
  }
  *text = {begin, static_cast<size_t>(at_ - begin)};
  return true;
}

bool JsonScanner::PassWord(std::string_view word, const char* expected) {
  if (!std::string_view(at_, static_cast<size_t>(end_ - at_)).starts_with(word)) {
    return Fail(at_, expected);
  }
  at_ += word.size();
  return true;
}

bool JsonScanner::ReadBool(bool* value) {
  if (Peek() != Kind::kBool) return Fail(at_, "true or false");
  *value = *at_ == 't';
  return PassWord(*value ? "true" : "false", "true or false");
}

bool JsonScanner::Skip() {
  JsonString string;
  std::string_view number;
  bool boolean = false;
  switch (Peek()) {
    case Kind::kObject:
      for (EnterObject(); NextField(&string);) Skip();
      return ok();
    case Kind::kArray:
      for (EnterArray(); NextElement();) Skip();
      return ok();
    case Kind::kString:
      return ReadString(&string);
    case Kind::kNumber:
      return ReadNumber(&number);
    case Kind::kBool:
      return ReadBool(&boolean);
    case Kind::kNull:
      return PassWord("null", "null");
    case Kind::kNone:
      break;
  }
  return Fail(at_, "a value");
}

bool JsonScanner::Finish() {
  if (!ok()) return false;
  SkipSpace();
  return at_ == end_ || Fail(at_, "the end");
}

std::string JsonScanner::Complaint() const {
  std::string text = "expected " + std::string(expected_) + " at byte " + std::to_string(offset());
  if (at_ == end_) return text + ", where the text ends";
  const auto c = static_cast<unsigned char>(*at_);
  if (c > 0x20 && c < 0x7F) return text + ", found '" + std::string(1, *at_) + "'";
  constexpr std::string_view kHex = "0123456789abcdef";
  return text + ", found byte 0x" + kHex[c >> 4] + kHex[c & 15];
}

bool JsonScanner::Fail(const char* at, const char* expected) {
  if (ok()) {
    at_ = at;
    expected_ = expected;
  }
  return false;
}

void JsonScanner::SkipSpace() {
  const char* at = at_;
  while (at != end_ && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) ++at;
  at_ = at;
}

}  // namespace penstock::wire
