#include "wire/protobuf.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <vector>

namespace penstock::wire {
namespace {

using namespace std::string_view_literals;

TEST(Protobuf, ReadsTheDocumentsExamples) {
  // Test1 {a: 150}, Test2 {b: "testing"}, Test3 {c {a: 150}} of the encoding guide.
  ProtoReader a("\x08\x96\x01"sv);
  ASSERT_TRUE(a.Next());
  EXPECT_EQ(a.number(), 1u);
  EXPECT_EQ(a.varint(), 150u);
  EXPECT_FALSE(a.Next());
  EXPECT_FALSE(a.malformed());
  ProtoReader b("\x12\x07testing"sv);
  ASSERT_TRUE(b.Next());
  EXPECT_EQ(b.bytes(), "testing");
  EXPECT_EQ(b.varint(), 0u);
  ProtoReader c("\x1a\x03\x08\x96\x01"sv);
  ASSERT_TRUE(c.Next());
  EXPECT_EQ(c.number(), 3u);
  EXPECT_EQ(c.bytes(), "\x08\x96\x01"sv);
}

TEST(Protobuf, WritesTheDocumentsExamples) {
  std::string out;
  ProtoWriter writer(&out);
  writer.Varint(1, 150);
  writer.Bytes(2, "testing");
  EXPECT_EQ(out, "\x08\x96\x01\x12\x07testing"sv);
  out.clear();
  const size_t mark = writer.Begin(3);
  writer.Varint(1, 150);
  writer.End(mark);
  EXPECT_EQ(out, "\x1a\x83\x80\x80\x00\x08\x96\x01"sv);  // a length of four bytes
  ProtoReader reader(out);
  ASSERT_TRUE(reader.Next());
  EXPECT_EQ(reader.bytes(), "\x08\x96\x01"sv);
}

TEST(Protobuf, PassesFieldsOfEveryType) {
  std::string out;
  ProtoWriter writer(&out);
  writer.Real(1, -2.5);
  out += "\x15\x01\x00\x00\x00"sv;  // field 2, fixed32
  writer.Flag(3, true);
  writer.Varint(4, std::numeric_limits<uint64_t>::max());
  ProtoReader reader(out);
  ASSERT_TRUE(reader.Next());
  EXPECT_EQ(reader.real(), -2.5);
  EXPECT_EQ(reader.bytes(), "");
  ASSERT_TRUE(reader.Next());
  EXPECT_EQ(reader.number(), 2u);
  EXPECT_EQ(reader.varint(), 0u);
  EXPECT_EQ(reader.real(), 0);
  ASSERT_TRUE(reader.Next());
  EXPECT_TRUE(reader.flag());
  ASSERT_TRUE(reader.Next());
  EXPECT_EQ(reader.varint(), std::numeric_limits<uint64_t>::max());
  EXPECT_FALSE(reader.Next());
  EXPECT_FALSE(reader.malformed());
}

TEST(Protobuf, SaysWhatIsMalformed) {
  for (const std::string_view bytes :
       {"\x08"sv, "\x08\xff"sv, "\x0a\x05hell"sv, "\x00\x01"sv, "\x0b"sv, "\x0c"sv, "\x0e"sv,
        "\x09\x01"sv, "\x0d\x01"sv, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"sv,
        "\xff\xff\xff\xff\xff\x01\x01"sv}) {
    ProtoReader reader(bytes);
    while (reader.Next()) {
    }
    EXPECT_TRUE(reader.malformed());
    EXPECT_FALSE(reader.Next());
  }
}

RC_GTEST_PROP(Protobuf, ReadsBackWhatItWrote,
              (const std::vector<std::pair<uint16_t, std::string>>& fields)) {
  std::string out;
  ProtoWriter writer(&out);
  const size_t mark = writer.Begin(1);
  for (const auto& [number, text] : fields) writer.Bytes(number + 1u, text);
  for (const auto& [number, text] : fields) writer.Varint(number + 1u, text.size());
  writer.End(mark);
  ProtoReader outer(out);
  RC_ASSERT(outer.Next());
  ProtoReader inner(outer.bytes());
  for (const auto& [number, text] : fields) {
    RC_ASSERT(inner.Next());
    RC_ASSERT(inner.number() == number + 1u);
    RC_ASSERT(inner.bytes() == text);
  }
  for (const auto& [number, text] : fields) {
    RC_ASSERT(inner.Next());
    RC_ASSERT(inner.varint() == text.size());
  }
  RC_ASSERT(!inner.Next());
  RC_ASSERT(!inner.malformed());
}

}  // namespace
}  // namespace penstock::wire
