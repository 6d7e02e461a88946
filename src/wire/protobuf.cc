#include "wire/protobuf.h"

#include <bit>
#include <cassert>
#include <cstring>

namespace penstock::wire {
namespace {

constexpr size_t kLengthBytes = 4;
constexpr size_t kMaxNested = (size_t{1} << (7 * kLengthBytes)) - 1;

}  // namespace

bool ProtoReader::Fail() {
  malformed_ = true;
  rest_ = {};
  return false;
}

bool ProtoReader::TakeVarint(uint64_t* out) {
  uint64_t value = 0;
  for (size_t i = 0; i < rest_.size() && i < 10; ++i) {
    const auto byte = static_cast<uint8_t>(rest_[i]);
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      rest_.remove_prefix(i + 1);
      *out = value;
      return true;
    }
  }
  return false;
}

bool ProtoReader::Next() {
  if (rest_.empty()) return false;
  uint64_t tag = 0;
  if (!TakeVarint(&tag) || tag >> 32 != 0 || tag >> 3 == 0) return Fail();
  number_ = static_cast<uint32_t>(tag >> 3);
  type_ = static_cast<Type>(tag & 7);
  switch (type_) {
    case Type::kVarint:
      return TakeVarint(&value_) || Fail();
    case Type::kBytes: {
      uint64_t size = 0;
      if (!TakeVarint(&size) || size > rest_.size()) return Fail();
      bytes_ = rest_.substr(0, size);
      rest_.remove_prefix(size);
      return true;
    }
    case Type::kFixed64:
    case Type::kFixed32: {
      const size_t size = type_ == Type::kFixed64 ? 8 : 4;
      if (rest_.size() < size) return Fail();
      value_ = 0;
      std::memcpy(&value_, rest_.data(), size);
      rest_.remove_prefix(size);
      return true;
    }
  }
  return Fail();
}

double ProtoReader::real() const {
  return type_ == Type::kFixed64 ? std::bit_cast<double>(value_) : 0;
}

void ProtoWriter::Raw(uint64_t value) {
  while (value >= 0x80) {
    out_.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out_.push_back(static_cast<char>(value));
}

void ProtoWriter::Varint(uint32_t number, uint64_t value) {
  Raw(uint64_t{number} << 3);
  Raw(value);
}

void ProtoWriter::Real(uint32_t number, double value) {
  Raw(uint64_t{number} << 3 | 1);
  char bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));
  out_.append(bytes, sizeof(bytes));
}

void ProtoWriter::BytesAhead(uint32_t number, size_t size) {
  Raw(uint64_t{number} << 3 | 2);
  Raw(size);
}

void ProtoWriter::Bytes(uint32_t number, std::string_view value) {
  BytesAhead(number, value.size());
  out_.append(value);
}

size_t ProtoWriter::Begin(uint32_t number) {
  Raw(uint64_t{number} << 3 | 2);
  out_.append(kLengthBytes, '\0');
  return out_.size();
}

void ProtoWriter::End(size_t mark) {
  size_t size = out_.size() - mark;
  assert(size <= kMaxNested);
  for (size_t i = 0; i < kLengthBytes; ++i, size >>= 7) {
    out_[mark - kLengthBytes + i] =
        static_cast<char>((size & 0x7f) | (i + 1 < kLengthBytes ? 0x80 : 0));
  }
}

static_assert(std::endian::native == std::endian::little, "fixed fields are copied as they are");

}  // namespace penstock::wire
