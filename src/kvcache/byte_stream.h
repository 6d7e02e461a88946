// Numbers and texts one after the other, as snapshots have them: little-endian words, varints, and
// texts behind their length. Internal to kvcache.
//
// THREADS: belongs to its caller. Reading never goes beyond the end: what is missing reads as zeros
// and ok() says so.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wire/protobuf.h"

namespace penstock::kvcache {

static_assert(std::endian::native == std::endian::little, "words are written as they lie");

class ByteWriter {
 public:
  explicit ByteWriter(std::string* out) : out_(*out) {}

  void Byte(uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void Varint(uint64_t value) { wire::AppendVarint(value, &out_); }
  template <class T>
  void Word(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <class T>
  void Words(std::span<const T> values) {
    out_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  void Text(std::string_view text) {
    Varint(text.size());
    out_.append(text);
  }

 private:
  std::string& out_;
};

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : left_(bytes) {}

  uint8_t Byte() { return Word<uint8_t>(); }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = Byte();
      value |= uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) return value;
    }
    return Fail();
  }
  // A varint of at most `most`.
  uint64_t Varint(uint64_t most) {
    const uint64_t value = Varint();
    return value <= most ? value : Fail();
  }
  template <class T>
  T Word() {
    T value{};
    if (const std::string_view bytes = Take(sizeof value); !bytes.empty()) {
      std::memcpy(&value, bytes.data(), sizeof value);
    }
    return value;
  }
  // Appends `count` of them; none when there are not so many.
  template <class T>
  void Words(size_t count, std::vector<T>* values) {
    if (count > left_.size() / sizeof(T)) {
      Fail();
      return;
    }
    const size_t before = values->size();
    values->resize(before + count);
    if (count > 0) std::memcpy(values->data() + before, left_.data(), count * sizeof(T));
    left_.remove_prefix(count * sizeof(T));
  }
  std::string_view Text() { return Take(Varint(left_.size())); }
  std::string_view Take(size_t count) {
    if (count > left_.size()) {
      Fail();
      return {};
    }
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }

  uint64_t Fail() {
    ok_ = false;
    left_ = {};
    return 0;
  }
  bool ok() const { return ok_; }
  size_t left() const { return left_.size(); }

 private:
  std::string_view left_;
  bool ok_ = true;
};

}  // namespace penstock::kvcache
