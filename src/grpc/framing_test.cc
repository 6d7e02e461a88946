#include "grpc/framing.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <vector>

namespace penstock::grpc {
namespace {

using Next = MessageReader::Next;

RC_GTEST_PROP(MessageReader, FindsTheMessagesHoweverTheyAreCut, ()) {
  const auto messages = *rc::gen::container<std::vector<std::string>>(
      rc::gen::container<std::string>(rc::gen::arbitrary<char>()));
  std::string bytes;
  for (const std::string& message : messages) AppendMessage(message, &bytes);
  MessageReader reader(1 << 20);
  std::vector<std::string> found;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const size_t size = *rc::gen::inRange<size_t>(1, rest.size() + 1);
    // A copy of its own, so that a view that outlives it is found.
    const std::string piece(rest.substr(0, size));
    rest.remove_prefix(size);
    reader.Feed(piece);
    std::string_view message;
    Next next;
    while ((next = reader.Take(&message)) == Next::kMessage) found.emplace_back(message);
    RC_ASSERT(next == Next::kMore);
  }
  RC_ASSERT(found == messages);
  RC_ASSERT(reader.is_between());
}

TEST(MessageReader, ACutMessageIsNotBetween) {
  for (const size_t size : {1, 4, 5, 7}) {
    std::string bytes;
    AppendMessage("abc", &bytes);
    MessageReader reader(100);
    const std::string piece = bytes.substr(0, size);
    reader.Feed(piece);
    std::string_view message;
    EXPECT_EQ(reader.Take(&message), Next::kMore) << size;
    EXPECT_FALSE(reader.is_between()) << size;
  }
}

TEST(MessageReader, RefusesWhatIsCompressedOrTooLarge) {
  std::string_view message;
  MessageReader reader(10);
  reader.Feed(std::string_view("\1\0\0\0\0", 5));
  EXPECT_EQ(reader.Take(&message), Next::kCompressed);
  MessageReader other(10);
  other.Feed(std::string_view("\0\0\0\0\x0b", 5));
  EXPECT_EQ(other.Take(&message), Next::kTooLarge);
  // What is announced binds no memory.
  MessageReader large(size_t{1} << 32);
  large.Feed(std::string_view("\0\xff\xff\xff\xff abc", 9));
  EXPECT_EQ(large.Take(&message), Next::kMore);
  EXPECT_LT(large.buffered_bytes(), 1000U);
}

TEST(ParseTimeout, TakesWhatTheProtocolSays) {
  EXPECT_EQ(ParseTimeout("100m"), milliseconds(100));
  EXPECT_EQ(ParseTimeout("5S"), seconds(5));
  EXPECT_EQ(ParseTimeout("99999999n"), Duration(99'999'999));
  EXPECT_EQ(ParseTimeout("2M"), seconds(120));
  EXPECT_EQ(ParseTimeout("0u"), Duration(0));
  EXPECT_EQ(ParseTimeout("99999999H"), std::chrono::hours(24 * 365));
  for (const char* bad : {"", "5", "S", "5s", "-5S", "5.5S", "123456789S", "5 S"}) {
    EXPECT_FALSE(ParseTimeout(bad)) << bad;
  }
}

TEST(EncodeMessage, EscapesWhatIsNotPrintable) {
  EXPECT_EQ(EncodeMessage("no 50% of\n\xc3\xa9"), "no 50%25 of%0A%C3%A9");
}

}  // namespace
}  // namespace penstock::grpc
