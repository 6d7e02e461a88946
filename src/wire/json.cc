#include "wire/json.h"

#include <charconv>
#include <cmath>
#include <cstring>

namespace penstock::wire {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool IsContinuation(unsigned char c) { return (c & 0xC0) == 0x80; }

// The length of the UTF-8 sequence at the front of `s`, or 0 when it is not valid (RFC 3629: no
// overlong forms, no surrogates, nothing above U+10FFFF). REQUIRES: s is not empty.
size_t SequenceLength(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(i < s.size() ? s[i] : 0); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;
  if (!IsContinuation(byte(1))) return 0;
  if (first < 0xE0) return 2;
  if (first < 0xF0) {
    if (first == 0xE0 && byte(1) < 0xA0) return 0;
    if (first == 0xED && byte(1) > 0x9F) return 0;
    return IsContinuation(byte(2)) ? 3 : 0;
  }
  if (first > 0xF4) return 0;
  if (first == 0xF0 && byte(1) < 0x90) return 0;
  if (first == 0xF4 && byte(1) > 0x8F) return 0;
  return IsContinuation(byte(2)) && IsContinuation(byte(3)) ? 4 : 0;
}

void AppendControl(unsigned char c, std::string* out) {
  switch (c) {
    case '\n':
      *out += "\\n";
      return;
    case '\r':
      *out += "\\r";
      return;
    case '\t':
      *out += "\\t";
      return;
    default:
      constexpr std::string_view kHex = "0123456789abcdef";
      *out += "\\u00";
      *out += kHex[c >> 4];
      *out += kHex[c & 15];
  }
}

}  // namespace

size_t ValidUtf8Length(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (text.size() - at >= sizeof(eight)) {
      std::memcpy(&eight, text.data() + at, sizeof(eight));
      if ((eight & 0x8080808080808080) == 0) {
        at += sizeof(eight);
        continue;
      }
    }
    const size_t length = SequenceLength(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return at;
}

void AppendJsonString(std::string_view text, std::string* out) {
  out->reserve(out->size() + text.size() + 2);
  *out += '"';
  size_t plain = 0;  // where the run begins that is copied as it stands
  size_t at = 0;
  const auto flush = [&] { out->append(text, plain, at - plain); };
  while (at < text.size()) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      ++at;
      continue;
    }
    const size_t length = SequenceLength(text.substr(at));
    if (length > 1) {
      at += length;
      continue;
    }
    flush();
    if (length == 0) {
      *out += kReplacement;
    } else if (c < 0x20) {
      AppendControl(c, out);
    } else {
      *out += '\\';
      *out += static_cast<char>(c);
    }
    plain = ++at;
  }
  flush();
  *out += '"';
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  Comma();
  AppendJsonString(key, out_);
  *out_ += ':';
  follows_value_ = false;
  return *this;
}

JsonWriter& JsonWriter::Value(std::string_view text) {
  Comma();
  AppendJsonString(text, out_);
  follows_value_ = true;
  return *this;
}

JsonWriter& JsonWriter::Value(double value) {
  if (!std::isfinite(value)) return Null();
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return Raw({text, static_cast<size_t>(end - text)});
}

JsonWriter& JsonWriter::Signed(int64_t value) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return Raw({text, static_cast<size_t>(end - text)});
}

JsonWriter& JsonWriter::Unsigned(uint64_t value) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  return Raw({text, static_cast<size_t>(end - text)});
}

JsonWriter& JsonWriter::Raw(std::string_view json) {
  Comma();
  *out_ += json;
  follows_value_ = true;
  return *this;
}

JsonWriter& JsonWriter::Begin(char bracket) {
  Comma();
  *out_ += bracket;
  follows_value_ = false;
  return *this;
}

JsonWriter& JsonWriter::End(char bracket) {
  *out_ += bracket;
  follows_value_ = true;
  return *this;
}

void JsonWriter::Comma() {
  if (follows_value_) *out_ += ',';
}

}  // namespace penstock::wire
