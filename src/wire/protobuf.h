// The wire format of protocol buffers, field by field: reading makes views of the bytes, writing
// appends to a string. For messages of which a few fields matter and that are mostly payload, where
// generated classes would copy everything twice.
//
// THREADS: belongs to its caller. COST: reading is one pass over the tags; nothing is allocated.
// SOURCE: protobuf.dev/programming-guides/encoding.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::wire {

// Passes the fields of one message in the order in which they stand.
//
//   for (ProtoReader fields(bytes); fields.Next();) { switch (fields.number()) ... }
//
// A field of another type than expected yields 0 or "". Groups, which proto3 does not have, and
// whatever is cut short are malformed.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view bytes) : rest_(bytes) {}

  // False at the end of the message and when it is malformed.
  bool Next();
  bool malformed() const { return malformed_; }

  uint32_t number() const { return number_; }  // of the field, 1 and up
  // The value of a bool, an enumeration, an integer that is neither sint nor fixed.
  uint64_t varint() const { return type_ == Type::kVarint ? value_ : 0; }
  bool flag() const { return varint() != 0; }
  double real() const;  // of a double
  // Of a string, bytes or message; a view of the bytes that are read.
  std::string_view bytes() const { return type_ == Type::kBytes ? bytes_ : std::string_view(); }

 private:
  enum class Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  bool TakeVarint(uint64_t* out);
  bool Fail();

  std::string_view rest_;
  uint32_t number_ = 0;
  Type type_ = Type::kVarint;
  uint64_t value_ = 0;
  std::string_view bytes_;
  bool malformed_ = false;
};

// Appends fields to a string. Lengths of nested messages are written in four bytes, padded as any
// reader of the format takes it, because they are known when the message is.
class ProtoWriter {
 public:
  explicit ProtoWriter(std::string* out) : out_(*out) {}

  void Varint(uint32_t number, uint64_t value);
  void Flag(uint32_t number, bool value) { Varint(number, value ? 1 : 0); }
  void Real(uint32_t number, double value);
  void Bytes(uint32_t number, std::string_view value);
  // The begin of `size` bytes that the caller appends.
  void BytesAhead(uint32_t number, size_t size);
  // A nested message: its fields are written between the two. REQUIRES: less than 256 MiB of them.
  size_t Begin(uint32_t number);
  void End(size_t mark);

 private:
  void Raw(uint64_t value);

  std::string& out_;
};

}  // namespace penstock::wire
