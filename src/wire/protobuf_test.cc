#include "wire/protobuf.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace penstock::wire {
namespace {

std::string Bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int value : values) out.push_back(static_cast<char>(value));
  return out;
}

TEST(ProtoReader, ReadsEveryTypeOfField) {
  const std::string message = Bytes({0x08, 0x96, 0x01}) + Bytes({0x11, 1, 0, 0, 0, 0, 0, 0, 0x80}) +
                              Bytes({0x1A, 3, 'a', 'b', 'c'}) + Bytes({0x25, 1, 2, 0, 0x80}) +
                              Bytes({0xA8, 0x06, 0x00});
  ProtoReader reader(message);
  ProtoField field;
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is(1, ProtoType::kVarint));
  EXPECT_EQ(field.value, 150u);
  EXPECT_EQ(field.begin, 0u);
  EXPECT_EQ(field.end, 3u);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is(2, ProtoType::kFixed64));
  EXPECT_EQ(field.value, 0x8000000000000001u);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is(3, ProtoType::kBytes));
  EXPECT_EQ(field.bytes, "abc");
  EXPECT_EQ(field.begin, 12u);
  EXPECT_EQ(field.length_begin, 13u);
  EXPECT_EQ(field.end, 17u);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is(4, ProtoType::kFixed32));
  EXPECT_EQ(field.value, 0x80000201u);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is(101, ProtoType::kVarint));
  EXPECT_FALSE(reader.Next(&field));
  EXPECT_TRUE(reader.ok());
}

TEST(ProtoReader, NamesWhatIsMalformed) {
  struct Case {
    std::string message;
    std::string_view complaint;
  };
  for (const Case& c : {
           Case{Bytes({0x08}), "a number that is cut off, at byte 1"},
           Case{Bytes({0x88}), "a number that is cut off, at byte 1"},
           Case{Bytes({0x08, 0x80}), "a number that is cut off, at byte 2"},
           Case{Bytes({0x08}) + std::string(11, '\x80'), "a number of more than ten bytes, at"},
           Case{Bytes({0x11, 1, 2, 3}), "a number that is cut off, at byte 1"},
           Case{Bytes({0x15, 1, 2, 3}), "a number that is cut off, at byte 1"},
           Case{Bytes({0x0A, 4, 'a'}), "a length that goes beyond the end, at byte 2"},
           Case{Bytes({0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}),
                "a length that goes beyond the end"},
           Case{Bytes({0x00, 0x00}), "a field number out of range, at byte 1"},
           Case{Bytes({0x80, 0x80, 0x80, 0x80, 0x10, 0x00}), "a field number out of range"},
           Case{Bytes({0x0B, 0x0C}), "a field of an unknown type, at byte 1"},
           Case{Bytes({0x0E}), "a field of an unknown type"},
       }) {
    ProtoReader reader(c.message);
    ProtoField field;
    while (reader.Next(&field)) {
    }
    ASSERT_FALSE(reader.ok()) << c.complaint;
    EXPECT_EQ(reader.Complaint().substr(0, c.complaint.size()), c.complaint);
    EXPECT_FALSE(reader.Next(&field));
  }
}

RC_GTEST_PROP(ProtoReader, ReadsPackedNumbersAsWritten, (const std::vector<uint64_t>& numbers)) {
  std::string packed;
  size_t bytes = 0;
  for (const uint64_t number : numbers) {
    AppendVarint(number, &packed);
    bytes += VarintSize(number);
  }
  RC_ASSERT(packed.size() == bytes);
  std::vector<uint64_t> read;
  ProtoReader reader(packed);
  for (uint64_t number = 0; reader.NextPacked(&number);) read.push_back(number);
  RC_ASSERT(reader.ok());
  RC_ASSERT(read == numbers);
}

TEST(AppendVarint, WritesTheShortestForm) {
  for (const uint64_t value : {uint64_t{0}, uint64_t{127}, uint64_t{128}, UINT64_MAX}) {
    std::string out;
    AppendVarint(value, &out);
    EXPECT_EQ(out.size(), VarintSize(value));
  }
  EXPECT_EQ(VarintSize(0), 1u);
  EXPECT_EQ(VarintSize(127), 1u);
  EXPECT_EQ(VarintSize(128), 2u);
  EXPECT_EQ(VarintSize(UINT64_MAX), 10u);
}

TEST(ProtoWriter, WritesTheDocumentsExamples) {
  std::string out = "before";
  {
    ProtoWriter writer(&out);
    writer.Varint(1, 150);
    writer.Bytes(2, "testing");
  }
  EXPECT_EQ(out, "before" + Bytes({0x08, 0x96, 0x01, 0x12, 0x07}) + "testing");
  out.clear();
  {
    ProtoWriter writer(&out);
    const size_t mark = writer.Begin(3);
    writer.Varint(1, 150);
    writer.End(mark);
  }
  EXPECT_EQ(out, Bytes({0x1a, 0x83, 0x80, 0x80, 0x00, 0x08, 0x96, 0x01})) << "a length of 4 bytes";
}

TEST(ProtoWriter, WritesEveryTypeOfField) {
  std::string out;
  {
    ProtoWriter writer(&out);
    writer.Real(1, -2.5);
    writer.Flag(3, true);
    writer.Varint((1U << 29) - 1, UINT64_MAX);
    writer.Bytes(5, std::string_view());
    writer.BytesAhead(4, 3);
  }
  out += "abc";
  ProtoReader reader(out);
  ProtoField field;
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.real(), -2.5);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is(3, ProtoType::kVarint));
  EXPECT_EQ(field.value, 1u);
  EXPECT_EQ(field.real(), 0);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is((1U << 29) - 1, ProtoType::kVarint));
  EXPECT_EQ(field.value, UINT64_MAX);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_TRUE(field.Is(5, ProtoType::kBytes) && field.bytes.empty());
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.bytes, "abc");
  EXPECT_FALSE(reader.Next(&field));
  EXPECT_TRUE(reader.ok());
}

RC_GTEST_PROP(ProtoWriter, IsReadBack,
              (const std::vector<std::pair<uint16_t, std::string>>& fields)) {
  std::string out;
  {
    ProtoWriter writer(&out);
    const size_t mark = writer.Begin(1);
    for (const auto& [number, text] : fields) writer.Bytes(number + 1u, text);
    writer.End(mark);
  }
  ProtoReader outer(out);
  ProtoField field;
  RC_ASSERT(outer.Next(&field));
  ProtoReader inner(field.bytes);
  for (const auto& [number, text] : fields) {
    RC_ASSERT(inner.Next(&field));
    RC_ASSERT(field.Is(number + 1u, ProtoType::kBytes));
    RC_ASSERT(field.bytes == text);
  }
  RC_ASSERT(!inner.Next(&field));
  RC_ASSERT(inner.ok());
}

}  // namespace
}  // namespace penstock::wire
