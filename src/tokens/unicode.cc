#include "tokens/unicode.h"

#include <utf8proc.h>

#include <array>
#include <memory>

#include "wire/json.h"

namespace penstock::tokens {
namespace {

constexpr uint32_t kCodePoints = 0x110000;

bool IsWhiteSpace(uint32_t code) {
  return (code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
         code == 0x202f || code == 0x205f || code == 0x3000;
}

// Symbols that have the property Alphabetic: letters in circles and squares.
bool IsAlphabeticSymbol(uint32_t code) {
  return (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
         (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
}

uint16_t CategoryClasses(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kLetter | kUpper | kWord;
    case UTF8PROC_CATEGORY_LL:
      return kLetter | kLower | kWord;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLetter | kUpper | kLower | kWord;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark | kUpper | kLower | kWord;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      return kNumber | kWord;
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
      return kPunct | kWord;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunct;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return kSymbol;
    default:
      return 0;
  }
}

uint16_t ClassesOf(uint32_t code) {
  uint16_t classes = CategoryClasses(utf8proc_category(static_cast<utf8proc_int32_t>(code)));
  if (IsWhiteSpace(code)) classes |= kSpace;
  if (code == '\r' || code == '\n') classes |= kNewline;
  if (IsAlphabeticSymbol(code) || code == 0x200c || code == 0x200d) classes |= kWord;
  if ((code >= 0x4e00 && code <= 0x9fa5) || (code >= 0x3040 && code <= 0x30ff)) classes |= kKanaHan;
  return classes;
}

std::unique_ptr<uint16_t[]> MakeTable() {
  auto table = std::make_unique<uint16_t[]>(kCodePoints);
  for (uint32_t code = 0; code < kCodePoints; ++code) table[code] = ClassesOf(code);
  return table;
}

// How many bytes of `s` are the longest beginning of a well-formed sequence; at least 1, so that
// what cannot begin one counts alone. `*complete` says whether they are a whole one.
size_t SequencePart(std::string_view s, bool* complete) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  *complete = false;
  const unsigned char first = byte(0);
  if (first < 0x80) {
    *complete = true;
    return 1;
  }
  size_t length = 0;
  if (first >= 0xc2 && first <= 0xdf) length = 2;
  if (first >= 0xe0 && first <= 0xef) length = 3;
  if (first >= 0xf0 && first <= 0xf4) length = 4;
  if (length == 0 || s.size() < 2) return 1;
  const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return 1;
  size_t i = 2;
  while (i < length && i < s.size() && (byte(i) & 0xc0) == 0x80) ++i;
  *complete = i == length;
  return i;
}

}  // namespace

const uint16_t* CharClasses() {
  static const std::unique_ptr<uint16_t[]> table = MakeTable();
  return table.get();
}

void AppendUtf8(uint32_t code, std::string* out) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes.data());
  out->append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(size));
}

void AppendLossyUtf8(std::string_view text, std::string* out) {
  while (!text.empty()) {
    const size_t valid = wire::ValidUtf8Length(text);
    out->append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return;
    bool complete = false;
    const size_t part = SequencePart(text, &complete);
    if (complete) {
      out->append(text.substr(0, part));
    } else {
      out->append("\xef\xbf\xbd");
    }
    text.remove_prefix(part);
  }
}

}  // namespace penstock::tokens
