#include "tokens/split_scanner.h"

#include <span>
#include <utility>

namespace penstock::tokens {
namespace {

// The expressions as tokenizer.json files have them.
constexpr std::pair<std::string_view, Scanner> kExpressions[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     Scanner::kGpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Scanner::kCl100k},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Scanner::kQwen2},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Scanner::kO200k},
    {"[!\"#$%&'()*+,\\-./"
     ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
     "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
     Scanner::kDeepSeek},
};

bool IsAsciiLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsAsciiPunct(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}
char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

std::optional<Scanner> ScannerOf(std::string_view expression) {
  for (const auto& [text, scanner] : kExpressions) {
    if (text == expression) return scanner;
  }
  return std::nullopt;
}

namespace scan {

size_t Contraction(const Text& t, size_t at) {
  if (t.Byte(at) != '\'') return at;
  const char first = Lower(t.Byte(at + 1));
  const char second = Lower(t.Byte(at + 2));
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
      (first == 'l' && second == 'l')) {
    return at + 3;
  }
  // U+017F, the long s, is an s in any case.
  if (t.Byte(at + 1) == '\xc5' && t.Byte(at + 2) == '\xbf') return at + 3;
  return at;
}

size_t Digits(const Text& t, size_t at, int most) {
  for (int i = 0; i < most && (t.ClassesAt(at) & kNumber) != 0; ++i) at += t.At(at).size;
  return at;
}

size_t Spaces(const Text& t, size_t at) {
  size_t newline = 0;  // after the last one
  size_t last = at;    // where the last space begins
  size_t end = at;
  while (!t.IsEnd(end)) {
    const Char c = t.At(end);
    if ((t.classes[c.code] & kSpace) == 0) break;
    last = end;
    end += c.size;
    if ((t.classes[c.code] & kNewline) != 0) newline = end;
  }
  if (newline != 0) return newline;
  return t.IsEnd(end) || last == at ? end : last;
}

size_t Others(const Text& t, size_t at, Tail tail) {
  constexpr uint16_t kNotOther = kSpace | kLetter | kNumber;
  const size_t begin = t.Byte(at) == ' ' ? at + 1 : at;
  const size_t end = t.RunNot(begin, kNotOther);
  if (end == begin) return at;
  size_t after = end;
  while (t.Byte(after) == '\r' || t.Byte(after) == '\n' ||
         (tail == Tail::kNewlinesAndSlashes && t.Byte(after) == '/')) {
    ++after;
  }
  return after;
}

size_t Gpt2(const Text& t, size_t at) {
  if (t.Byte(at) == '\'') {
    const char first = t.Byte(at + 1);
    const char second = t.Byte(at + 2);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
        (first == 'l' && second == 'l')) {
      return at + 3;
    }
  }
  const size_t begin = t.Byte(at) == ' ' ? at + 1 : at;
  const uint16_t classes = t.ClassesAt(begin);
  if ((classes & kLetter) != 0) return t.Run(begin, kLetter);
  if ((classes & kNumber) != 0) return t.Run(begin, kNumber);
  if (!t.IsEnd(begin) && (classes & kSpace) == 0) {
    return t.RunNot(begin, kSpace | kLetter | kNumber);
  }
  // \s+(?!\S)|\s+
  size_t last = at;
  size_t end = at;
  while ((t.ClassesAt(end) & kSpace) != 0) {
    last = end;
    end += t.At(end).size;
  }
  return t.IsEnd(end) || last == at ? end : last;
}

size_t Cl100k(const Text& t, size_t at, int digits) {
  const Char first = t.At(at);
  const uint16_t classes = t.classes[first.code];
  if ((classes & kLetter) != 0) return t.Run(at + first.size, kLetter);
  if ((classes & kNumber) != 0) return Digits(t, at, digits);
  if (const size_t end = Contraction(t, at); end != at) return end;
  if ((classes & kNewline) == 0 && (t.ClassesAt(at + first.size) & kLetter) != 0) {
    return t.Run(at + first.size, kLetter);
  }
  if (const size_t end = Others(t, at, Tail::kNewlines); end != at) return end;
  return Spaces(t, at);
}

namespace {

// [A]*[B]+ of o200k from `at`: its end, or `at`. What is in A and B goes to A first, and A gives
// back one when no B follows.
size_t UpperThenLower(const Text& t, size_t at) {
  size_t end = at;
  size_t after_lower = at;
  while (!t.IsEnd(end)) {
    const Char c = t.At(end);
    if ((t.classes[c.code] & kUpper) == 0) break;
    end += c.size;
    if ((t.classes[c.code] & kLower) != 0) after_lower = end;
  }
  const size_t lower = t.Run(end, kLower);
  return lower != end ? lower : after_lower;
}

}  // namespace

size_t O200k(const Text& t, size_t at) {
  const Char first = t.At(at);
  const uint16_t classes = t.classes[first.code];
  if ((classes & kNumber) != 0) return Digits(t, at, 3);
  const bool may_lead = (classes & (kNewline | kLetter)) == 0;
  const size_t begins[] = {at + first.size, at};
  const auto tries = std::span(begins).subspan(may_lead ? 0 : 1);
  for (const size_t begin : tries) {
    if (const size_t end = UpperThenLower(t, begin); end != begin) return Contraction(t, end);
  }
  for (const size_t begin : tries) {
    const size_t upper = t.Run(begin, kUpper);
    if (upper != begin) return Contraction(t, t.Run(upper, kLower));
  }
  if (const size_t end = Others(t, at, Tail::kNewlinesAndSlashes); end != at) return end;
  return Spaces(t, at);
}

size_t DeepSeek(const Text& t, size_t at) {
  const Char first = t.At(at);
  const uint16_t classes = t.classes[first.code];
  const size_t second = at + first.size;
  if (IsAsciiPunct(t.Byte(at)) && IsAsciiLetter(t.Byte(second))) {
    size_t end = second;
    while (IsAsciiLetter(t.Byte(end))) ++end;
    return end;
  }
  constexpr uint16_t kLetterOrMark = kLetter | kMark;
  if ((classes & (kNewline | kLetter | kPunct | kSymbol)) == 0 &&
      (t.ClassesAt(second) & kLetterOrMark) != 0) {
    return t.Run(second, kLetterOrMark);
  }
  if ((classes & kLetterOrMark) != 0) return t.Run(at, kLetterOrMark);
  const size_t begin = t.Byte(at) == ' ' ? second : at;
  if ((t.ClassesAt(begin) & (kPunct | kSymbol)) != 0) {
    size_t end = t.Run(begin, kPunct | kSymbol);
    while (t.Byte(end) == '\r' || t.Byte(end) == '\n') ++end;
    return end;
  }
  if ((classes & kSpace) != 0) return Spaces(t, at);
  return at;
}

}  // namespace scan
}  // namespace penstock::tokens
