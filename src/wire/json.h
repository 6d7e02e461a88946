// Writes JSON text, valid whatever bytes the strings hold: control characters are escaped and
// every byte that is not part of valid UTF-8 becomes U+FFFD.
//
//   std::string out;
//   JsonWriter json(&out);
//   json.BeginObject().Field("name", pool).Key("loads").BeginArray().Value(3).Value(0.5);
//   json.EndArray().EndObject();
//
// The caller keeps the order right (a key before every value of an object, as many ends as begins).
//
// THREADS: belongs to its caller. OWNS: nothing; appends to a string of the caller.
// SOURCE: RFC 8259.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::wire {

// The offset of the first byte that is not part of valid UTF-8, or text.size().
size_t ValidUtf8Length(std::string_view text);

// Appends `text` as a JSON string with its quotes.
void AppendJsonString(std::string_view text, std::string* out);

class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}

  JsonWriter& BeginObject() { return Begin('{'); }
  JsonWriter& EndObject() { return End('}'); }
  JsonWriter& BeginArray() { return Begin('['); }
  JsonWriter& EndArray() { return End(']'); }
  JsonWriter& Key(std::string_view key);

  JsonWriter& Value(std::string_view text);
  JsonWriter& Value(const char* text) { return Value(std::string_view(text)); }
  JsonWriter& Value(const std::string& text) { return Value(std::string_view(text)); }
  JsonWriter& Value(bool value) { return Raw(value ? "true" : "false"); }
  // The shortest text that reads back as the same number; null when it is not finite.
  JsonWriter& Value(double value);
  template <std::integral T>
  JsonWriter& Value(T value) {
    if constexpr (std::signed_integral<T>) {
      return Signed(value);
    } else {
      return Unsigned(value);
    }
  }
  JsonWriter& Null() { return Raw("null"); }
  // REQUIRES: `json` is one valid JSON value.
  JsonWriter& Raw(std::string_view json);

  template <class T>
  JsonWriter& Field(std::string_view key, const T& value) {
    return Key(key).Value(value);
  }

 private:
  JsonWriter& Begin(char bracket);
  JsonWriter& End(char bracket);
  JsonWriter& Signed(int64_t value);
  JsonWriter& Unsigned(uint64_t value);
  void Comma();

  std::string* out_;
  bool follows_value_ = false;  // the next key or element needs a comma
};

}  // namespace penstock::wire
