#include "tokens/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <vector>

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

// The classes of general categories.
constexpr uint16_t kLu = kLetter | kUpper | kWord;
constexpr uint16_t kLl = kLetter | kLower | kWord;
constexpr uint16_t kLo = kLetter | kUpper | kLower | kWord;
constexpr uint16_t kM = kMark | kUpper | kLower | kWord;
constexpr uint16_t kNd = kNumber | kWord;

uint16_t CategoryClasses(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kLu;
    case UTF8PROC_CATEGORY_LL:
      return kLl;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLo;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kM;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      return kNd;
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

struct Range {
  uint32_t first;
  uint32_t last;
  uint16_t classes;
};

// What Unicode 15.1 and 16 have beyond the 15.0 of utf8proc 2.8; a newer one says the same.
constexpr Range kUnicode16[] = {
    {0x897, 0x897, kM},          {0x1b4e, 0x1b4f, kPunct},    {0x1b7f, 0x1b7f, kPunct},
    {0x1c89, 0x1c89, kLu},       {0x1c8a, 0x1c8a, kLl},       {0x2427, 0x2429, kSymbol},
    {0x2ffc, 0x2fff, kSymbol},   {0x31e4, 0x31e5, kSymbol},   {0x31ef, 0x31ef, kSymbol},
    {0xa7cb, 0xa7cc, kLu},       {0xa7cd, 0xa7cd, kLl},       {0xa7da, 0xa7da, kLu},
    {0xa7db, 0xa7db, kLl},       {0xa7dc, 0xa7dc, kLu},       {0x105c0, 0x105f3, kLo},
    {0x10d40, 0x10d49, kNd},     {0x10d4a, 0x10d4f, kLo},     {0x10d50, 0x10d65, kLu},
    {0x10d69, 0x10d6d, kM},      {0x10d6e, 0x10d6e, kPunct},  {0x10d6f, 0x10d6f, kLo},
    {0x10d70, 0x10d85, kLl},     {0x10d8e, 0x10d8f, kSymbol}, {0x10ec2, 0x10ec4, kLo},
    {0x10efc, 0x10efc, kM},      {0x11380, 0x11389, kLo},     {0x1138b, 0x1138b, kLo},
    {0x1138e, 0x1138e, kLo},     {0x11390, 0x113b5, kLo},     {0x113b7, 0x113b7, kLo},
    {0x113b8, 0x113c0, kM},      {0x113c2, 0x113c2, kM},      {0x113c5, 0x113c5, kM},
    {0x113c7, 0x113ca, kM},      {0x113cc, 0x113d0, kM},      {0x113d1, 0x113d1, kLo},
    {0x113d2, 0x113d2, kM},      {0x113d3, 0x113d3, kLo},     {0x113d4, 0x113d5, kPunct},
    {0x113d7, 0x113d8, kPunct},  {0x113e1, 0x113e2, kM},      {0x116d0, 0x116e3, kNd},
    {0x11bc0, 0x11be0, kLo},     {0x11be1, 0x11be1, kPunct},  {0x11bf0, 0x11bf9, kNd},
    {0x11f5a, 0x11f5a, kM},      {0x13460, 0x143fa, kLo},     {0x16100, 0x1611d, kLo},
    {0x1611e, 0x1612f, kM},      {0x16130, 0x16139, kNd},     {0x16d40, 0x16d6c, kLo},
    {0x16d6d, 0x16d6f, kPunct},  {0x16d70, 0x16d79, kNd},     {0x18cff, 0x18cff, kLo},
    {0x1cc00, 0x1ccef, kSymbol}, {0x1ccf0, 0x1ccf9, kNd},     {0x1cd00, 0x1ceb3, kSymbol},
    {0x1e5d0, 0x1e5ed, kLo},     {0x1e5ee, 0x1e5ef, kM},      {0x1e5f0, 0x1e5f0, kLo},
    {0x1e5f1, 0x1e5fa, kNd},     {0x1e5ff, 0x1e5ff, kPunct},  {0x1f8b2, 0x1f8bb, kSymbol},
    {0x1f8c0, 0x1f8c1, kSymbol}, {0x1fa89, 0x1fa89, kSymbol}, {0x1fa8f, 0x1fa8f, kSymbol},
    {0x1fabe, 0x1fabe, kSymbol}, {0x1fac6, 0x1fac6, kSymbol}, {0x1fadc, 0x1fadc, kSymbol},
    {0x1fadf, 0x1fadf, kSymbol}, {0x1fae9, 0x1fae9, kSymbol}, {0x1fbcb, 0x1fbef, kSymbol},
    {0x2ebf0, 0x2ee5d, kLo},
};

uint16_t ClassesOf(uint32_t code) {
  uint16_t classes = CategoryClasses(utf8proc_category(static_cast<utf8proc_int32_t>(code)));
  if (IsWhiteSpace(code)) classes |= kSpace;
  if (code == '\r' || code == '\n') classes |= kNewline;
  if (IsAlphabeticSymbol(code) || code == 0x200c || code == 0x200d) classes |= kWord;
  if ((code >= 0x4e00 && code <= 0x9fa5) || (code >= 0x3040 && code <= 0x30ff)) classes |= kKanaHan;
  return classes;
}

bool IsOwnComposition(uint32_t code) {
  std::string text;
  AppendUtf8(code, &text);
  text.push_back('\0');
  auto* composed = utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.data()));
  const bool is_same =
      composed != nullptr && std::string_view(reinterpret_cast<char*>(composed)) == text.c_str();
  std::free(composed);
  return is_same;
}

// Sets kComposed. What stands behind the first character of a canonical decomposition may compose
// with what is before it.
void MarkComposed(uint16_t* table) {
  constexpr uint32_t kEnd = 0x30000;  // nothing beyond composes, and the last ideographs decompose
  std::array<utf8proc_int32_t, 32> parts{};
  std::vector<bool> may_follow(kEnd);
  const auto decompose = [&](uint32_t code) {
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), parts.data(),
                                               32, UTF8PROC_DECOMPOSE, &boundary);
    return static_cast<size_t>(std::clamp<utf8proc_ssize_t>(count, 0, 32));
  };
  for (uint32_t code = 0x80; code < kEnd; ++code) {
    const size_t count = decompose(code);
    for (size_t i = 1; i < count; ++i) may_follow[static_cast<uint32_t>(parts[i]) % kEnd] = true;
  }
  for (uint32_t code = 0; code < kEnd; ++code) {
    if (code >= 0xd800 && code < 0xe000) continue;
    const auto* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(code));
    if (property->combining_class != 0 || may_follow[code]) continue;
    // What decomposes into one character never composes to itself; pairs may not, either.
    const size_t count = code < 0x80 ? 1 : decompose(code);
    const bool is_itself = count == 1 && static_cast<uint32_t>(parts[0]) == code;
    if (code < 0x80 || is_itself || IsOwnComposition(code)) table[code] |= kComposed;
  }
}

std::unique_ptr<uint16_t[]> MakeTable() {
  auto table = std::make_unique<uint16_t[]>(kCodePoints);
  for (uint32_t code = 0; code < kCodePoints; ++code) table[code] = ClassesOf(code);
  for (const Range& range : kUnicode16) {
    for (uint32_t code = range.first; code <= range.last; ++code) table[code] = range.classes;
  }
  MarkComposed(table.get());
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
