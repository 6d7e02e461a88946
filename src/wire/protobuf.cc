#include "wire/protobuf.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

namespace penstock::wire {
namespace {

constexpr uint32_t kMaxFieldNumber = (1u << 29) - 1;
constexpr size_t kMaxNested = (size_t{1} << 28) - 1;  // a length of four bytes

}  // namespace

bool ProtoReader::Fail(const char* mistake) {
  if (mistake_ == nullptr) mistake_ = mistake;
  return false;
}

std::string ProtoReader::Complaint() const {
  return std::string(mistake_) + ", at byte " + std::to_string(at_);
}

bool ProtoReader::LongVarint(uint64_t* value) {
  uint64_t result = 0;
  for (uint32_t shift = 0; shift < 70; shift += 7) {
    if (at_ == message_.size()) return Fail("a number that is cut off");
    const auto byte = static_cast<unsigned char>(message_[at_++]);
    if (shift < 64) result |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) {
      *value = result;
      return true;
    }
  }
  return Fail("a number of more than ten bytes");
}

bool ProtoReader::NextOfAny(ProtoField* field) {
  if (!ok() || at_ == message_.size()) return false;
  field->begin = at_;
  uint64_t tag = 0;
  if (!Varint(&tag)) return false;
  if (tag >> 3 == 0 || tag >> 3 > kMaxFieldNumber) return Fail("a field number out of range");
  field->number = static_cast<uint32_t>(tag >> 3);
  field->length_begin = at_;
  field->value = 0;
  field->bytes = {};
  const auto type = static_cast<ProtoType>(tag & 7);
  field->type = type;
  if (type == ProtoType::kBytes) {
    uint64_t size = 0;
    if (!Varint(&size)) return false;
    if (size > message_.size() - at_) return Fail("a length that goes beyond the end");
    field->bytes = {message_.data() + at_, size};
    at_ += size;
    field->end = at_;
    return true;
  }
  size_t fixed_bytes = 0;
  if (type == ProtoType::kVarint) {
    if (!Varint(&field->value)) return false;
  } else if (type == ProtoType::kFixed64) {
    fixed_bytes = 8;
  } else if (type == ProtoType::kFixed32) {
    fixed_bytes = 4;
  } else {
    return Fail("a field of an unknown type");
  }
  if (fixed_bytes > message_.size() - at_) return Fail("a number that is cut off");
  for (size_t i = 0; i < fixed_bytes; ++i) {
    field->value |= uint64_t{static_cast<unsigned char>(message_[at_ + i])} << (8 * i);
  }
  at_ += fixed_bytes;
  field->end = at_;
  return true;
}

bool ProtoReader::NextPacked(uint64_t* value) {
  return ok() && at_ < message_.size() && Varint(value);
}

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void ProtoWriter::Grow(size_t bytes) {
  constexpr size_t kFirstBytes = 512;
  out_.resize(std::max({at_ + bytes, 2 * out_.size(), out_.size() + kFirstBytes}));
}

void ProtoWriter::End(size_t mark) {
  const size_t size = at_ - mark;
  assert(size <= kMaxNested);
  const auto length =
      static_cast<uint32_t>((size & 0x7f) | (size << 1 & 0x7f00) | (size << 2 & 0x7f0000) |
                            (size << 3 & 0x7f000000) | 0x808080);
  static_assert(sizeof(length) == kLengthBytes);
  std::memcpy(out_.data() + mark - kLengthBytes, &length, kLengthBytes);
}

static_assert(std::endian::native == std::endian::little, "numbers are copied as they are");

}  // namespace penstock::wire
