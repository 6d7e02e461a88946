#include "tokens/jinja_unicode.h"

#include <algorithm>
#include <cstdint>
#include <span>

namespace penstock::tokens::jinja {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};
// Every `step`th character from first to last becomes the one `delta` further.
struct Run {
  char32_t first;
  char32_t last;
  uint32_t step;
  int32_t delta;
};
struct Several {
  char32_t from;
  char32_t to[3];
};

#include "tokens/jinja_unicode_tables.inc"

const Range* FindRange(std::span<const Range> ranges, char32_t c) {
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), c,
                                   [](char32_t at, const Range& r) { return at < r.first; });
  if (it == ranges.begin()) return nullptr;
  const Range& range = *(it - 1);
  return c <= range.last ? &range : nullptr;
}

bool Holds(std::span<const Range> ranges, char32_t c) { return FindRange(ranges, c) != nullptr; }

void AppendMapped(std::span<const Run> runs, std::span<const Several> several, char32_t c,
                  std::string* out) {
  const auto it = std::upper_bound(runs.begin(), runs.end(), c,
                                   [](char32_t at, const Run& r) { return at < r.first; });
  if (it != runs.begin()) {
    const Run& run = *(it - 1);
    if (c <= run.last && (c - run.first) % run.step == 0) {
      return AppendCharacter(static_cast<char32_t>(static_cast<int64_t>(c) + run.delta), out);
    }
  }
  const auto special = std::lower_bound(several.begin(), several.end(), c,
                                        [](const Several& s, char32_t at) { return s.from < at; });
  if (special == several.end() || special->from != c) return AppendCharacter(c, out);
  for (const char32_t to : special->to) {
    if (to != 0) AppendCharacter(to, out);
  }
}

void AppendUpper(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c));
  } else {
    AppendMapped(kToUpper, kToUpperSeveral, c, out);
  }
}

void AppendTitle(char32_t c, std::string* out) {
  if (c < 0x80) return AppendUpper(c, out);
  AppendMapped(kToTitle, kToTitleSeveral, c, out);
}

bool IsCased(char32_t c) { return IsLower(c) || IsUpper(c) || IsTitle(c); }

constexpr char32_t kCapitalSigma = 0x3a3;
constexpr char32_t kFinalSigma = 0x3c2;
constexpr char32_t kSmallSigma = 0x3c3;

// Unicode's Final_Sigma: after a letter, and not before one.
bool IsFinal(std::string_view text, size_t begin, size_t end) {
  bool after_letter = false;
  for (size_t at = begin; at > 0;) {
    do --at;
    while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80);
    size_t next = at;
    const char32_t c = NextCharacter(text, &next);
    if (Holds(kIgnoredInCase, c)) continue;
    after_letter = IsCased(c);
    break;
  }
  if (!after_letter) return false;
  for (size_t at = end; at < text.size();) {
    const char32_t c = NextCharacter(text, &at);
    if (!Holds(kIgnoredInCase, c)) return !IsCased(c);
  }
  return true;
}

// Lower case of the character in text[begin, end).
void AppendLower(std::string_view text, size_t begin, size_t end, char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
  } else if (c == kCapitalSigma) {
    AppendCharacter(IsFinal(text, begin, end) ? kFinalSigma : kSmallSigma, out);
  } else {
    AppendMapped(kToLower, kToLowerSeveral, c, out);
  }
}

}  // namespace

char32_t NextCharacter(std::string_view text, size_t* at) {
  const auto byte = [&](size_t i) -> char32_t {
    return *at + i < text.size() ? static_cast<uint8_t>(text[*at + i]) & 0x3f : 0;
  };
  const auto first = static_cast<uint8_t>(text[*at]);
  char32_t out = first;
  size_t length = 1;
  if (first >= 0xf0) {
    out = (first & 7u) << 18 | byte(1) << 12 | byte(2) << 6 | byte(3);
    length = 4;
  } else if (first >= 0xe0) {
    out = (first & 15u) << 12 | byte(1) << 6 | byte(2);
    length = 3;
  } else if (first >= 0xc0) {
    out = (first & 31u) << 6 | byte(1);
    length = 2;
  }
  *at = std::min(*at + length, text.size());
  return out;
}

void AppendCharacter(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xc0 | c >> 6));
    out->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xe0 | c >> 12));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  } else {
    out->push_back(static_cast<char>(0xf0 | c >> 18));
    out->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3f)));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  }
}

bool IsAscii(std::string_view text) {
  uint8_t all = 0;
  for (const char c : text) all |= static_cast<uint8_t>(c);
  return all < 0x80;
}

size_t CountCharacters(std::string_view text) {
  size_t out = 0;
  for (const char c : text) out += (static_cast<uint8_t>(c) & 0xc0) != 0x80;
  return out;
}

size_t ByteOfCharacter(std::string_view text, size_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if ((static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) continue;
    if (index-- == 0) break;
  }
  return at;
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsAlpha(char32_t c) { return Holds(kAlpha, c); }
bool IsDecimal(char32_t c) { return Holds(kDecimal, c); }
bool IsDigit(char32_t c) { return Holds(kDigit, c); }
bool IsNumeric(char32_t c) { return Holds(kNumeric, c); }
bool IsLower(char32_t c) { return Holds(kLower, c); }
bool IsUpper(char32_t c) { return Holds(kUpper, c); }
bool IsTitle(char32_t c) { return Holds(kTitle, c); }
bool IsPrintable(char32_t c) {
  if (c < 0x7f) return c >= 0x20;
  return !Holds(kUnprintable, c);
}

int DecimalValue(char32_t c) {
  const Range* range = FindRange(kDecimal, c);
  return range == nullptr ? 0 : static_cast<int>((c - range->first) % 10);
}

bool IsLineEnd(char32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

std::string ToUpper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) AppendUpper(NextCharacter(text, &at), &out);
  return out;
}

std::string ToLower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCharacter(text, &at);
    AppendLower(text, begin, at, c, &out);
  }
  return out;
}

std::string ToTitle(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCharacter(text, &at);
    if (in_word) {
      AppendLower(text, begin, at, c, &out);
    } else {
      AppendTitle(c, &out);
    }
    in_word = IsCased(c);
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCharacter(text, &at);
    if (begin == 0) {
      AppendTitle(c, &out);
    } else {
      AppendLower(text, begin, at, c, &out);
    }
  }
  return out;
}

std::string SwapCase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCharacter(text, &at);
    if (IsUpper(c)) {
      AppendLower(text, begin, at, c, &out);
    } else if (IsLower(c)) {
      AppendUpper(c, &out);
    } else {
      AppendCharacter(c, &out);
    }
  }
  return out;
}

namespace {

template <class Drops>
std::string_view StripIf(std::string_view text, Side side, Drops drops) {
  if (side != Side::kRight) {
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (!drops(NextCharacter(text, &at))) {
        text.remove_prefix(begin);
        break;
      }
      if (at == text.size()) return text.substr(at);
    }
  }
  if (side == Side::kLeft) return text;
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
    size_t at = begin;
    if (!drops(NextCharacter(text, &at))) break;
    text = text.substr(0, begin);
  }
  return text;
}

}  // namespace

std::string_view StripSpace(std::string_view text, Side side) {
  return StripIf(text, side, [](char32_t c) { return IsSpace(c); });
}

std::string_view StripCharacters(std::string_view text, std::string_view characters, Side side) {
  return StripIf(text, side, [characters](char32_t c) {
    if (c < 0x80) return characters.find(static_cast<char>(c)) != std::string_view::npos;
    std::string one;
    AppendCharacter(c, &one);
    return characters.find(one) != std::string_view::npos;
  });
}

}  // namespace penstock::tokens::jinja
