#include "wire/msgpack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace penstock::wire {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Bytes(const json& value) {
  const std::vector<uint8_t> bytes = json::to_msgpack(value);
  return {bytes.begin(), bytes.end()};
}

// What the reader sees, as nlohmann's value.
json Read(MsgpackReader& in) {
  uint32_t size = 0;
  uint64_t bits = 0;
  double real = 0;
  bool flag = false;
  std::string_view text;
  switch (in.Peek()) {
    case MsgpackKind::kNil:
      return in.ReadNil() ? json() : json("bad");
    case MsgpackKind::kBool:
      return in.ReadBool(&flag) ? json(flag) : json("bad");
    case MsgpackKind::kInteger:
      return in.ReadInteger(&bits) ? json(bits) : json("bad");
    case MsgpackKind::kFloat:
      return in.ReadFloat(&real) ? json(real) : json("bad");
    case MsgpackKind::kString:
      return in.ReadString(&text) ? json(std::string(text)) : json("bad");
    case MsgpackKind::kBytes:
      return in.ReadBytes(&text) ? json::binary({text.begin(), text.end()}) : json("bad");
    case MsgpackKind::kArray: {
      json array = json::array();
      if (!in.ReadArray(&size)) return "bad";
      for (uint32_t i = 0; i < size; ++i) array.push_back(Read(in));
      return array;
    }
    case MsgpackKind::kMap: {
      json map = json::object();
      if (!in.ReadMap(&size)) return "bad";
      for (uint32_t i = 0; i < size; ++i) {
        if (!in.ReadString(&text)) return "bad";
        map[std::string(text)] = Read(in);
      }
      return map;
    }
    default:
      return "bad";
  }
}

void Write(const json& value, MsgpackWriter& out) {
  switch (value.type()) {
    case json::value_t::null:
      return out.Nil();
    case json::value_t::boolean:
      return out.Bool(value.get<bool>());
    case json::value_t::number_unsigned:
      return out.Uint(value.get<uint64_t>());
    case json::value_t::number_float:
      return out.Float(value.get<double>());
    case json::value_t::string:
      return out.String(value.get<std::string>());
    case json::value_t::binary: {
      const auto& bytes = value.get_binary();
      return out.Bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    case json::value_t::array:
      out.Array(static_cast<uint32_t>(value.size()));
      for (const json& element : value) Write(element, out);
      return;
    case json::value_t::object:
      out.Map(static_cast<uint32_t>(value.size()));
      for (const auto& [key, element] : value.items()) {
        out.String(key);
        Write(element, out);
      }
      return;
    default:
      FAIL();
  }
}

json Arbitrary(int depth) {
  switch (*rc::gen::inRange(0, depth == 0 ? 6 : 8)) {
    case 0:
      return {};
    case 1:
      return *rc::gen::arbitrary<bool>();
    case 2:
      return *rc::gen::arbitrary<uint64_t>() >> *rc::gen::inRange(0, 64);
    case 3:
      return static_cast<double>(*rc::gen::arbitrary<int32_t>()) / 8;
    case 4:
      return std::string(static_cast<size_t>(*rc::gen::element(0, 1, 31, 32, 255, 256, 70'000)),
                         'x');
    case 5:
      return json::binary(*rc::gen::arbitrary<std::vector<uint8_t>>());
    case 6: {
      json array = json::array();
      for (int n = *rc::gen::element(0, 3, 15, 16, 40); n > 0; --n)
        array.push_back(Arbitrary(depth - 1));
      return array;
    }
    default: {
      json map = json::object();
      for (int n = *rc::gen::element(0, 2, 17); n > 0; --n)
        map[std::to_string(n)] = Arbitrary(depth - 1);
      return map;
    }
  }
}

TEST(Msgpack, ReadsAndWritesAsAnotherImplementationDoes) {
  EXPECT_TRUE(rc::check([] {
    const json value = Arbitrary(3);
    const std::string bytes = Bytes(value);
    MsgpackReader in(bytes);
    RC_ASSERT(Read(in) == value);
    RC_ASSERT(in.at_end());
    MsgpackReader skipping(bytes);
    RC_ASSERT(skipping.Skip());
    RC_ASSERT(skipping.at_end());
    std::string out;
    MsgpackWriter writer(&out);
    Write(value, writer);
    RC_ASSERT(json::from_msgpack(out) == value);
  }));
}

TEST(Msgpack, KeepsTheBitsOfNegativeNumbers) {
  for (const int64_t value :
       {int64_t{-1}, int64_t{-32}, int64_t{-33}, int64_t{-129}, int64_t{-40'000},
        int64_t{-3'000'000'000}, std::numeric_limits<int64_t>::min()}) {
    const std::string bytes = Bytes(value);
    MsgpackReader in(bytes);
    uint64_t bits = 0;
    ASSERT_TRUE(in.ReadInteger(&bits)) << value;
    EXPECT_EQ(static_cast<int64_t>(bits), value);
    in.SetBack(0);
    double real = 0;
    ASSERT_TRUE(in.ReadFloat(&real));
    EXPECT_EQ(real, static_cast<double>(value));
  }
}

TEST(Msgpack, TakesNumbersInBulk) {
  const std::vector<uint32_t> numbers = {0, 127, 128, 255, 256, 65'535, 65'536, 4'294'967'295, 7};
  const std::string bytes = Bytes(numbers);
  MsgpackReader in(bytes);
  uint32_t size = 0;
  std::vector<uint32_t> read = {1};
  ASSERT_TRUE(in.ReadArray(&size));
  ASSERT_TRUE(in.AppendUint32s(size, &read));
  EXPECT_TRUE(in.at_end());
  EXPECT_THAT(read, ElementsAre(1, 0, 127, 128, 255, 256, 65'535, 65'536, 4'294'967'295, 7));

  const std::string wide = Bytes(std::vector<uint64_t>{1, 4'294'967'296});
  MsgpackReader refusing(wide);
  ASSERT_TRUE(refusing.ReadArray(&size));
  EXPECT_FALSE(refusing.AppendUint32s(size, &read));
  EXPECT_THAT(refusing.Complaint(), HasSubstr("beyond 32 bits"));
}

TEST(Msgpack, BelievesNoLengthBeyondItsBytes) {
  // An array, a map, a string and bytes of 2^32 - 1; an extension that is cut off.
  for (const std::string_view bytes :
       {std::string_view("\xdd\xff\xff\xff\xff", 5), std::string_view("\xdf\xff\xff\xff\xff", 5),
        std::string_view("\xdb\xff\xff\xff\xff", 5), std::string_view("\xc6\xff\xff\xff\xff", 5),
        std::string_view("\xc9\xff\xff\xff\xff", 5), std::string_view("\xcf\x01", 2),
        std::string_view("\xc1", 1), std::string_view("\x91", 1), std::string_view("", 0)}) {
    MsgpackReader in(bytes);
    EXPECT_FALSE(in.Skip());
    EXPECT_FALSE(in.ok());
    EXPECT_THAT(in.Complaint(), HasSubstr(", at byte "));
  }
  std::vector<uint32_t> numbers;
  MsgpackReader in("\x01\x02");
  EXPECT_FALSE(in.AppendUint32s(4'000'000'000, &numbers));
  EXPECT_TRUE(numbers.empty());
}

TEST(Msgpack, GoesNoDeeperThanItsBound) {
  const std::string nested = std::string(MsgpackReader::kMaxDepth, '\x91') + '\x01';
  EXPECT_TRUE(MsgpackReader(nested).Skip());
  const std::string deeper = '\x91' + nested;
  MsgpackReader in(deeper);
  EXPECT_FALSE(in.Skip());
  EXPECT_THAT(in.Complaint(), HasSubstr("too deeply"));
}

TEST(Msgpack, FailsUntilSetBack) {
  const std::string bytes = Bytes(json::array({1, "a"}));
  MsgpackReader in(bytes);
  std::string_view text;
  uint32_t size = 0;
  EXPECT_FALSE(in.ReadString(&text));
  EXPECT_FALSE(in.ReadArray(&size)) << "nothing is read after a mistake";
  in.SetBack(0);
  EXPECT_TRUE(in.ReadArray(&size));
  EXPECT_EQ(size, 2u);
}

}  // namespace
}  // namespace penstock::wire
