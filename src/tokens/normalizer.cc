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

Changed Apply(UnicodeForm form, std::string_view text) {
  if (IsAscii(text)) return std::nullopt;
  constexpr auto kDecomposed = UTF8PROC_DECOMPOSE;
  constexpr auto kComposed = UTF8PROC_COMPOSE;
  constexpr auto kCompatible = UTF8PROC_COMPAT;
  int options = UTF8PROC_STABLE;
  switch (form) {
    case UnicodeForm::kNfc:
      options |= kComposed;
      break;
    case UnicodeForm::kNfd:
      options |= kDecomposed;
      break;
    case UnicodeForm::kNfkc:
      options |= kComposed | kCompatible;
      break;
    case UnicodeForm::kNfkd:
      options |= kDecomposed | kCompatible;
      break;
  }
  utf8proc_uint8_t* made = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &made,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  if (size < 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("normalising {} bytes: {}", text.size(), utf8proc_errmsg(size)));
  }
  return std::string(reinterpret_cast<const char*>(made), static_cast<size_t>(size));
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
