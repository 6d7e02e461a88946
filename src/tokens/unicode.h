// Code points and what split expressions ask about them.
//
// THREADS: all functions from any thread; the table is made on first use.
// COST: one load per character from a table of 2.2 MB, of which texts touch a few pages.
// SOURCE: general categories of Unicode 16, as the reference has them; White_Space and \w of UTS
// #18.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::tokens {

// What a code point is; bits.
enum CharClass : uint16_t {
  kLetter = 1 << 0,     // \p{L}
  kNumber = 1 << 1,     // \p{N}
  kSpace = 1 << 2,      // \s
  kMark = 1 << 3,       // \p{M}
  kPunct = 1 << 4,      // \p{P}
  kSymbol = 1 << 5,     // \p{S}
  kUpper = 1 << 6,      // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
  kLower = 1 << 7,      // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
  kNewline = 1 << 8,    // [\r\n]
  kWord = 1 << 9,       // \w
  kKanaHan = 1 << 10,   // [\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]
  kComposed = 1 << 11,  // a text of these alone is in the form NFC
};

// The classes of all code points, by code point.
const uint16_t* CharClasses();

struct Char {
  uint32_t code = 0;
  uint32_t size = 0;  // bytes
};

// The character at `at`. REQUIRES: `text` is valid UTF-8 and `at` < size is where one begins.
inline Char CharAt(std::string_view text, size_t at) {
  const auto* s = reinterpret_cast<const unsigned char*>(text.data()) + at;
  if (s[0] < 0x80) return {s[0], 1};
  if (s[0] < 0xe0) return {(s[0] & 0x1fU) << 6 | (s[1] & 0x3fU), 2};
  if (s[0] < 0xf0) return {(s[0] & 0x0fU) << 12 | (s[1] & 0x3fU) << 6 | (s[2] & 0x3fU), 3};
  return {(s[0] & 0x07U) << 18 | (s[1] & 0x3fU) << 12 | (s[2] & 0x3fU) << 6 | (s[3] & 0x3fU), 4};
}

// Where the character begins that ends at `end`. REQUIRES: valid UTF-8, end > 0.
inline size_t CharBefore(std::string_view text, size_t end) {
  do --end;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80);
  return end;
}

// REQUIRES: `code` is a Unicode scalar value.
void AppendUtf8(uint32_t code, std::string* out);

// Appends `text` with U+FFFD in place of each maximal part of an ill-formed sequence, as decoders
// of Python, Rust and browsers replace them.
void AppendLossyUtf8(std::string_view text, std::string* out);

}  // namespace penstock::tokens
