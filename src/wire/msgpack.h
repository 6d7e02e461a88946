// MessagePack in memory: a reader that pulls value by value, without a tree, copies or allocation,
// and a writer that appends to a string.
//
//   MsgpackReader in(bytes);
//   uint32_t n;
//   if (!in.ReadArray(&n)) return in.Complaint();
//   for (uint32_t i = 0; i < n; ++i) if (!in.Skip()) ...
//
// A Read that finds another kind of value fails, and so does all that follows, until the reader is
// set back to a position that was good. Lengths are believed only as far as there are bytes.
//
// THREADS: belongs to its caller. OWNS: nothing; views point into the bytes.
// COST: 2 to 7 ns a number. SOURCE: the MessagePack specification (spec.md, 2021).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::wire {

enum class MsgpackKind : uint8_t {
  kEnd,      // no bytes are left
  kInvalid,  // 0xc1, or a mistake before
  kNil,
  kBool,
  kInteger,
  kFloat,
  kString,
  kBytes,
  kArray,
  kMap,
  kExtension,
};

class MsgpackReader {
 public:
  // Arrays and maps in each other. SOURCE: docs/design/0005-exact-caches.md.
  static constexpr int kMaxDepth = 8;

  explicit MsgpackReader(std::string_view bytes) : bytes_(bytes) {}

  MsgpackKind Peek() const;

  // False when the next value is of another kind, or cut off.
  bool ReadNil();
  bool ReadBool(bool* value);
  // Signed or not: its 64 bits.
  bool ReadInteger(uint64_t* bits);
  // Integers count, too.
  bool ReadFloat(double* value);
  bool ReadString(std::string_view* value);
  bool ReadBytes(std::string_view* value);
  // The elements are read one by one; of a map each key, then its value.
  bool ReadArray(uint32_t* size);
  bool ReadMap(uint32_t* size);
  // Appends that many integers. False at the first that is none or no uint32.
  bool AppendUint32s(uint32_t count, std::vector<uint32_t>* out);
  // Leaves out the next value with all that is in it; fails beyond kMaxDepth.
  bool Skip() { return Skip(kMaxDepth); }

  size_t position() const { return at_; }
  // Back to where the reader was good; a mistake since then is forgotten.
  void SetBack(size_t position) {
    at_ = position;
    mistake_ = nullptr;
  }
  bool ok() const { return mistake_ == nullptr; }
  bool at_end() const { return ok() && at_ == bytes_.size(); }
  // "a string where an array should be, at byte 17". REQUIRES: !ok().
  std::string Complaint() const;

 private:
  bool Fail(const char* mistake);
  // Big-endian.
  bool Number(size_t bytes, uint64_t* value);
  bool Take(size_t size, std::string_view* out);
  bool Skip(int depth);
  // The tag's length field, of strings and bytes alike.
  bool Text(uint8_t fix_mask, uint8_t fix, uint8_t tag8, std::string_view* value);
  bool Container(uint8_t fix, uint8_t tag16, uint32_t* size);

  std::string_view bytes_;
  size_t at_ = 0;
  const char* mistake_ = nullptr;
};

// Appends values in their shortest form.
class MsgpackWriter {
 public:
  explicit MsgpackWriter(std::string* out) : out_(*out) {}

  void Nil() { out_ += '\xc0'; }
  void Bool(bool value) { out_ += value ? '\xc3' : '\xc2'; }
  void Uint(uint64_t value);
  void Float(double value);
  void String(std::string_view value);
  void Bytes(std::string_view value);
  // The caller appends that many values; of a map keys and values in turn.
  void Array(uint32_t size);
  void Map(uint32_t size);

 private:
  void Tagged(uint8_t tag, uint64_t value, size_t bytes);

  std::string& out_;
};

}  // namespace penstock::wire
