// Characters and their case as Python's str sees them, over UTF-8.
//
// REQUIRES everywhere: valid UTF-8; other bytes give some character and nothing worse.
// THREADS: any.
// SOURCE: Python 3.11 with Unicode 14, asked by tools/jinja-unicode.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace penstock::tokens::jinja {

// The character at *at, which moves past it. REQUIRES: *at < text.size().
char32_t NextCharacter(std::string_view text, size_t* at);
void AppendCharacter(char32_t c, std::string* out);
bool IsAscii(std::string_view text);
// len(text).
size_t CountCharacters(std::string_view text);
// The byte where character number `index` begins; text.size() when there are fewer.
size_t ByteOfCharacter(std::string_view text, size_t index);

bool IsSpace(char32_t c);
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsLower(char32_t c);
bool IsUpper(char32_t c);
bool IsTitle(char32_t c);
bool IsPrintable(char32_t c);
inline bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }
// 0 to 9. REQUIRES: IsDecimal(c).
int DecimalValue(char32_t c);
// What ends a line for str.splitlines().
bool IsLineEnd(char32_t c);

std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string ToTitle(std::string_view text);
std::string Capitalize(std::string_view text);
std::string SwapCase(std::string_view text);

enum class Side { kBoth, kLeft, kRight };
// str.strip(), .lstrip(), .rstrip() without characters.
std::string_view StripSpace(std::string_view text, Side side);
// The same with a set of characters.
std::string_view StripCharacters(std::string_view text, std::string_view characters, Side side);

}  // namespace penstock::tokens::jinja
