#include "api/usage_finder.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "wire/json_scan.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace penstock::api {
namespace {

bool IsBracketOrQuote(char c) { return c == '"' || c == '{' || c == '}' || c == '[' || c == ']'; }

// The first quote, brace or bracket in [at, end), or end.
const char* FindBracketOrQuote(const char* at, const char* end) {
#ifdef __SSE2__
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i lower = _mm_set1_epi8(0x20);  // makes a brace of a bracket
  const __m128i open = _mm_set1_epi8('{');
  const __m128i close = _mm_set1_epi8('}');
  while (end - at >= 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i folded = _mm_or_si128(bytes, lower);
    const __m128i stops =
        _mm_or_si128(_mm_cmpeq_epi8(bytes, quote),
                     _mm_or_si128(_mm_cmpeq_epi8(folded, open), _mm_cmpeq_epi8(folded, close)));
    const auto mask = static_cast<uint32_t>(_mm_movemask_epi8(stops));
    if (mask != 0) return at + std::countr_zero(mask);
    at += 16;
  }
#endif
  return std::find_if(at, end, IsBracketOrQuote);
}

}  // namespace

void UsageFinder::NextText() {
  level_ = 0;
  done_ = false;
  ignored_depth_ = 0;
  in_string_ = after_backslash_ = at_value_ = keeps_word_ = false;
  key_ = Key::kNone;
  number_kind_ = Number::kNone;
}

void UsageFinder::Feed(std::string_view piece) {
  const char* at = piece.data();
  const char* const end = at + piece.size();
  while (at != end && !done_) {
    if (in_string_) {
      at = PassString(at, end);
    } else if (ignored_depth_ > 0) {
      at = PassIgnored(at, end);
    } else {
      Take(*at++);
    }
  }
}

const char* UsageFinder::PassString(const char* at, const char* end) {
  if (after_backslash_) {
    after_backslash_ = false;
    return at + 1;
  }
  const char* const stop = wire::FindStringStop(at, end);
  if (keeps_word_) {
    const auto size = static_cast<size_t>(stop - at);
    if (word_size_ + size > word_.size()) {
      keeps_word_ = false;
    } else {
      std::memcpy(word_.data() + word_size_, at, size);
      word_size_ = static_cast<uint8_t>(word_size_ + size);
    }
  }
  if (stop == end) return end;
  if (*stop == '"') {
    EndString();
  } else {
    after_backslash_ = *stop == '\\';
    keeps_word_ = false;
  }
  return stop + 1;
}

const char* UsageFinder::PassIgnored(const char* at, const char* end) {
  const char* const stop = FindBracketOrQuote(at, end);
  if (stop == end) return end;
  if (*stop == '"') {
    in_string_ = true;
    keeps_word_ = false;
  } else if (*stop == '{' || *stop == '[') {
    ++ignored_depth_;
  } else {
    --ignored_depth_;
  }
  return stop + 1;
}

void UsageFinder::Take(char c) {
  switch (c) {
    case '"':
      BeginString();
      return;
    case ':':
      at_value_ = true;
      return;
    case ',':
      EndNumber();
      at_value_ = false;
      key_ = Key::kNone;
      return;
    case '{':
    case '[':
      Open(c);
      return;
    case '}':
    case ']':
      EndNumber();
      Close();
      return;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
      EndNumber();
      return;
    default:
      TakeNumber(c);
  }
}

void UsageFinder::Open(char bracket) {
  if (at_value_ && key_ == Key::kError) saw_error_ = true;
  Where inner = Where::kOutside;
  if (bracket == '{') {
    if (where() == Where::kOutside) inner = Where::kRoot;
    if (at_value_ && key_ == Key::kUsage) inner = Where::kUsage;
    if (at_value_ && key_ == Key::kEnvelope) inner = Where::kEnvelope;
    if (at_value_ && key_ == Key::kDetails) inner = Where::kDetails;
  }
  if (inner == Where::kOutside || level_ + 1u == kMaxLevel) {
    ignored_depth_ = 1;
    return;
  }
  levels_[++level_] = inner;
  at_value_ = false;
  key_ = Key::kNone;
}

void UsageFinder::Close() {
  if (level_ > 0) --level_;
  done_ = level_ == 0;
  at_value_ = false;
  key_ = Key::kNone;
}

void UsageFinder::BeginString() {
  in_string_ = true;
  word_size_ = 0;
  keeps_word_ = where() != Where::kOutside && (!at_value_ || key_ == Key::kKind);
  if (at_value_ && key_ == Key::kError) saw_error_ = true;
}

void UsageFinder::EndString() {
  in_string_ = false;
  if (ignored_depth_ > 0) return;
  const std::string_view word(word_.data(), word_size_);
  if (!at_value_) {
    key_ = keeps_word_ ? KeyOf(word) : Key::kNone;
  } else if (keeps_word_ && key_ == Key::kKind && word == "error") {
    saw_error_ = true;
  }
}

UsageFinder::Key UsageFinder::KeyOf(std::string_view name) const {
  switch (where()) {
    case Where::kOutside:
      break;
    case Where::kRoot:
      if (name == "message" || name == "response") return Key::kEnvelope;
      if (name == "type" || name == "object") return Key::kKind;
      if (name == "meta_info") return Key::kUsage;
      [[fallthrough]];
    case Where::kEnvelope:
      if (name == "usage") return Key::kUsage;
      if (name == "error") return Key::kError;
      break;
    case Where::kUsage:
      if (name == "prompt_tokens" || name == "input_tokens") return Key::kInput;
      if (name == "completion_tokens" || name == "output_tokens") return Key::kOutput;
      if (name == "cache_read_input_tokens") return Key::kCacheRead;
      if (name == "cache_creation_input_tokens") return Key::kCacheCreated;
      if (name == "prompt_tokens_details" || name == "input_tokens_details") return Key::kDetails;
      [[fallthrough]];
    case Where::kDetails:
      if (name == "cached_tokens") return Key::kCached;
      break;
  }
  return Key::kNone;
}

void UsageFinder::TakeNumber(char c) {
  if (number_kind_ == Number::kNone) {
    number_kind_ = Number::kWhole;
    number_ = 0;
  }
  if (c < '0' || c > '9' || number_ > UINT64_MAX / 100) {
    number_kind_ = Number::kOther;
  } else {
    number_ = number_ * 10 + static_cast<uint64_t>(c - '0');
  }
}

void UsageFinder::EndNumber() {
  const bool is_count = number_kind_ == Number::kWhole && at_value_;
  number_kind_ = Number::kNone;
  if (!is_count) return;
  switch (key_) {
    case Key::kInput:
      input_ = number_;
      break;
    case Key::kOutput:
      usage_.output_tokens = number_;
      break;
    case Key::kCacheRead:
      cache_read_ = number_;
      [[fallthrough]];
    case Key::kCached:
      usage_.cached_tokens = number_;
      usage_.cached_known = true;
      break;
    case Key::kCacheCreated:
      cache_created_ = number_;
      break;
    default:
      return;
  }
  usage_.input_tokens = input_ + cache_read_ + cache_created_;
  usage_.found = true;
}

}  // namespace penstock::api
