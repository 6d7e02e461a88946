#include "tokens/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// Every step returns what the text became, or nothing when it stays.
using Changed = Result<std::optional<std::string>>;

struct Range {
  uint32_t first;
  uint32_t last;
};

// Characters that compose, decompose or are reordered, and that are newer than Unicode 9: the
// reference's normaliser has the tables of that, so to it each of these stands for itself.
constexpr Range kInert[] = {
    {0x7fd, 0x7fd},     {0x897, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},
    {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},
    {0xa82c, 0xa82c},   {0xab69, 0xab69},   {0x105c9, 0x105c9}, {0x105e4, 0x105e4},
    {0x10781, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba}, {0x10d24, 0x10d27},
    {0x10d69, 0x10d6d}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x11383, 0x113d0},
    {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11938, 0x11938},
    {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34},
    {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45},
    {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16121, 0x1612f}, {0x16d63, 0x16d6a},
    {0x16ff0, 0x16ff1}, {0x1ccd6, 0x1ccf9}, {0x1e030, 0x1e06d}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
    {0x1e5ee, 0x1e5ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
};

bool IsInert(uint32_t code) {
  if (code < kInert[0].first) return false;
  const auto* range = std::ranges::lower_bound(kInert, code, {}, &Range::last);
  return range != std::end(kInert) && code >= range->first;
}

int MapOptions(UnicodeForm form) {
  switch (form) {
    case UnicodeForm::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case UnicodeForm::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case UnicodeForm::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case UnicodeForm::kNfkd:
      break;
  }
  return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
}

Result<> AppendNormalized(UnicodeForm form, std::string_view text, std::string* out) {
  if (text.empty()) return {};
  utf8proc_uint8_t* made = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &made,
                                             static_cast<utf8proc_option_t>(MapOptions(form)));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  if (size < 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("normalising {} bytes: {}", text.size(), utf8proc_errmsg(size)));
  }
  out->append(reinterpret_cast<const char*>(made), static_cast<size_t>(size));
  return {};
}

bool IsComposed(std::string_view text) {
  const uint16_t* classes = CharClasses();
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    if ((classes[c.code] & kComposed) == 0) return false;
    at += c.size;
  }
  return true;
}

Changed Apply(UnicodeForm form, std::string_view text) {
  if (form == UnicodeForm::kNfc ? IsComposed(text) : IsAscii(text)) return std::nullopt;
  std::string out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    if (IsInert(c.code)) {
      auto done = AppendNormalized(form, text.substr(begin, at - begin), &out);
      if (!done) return std::unexpected(done.error());
      out.append(text.substr(at, c.size));
      begin = at + c.size;
    }
    at += c.size;
  }
  auto done = AppendNormalized(form, text.substr(begin), &out);
  if (!done) return std::unexpected(done.error());
  return out;
}

Changed Apply(Lowercase, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    at += c.size;
    if (c.code == 0x130) {  // the one letter whose lower case is two characters
      out += "i\xcc\x87";
    } else {
      AppendUtf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code))),
                 &out);
    }
  }
  return out;
}

Changed Apply(const Strip& strip, std::string_view text) {
  const uint16_t* classes = CharClasses();
  size_t begin = 0;
  size_t end = text.size();
  while (strip.left && begin < end && (classes[CharAt(text, begin).code] & kSpace) != 0) {
    begin += CharAt(text, begin).size;
  }
  while (strip.right && begin < end) {
    const size_t last = CharBefore(text, end);
    if ((classes[CharAt(text, last).code] & kSpace) == 0) break;
    end = last;
  }
  if (end - begin == text.size()) return std::nullopt;
  return std::string(text.substr(begin, end - begin));
}

Changed Apply(const Prepend& prepend, std::string_view text) {
  if (text.empty()) return std::nullopt;
  return prepend.text + std::string(text);
}

Changed Apply(const Replace& replace, std::string_view text) {
  std::vector<Span> matches;
  if (const auto* wanted = std::get_if<std::string>(&replace.wanted)) {
    FindAllText(text, *wanted, &matches);
  } else {
    const auto found = std::get<Pattern>(replace.wanted).FindAll(text, &matches);
    if (!found) return std::unexpected(found.error());
  }
  if (matches.empty()) return std::nullopt;
  std::string out;
  out.reserve(text.size() + matches.size() * replace.by.size());
  size_t at = 0;
  for (const Span& match : matches) {
    out.append(text.substr(at, match.begin - at)).append(replace.by);
    at = match.end;
  }
  out.append(text.substr(at));
  return out;
}

}  // namespace

bool Normalizer::AllowsCuts() const {
  return std::ranges::all_of(steps_, [](const NormalizerStep& step) {
    if (std::holds_alternative<Strip>(step)) return false;
    const auto* replace = std::get_if<Replace>(&step);
    if (replace == nullptr) return true;
    const auto* wanted = std::get_if<std::string>(&replace->wanted);
    return wanted != nullptr && *wanted == " ";
  });
}

Result<std::string_view> Normalizer::Apply(std::string_view text, TextStart start,
                                           std::string* scratch) const {
  for (const NormalizerStep& step : steps_) {
    if (start == TextStart::kContinuation && std::holds_alternative<Prepend>(step)) continue;
    Changed changed = std::visit([&](const auto& s) { return tokens::Apply(s, text); }, step);
    if (!changed) return std::unexpected(changed.error());
    if (!*changed) continue;
    *scratch = *std::move(*changed);
    text = *scratch;
  }
  return text;
}

}  // namespace penstock::tokens
