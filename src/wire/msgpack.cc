#include "wire/msgpack.h"

#include <bit>
#include <limits>

namespace penstock::wire {

bool MsgpackReader::Fail(const char* mistake) {
  if (mistake_ == nullptr) mistake_ = mistake;
  return false;
}

std::string MsgpackReader::Complaint() const {
  return std::string(mistake_) + ", at byte " + std::to_string(at_);
}

MsgpackKind MsgpackReader::Peek() const {
  if (!ok()) return MsgpackKind::kInvalid;
  if (at_ == bytes_.size()) return MsgpackKind::kEnd;
  const auto tag = static_cast<uint8_t>(bytes_[at_]);
  if (tag < 0x80 || tag >= 0xe0) return MsgpackKind::kInteger;
  if (tag < 0x90) return MsgpackKind::kMap;
  if (tag < 0xa0) return MsgpackKind::kArray;
  if (tag < 0xc0) return MsgpackKind::kString;
  if (tag == 0xc0) return MsgpackKind::kNil;
  if (tag == 0xc1) return MsgpackKind::kInvalid;
  if (tag <= 0xc3) return MsgpackKind::kBool;
  if (tag <= 0xc6) return MsgpackKind::kBytes;
  if (tag <= 0xc9) return MsgpackKind::kExtension;
  if (tag <= 0xcb) return MsgpackKind::kFloat;
  if (tag <= 0xd3) return MsgpackKind::kInteger;
  if (tag <= 0xd8) return MsgpackKind::kExtension;
  if (tag <= 0xdb) return MsgpackKind::kString;
  if (tag <= 0xdd) return MsgpackKind::kArray;
  return MsgpackKind::kMap;
}

bool MsgpackReader::Number(size_t bytes, uint64_t* value) {
  if (bytes > bytes_.size() - at_) return Fail("a value that is cut off");
  uint64_t result = 0;
  for (size_t i = 0; i < bytes; ++i) {
    result = result << 8 | static_cast<uint8_t>(bytes_[at_ + i]);
  }
  at_ += bytes;
  *value = result;
  return true;
}

bool MsgpackReader::Take(size_t size, std::string_view* out) {
  if (size > bytes_.size() - at_) return Fail("a text that is cut off");
  *out = bytes_.substr(at_, size);
  at_ += size;
  return true;
}

bool MsgpackReader::ReadNil() {
  if (Peek() != MsgpackKind::kNil) return Fail("something where nil should be");
  ++at_;
  return true;
}

bool MsgpackReader::ReadBool(bool* value) {
  if (Peek() != MsgpackKind::kBool) return Fail("no boolean where one should be");
  *value = bytes_[at_++] == '\xc3';
  return true;
}

bool MsgpackReader::ReadInteger(uint64_t* bits) {
  if (Peek() != MsgpackKind::kInteger) return Fail("no integer where one should be");
  const auto tag = static_cast<uint8_t>(bytes_[at_++]);
  if (tag < 0x80) {
    *bits = tag;
    return true;
  }
  if (tag >= 0xe0) {
    *bits = static_cast<uint64_t>(static_cast<int8_t>(tag));
    return true;
  }
  const size_t bytes = size_t{1} << (tag & 3);
  if (!Number(bytes, bits)) return false;
  if (tag >= 0xd0 && bytes < 8 && (*bits >> (8 * bytes - 1) & 1) != 0) {
    *bits |= ~uint64_t{0} << (8 * bytes);
  }
  return true;
}

bool MsgpackReader::ReadFloat(double* value) {
  if (Peek() == MsgpackKind::kInteger) {
    const bool is_signed = static_cast<uint8_t>(bytes_[at_]) >= 0xd0;
    uint64_t bits = 0;
    if (!ReadInteger(&bits)) return false;
    *value =
        is_signed ? static_cast<double>(static_cast<int64_t>(bits)) : static_cast<double>(bits);
    return true;
  }
  if (Peek() != MsgpackKind::kFloat) return Fail("no number where one should be");
  const bool is_double = bytes_[at_++] == '\xcb';
  uint64_t bits = 0;
  if (!Number(is_double ? 8 : 4, &bits)) return false;
  *value = is_double ? std::bit_cast<double>(bits)
                     : static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  return true;
}

bool MsgpackReader::Text(uint8_t fix_mask, uint8_t fix, uint8_t tag8, std::string_view* value) {
  const auto tag = static_cast<uint8_t>(bytes_[at_++]);
  uint64_t size = tag & 0x1f;
  if (fix_mask == 0 || (tag & fix_mask) != fix) {
    if (!Number(size_t{1} << (tag - tag8), &size)) return false;
  }
  return Take(size, value);
}

bool MsgpackReader::ReadString(std::string_view* value) {
  if (Peek() != MsgpackKind::kString) return Fail("no string where one should be");
  return Text(0xe0, 0xa0, 0xd9, value);
}

bool MsgpackReader::ReadBytes(std::string_view* value) {
  if (Peek() != MsgpackKind::kBytes) return Fail("no bytes where some should be");
  return Text(0, 0, 0xc4, value);
}

bool MsgpackReader::Container(uint8_t fix, uint8_t tag16, uint32_t* size) {
  const auto tag = static_cast<uint8_t>(bytes_[at_++]);
  uint64_t n = tag & 0x0f;
  if ((tag & 0xf0) != fix && !Number(tag == tag16 ? 2 : 4, &n)) return false;
  // Each element has a byte at least.
  if (n > bytes_.size() - at_) return Fail("a list that is longer than its bytes");
  *size = static_cast<uint32_t>(n);
  return true;
}

bool MsgpackReader::ReadArray(uint32_t* size) {
  if (Peek() != MsgpackKind::kArray) return Fail("no array where one should be");
  return Container(0x90, 0xdc, size);
}

bool MsgpackReader::ReadMap(uint32_t* size) {
  if (Peek() != MsgpackKind::kMap) return Fail("no map where one should be");
  return Container(0x80, 0xde, size);
}

bool MsgpackReader::AppendUint32s(uint32_t count, std::vector<uint32_t>* out) {
  if (!ok()) return false;
  // Each has a byte at least, so no more is reserved than there may be.
  if (count > bytes_.size() - at_) return Fail("a list that is longer than its bytes");
  const size_t before = out->size();
  out->resize(before + count);
  uint32_t* to = out->data() + before;
  const auto* const begin = reinterpret_cast<const uint8_t*>(bytes_.data());
  const uint8_t* at = begin + at_;
  const uint8_t* const end = begin + bytes_.size();
  for (uint32_t* const last = to + count; to != last; ++to) {
    // The forms that token ids come in, with the longest in reach.
    if (end - at >= 5) {
      const uint8_t tag = *at;
      if (tag < 0x80) {
        *to = tag;
        at += 1;
        continue;
      }
      if (tag == 0xcd) {
        *to = uint32_t{at[1]} << 8 | at[2];
        at += 3;
        continue;
      }
      if (tag == 0xce) {
        *to = uint32_t{at[1]} << 24 | uint32_t{at[2]} << 16 | uint32_t{at[3]} << 8 | at[4];
        at += 5;
        continue;
      }
    }
    at_ = static_cast<size_t>(at - begin);
    uint64_t value = 0;
    if (!ReadInteger(&value)) return false;
    if (value > std::numeric_limits<uint32_t>::max()) return Fail("a number beyond 32 bits");
    *to = static_cast<uint32_t>(value);
    at = begin + at_;
  }
  at_ = static_cast<size_t>(at - begin);
  return true;
}

bool MsgpackReader::Skip(int depth) {
  uint32_t size = 0;
  std::string_view text;
  uint64_t number = 0;
  double real = 0;
  switch (Peek()) {
    case MsgpackKind::kEnd:
      return Fail("a value that is missing");
    case MsgpackKind::kInvalid:
      return Fail("a byte that begins no value");
    case MsgpackKind::kNil:
    case MsgpackKind::kBool:
      ++at_;
      return true;
    case MsgpackKind::kInteger:
      return ReadInteger(&number);
    case MsgpackKind::kFloat:
      return ReadFloat(&real);
    case MsgpackKind::kString:
      return ReadString(&text);
    case MsgpackKind::kBytes:
      return ReadBytes(&text);
    case MsgpackKind::kExtension: {
      const auto tag = static_cast<uint8_t>(bytes_[at_++]);
      uint64_t bytes = 0;
      if (tag >= 0xd4) {
        bytes = uint64_t{1} << (tag - 0xd4);
      } else if (!Number(size_t{1} << (tag - 0xc7), &bytes)) {
        return false;
      }
      return Take(bytes + 1, &text);  // and its type
    }
    case MsgpackKind::kArray:
    case MsgpackKind::kMap:
      break;
  }
  if (depth == 0) return Fail("lists nested too deeply");
  const bool is_map = Peek() == MsgpackKind::kMap;
  if (!(is_map ? ReadMap(&size) : ReadArray(&size))) return false;
  for (uint64_t i = 0; i < (is_map ? 2ULL : 1ULL) * size; ++i) {
    if (!Skip(depth - 1)) return false;
  }
  return true;
}

void MsgpackWriter::Tagged(uint8_t tag, uint64_t value, size_t bytes) {
  out_ += static_cast<char>(tag);
  for (size_t i = bytes; i-- > 0;) out_ += static_cast<char>(value >> (8 * i));
}

void MsgpackWriter::Uint(uint64_t value) {
  if (value < 0x80) return Tagged(static_cast<uint8_t>(value), 0, 0);
  if (value <= 0xff) return Tagged(0xcc, value, 1);
  if (value <= 0xffff) return Tagged(0xcd, value, 2);
  if (value <= 0xffffffff) return Tagged(0xce, value, 4);
  Tagged(0xcf, value, 8);
}

void MsgpackWriter::Float(double value) { Tagged(0xcb, std::bit_cast<uint64_t>(value), 8); }

void MsgpackWriter::String(std::string_view value) {
  const size_t n = value.size();
  if (n < 32) {
    Tagged(static_cast<uint8_t>(0xa0 | n), 0, 0);
  } else if (n <= 0xff) {
    Tagged(0xd9, n, 1);
  } else if (n <= 0xffff) {
    Tagged(0xda, n, 2);
  } else {
    Tagged(0xdb, n, 4);
  }
  out_ += value;
}

void MsgpackWriter::Bytes(std::string_view value) {
  const size_t n = value.size();
  if (n <= 0xff) {
    Tagged(0xc4, n, 1);
  } else if (n <= 0xffff) {
    Tagged(0xc5, n, 2);
  } else {
    Tagged(0xc6, n, 4);
  }
  out_ += value;
}

void MsgpackWriter::Array(uint32_t size) {
  if (size < 16) return Tagged(static_cast<uint8_t>(0x90 | size), 0, 0);
  if (size <= 0xffff) return Tagged(0xdc, size, 2);
  Tagged(0xdd, size, 4);
}

void MsgpackWriter::Map(uint32_t size) {
  if (size < 16) return Tagged(static_cast<uint8_t>(0x80 | size), 0, 0);
  if (size <= 0xffff) return Tagged(0xde, size, 2);
  Tagged(0xdf, size, 4);
}

}  // namespace penstock::wire
