#include "tokens/pattern.h"

#include <fmt/format.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstring>
#include <utility>

namespace penstock::tokens {
namespace {

constexpr size_t kMaxExpressionBytes = 65536;
// Steps that one match may take; the JIT counts coarser ones.
constexpr uint32_t kMatchLimit = 10'000'000;

// White space as Unicode defines it; PCRE2's \s has U+180E as well.
constexpr std::string_view kSpaces =
    "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
    "\\x{3000}";

Error Refused(std::string_view expression, std::string_view what) {
  return {Code::kInvalidArgument, fmt::format("split expression '{}': {} is not supported",
                                              expression.substr(0, 200), what)};
}

// The expression for PCRE2. Escapes that the two dialects read in the same way pass through.
Result<std::string> Translated(std::string_view expression) {
  constexpr std::string_view kSameEscapes = "dDwWbBtnrfvpPxue0123456789";
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    const char next = i + 1 < expression.size() ? expression[i + 1] : '\0';
    if (c == '\\') {
      ++i;
      if (next == 's') {
        out += in_class ? std::string(kSpaces) : fmt::format("[{}]", kSpaces);
      } else if (next == 'S' && !in_class) {
        out += fmt::format("[^{}]", kSpaces);
      } else if (next == 'u' && expression.size() - i > 4) {
        out += fmt::format("\\x{{{}}}", expression.substr(i + 1, 4));
        i += 4;
      } else if ((next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') ||
                 (next >= '0' && next <= '9')) {
        if (kSameEscapes.find(next) == std::string_view::npos || next == 'u') {
          return std::unexpected(Refused(expression, fmt::format("\\{}", next)));
        }
        out += {'\\', next};
        const size_t end = i + 1 < expression.size() && expression[i + 1] == '{'
                               ? expression.find('}', i)
                               : std::string_view::npos;
        if (end != std::string_view::npos) {  // of \p{L} or \x{20}; no range
          out.append(expression.substr(i + 1, end - i));
          i = end;
        }
      } else {
        out += {'\\', next};
      }
      continue;
    }
    if (in_class && c == '[' && next != ':') {
      return std::unexpected(Refused(expression, "a class within a class"));
    }
    if (in_class && c == '&' && next == '&') return std::unexpected(Refused(expression, "&&"));
    if (c == '[' && !in_class) {
      in_class = true;
      out += c;
      if (next == '^') out += expression[++i];
      if (i + 1 < expression.size() && expression[i + 1] == ']') {
        return std::unexpected(Refused(expression, "']' as the first of a class"));
      }
      continue;
    }
    if (in_class && c == '[') {  // [:alpha:]
      const size_t end = expression.find(":]", i);
      if (end == std::string_view::npos) return std::unexpected(Refused(expression, "'['"));
      out.append(expression.substr(i, end + 2 - i));
      i = end + 1;
      continue;
    }
    if (c == ']') in_class = false;
    if (!in_class && c == '}' && next == '+') {
      return std::unexpected(
          Refused(expression, "'+' behind a range"));  // possessive in PCRE2 alone
    }
    out += c;
  }
  return out;
}

// What PCRE2 needs to match, one a thread.
struct MatchState {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);

  MatchState() { pcre2_set_match_limit(context, kMatchLimit); }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
  ~MatchState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

}  // namespace

struct Pattern::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Pattern::Pattern(std::string shown) : shown_(std::move(shown)), code_(std::make_unique<Code>()) {}
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

Result<Pattern> Pattern::Make(std::string_view expression) {
  if (expression.empty() || expression.size() > kMaxExpressionBytes) {
    return Fail(penstock::Code::kOutOfRange,
                fmt::format("split expression of {} bytes, 1 to {} are allowed", expression.size(),
                            kMaxExpressionBytes));
  }
  const Result<std::string> translated = Translated(expression);
  if (!translated) return std::unexpected(translated.error());
  Pattern pattern{std::string(expression.substr(0, 200))};
  int error = 0;
  size_t offset = 0;
  pattern.code_->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (pattern.code_->code == nullptr) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    return Fail(penstock::Code::kInvalidArgument,
                fmt::format("split expression '{}': {}", pattern.shown_,
                            reinterpret_cast<const char*>(text.data())));
  }
  // Without JIT (an architecture that has none) the interpreter runs it.
  pcre2_jit_compile(pattern.code_->code, PCRE2_JIT_COMPLETE);
  return pattern;
}

Result<> Pattern::FindAll(std::string_view text, std::vector<Span>* matches) const {
  thread_local MatchState state;
  size_t at = 0;
  uint32_t options = 0;
  while (at <= text.size()) {
    const int count =
        pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                    options | PCRE2_NO_UTF_CHECK, state.data, state.context);
    if (count == PCRE2_ERROR_NOMATCH) {
      if (options == 0 || at == text.size()) return {};
      options = 0;  // none but an empty one here: one character on
      at += 1;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
      continue;
    }
    if (count < 0) {
      std::array<PCRE2_UCHAR, 256> reason{};
      pcre2_get_error_message(count, reason.data(), reason.size());
      return Fail(penstock::Code::kResourceExhausted,
                  fmt::format("split expression '{}' at byte {} of a text: {}", shown_, at,
                              reinterpret_cast<const char*>(reason.data())));
    }
    const size_t* ends = pcre2_get_ovector_pointer(state.data);
    if (ends[1] > ends[0]) matches->push_back({ends[0], ends[1]});
    options = ends[1] == ends[0] ? PCRE2_NOTEMPTY_ATSTART | PCRE2_ANCHORED : 0;
    at = ends[1];
  }
  return {};
}

void FindAllText(std::string_view text, std::string_view wanted, std::vector<Span>* matches) {
  for (size_t at = 0; (at = text.find(wanted, at)) != std::string_view::npos; at += wanted.size()) {
    matches->push_back({at, at + wanted.size()});
  }
}

}  // namespace penstock::tokens
