#include "extproc/messages.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "wire/protobuf.h"

namespace penstock::extproc {
namespace {

// An entry of a HeaderMap, plain or as few write it.
struct Entry {
  std::string name, value, raw;
  int extras = 0;  // 1: a field of the header that nobody knows; 2: one of the map
  bool is_backwards = false;
};

Entry AnyEntry() {
  const auto text = [](int longest) {
    return *rc::gen::resize(*rc::gen::inRange(0, longest), rc::gen::string<std::string>());
  };
  const int longest = *rc::gen::element(4, 40, 400);
  const int which = *rc::gen::inRange(0, 4);
  return {text(longest), which == 0 ? "" : text(longest), which == 1 ? "" : text(longest),
          *rc::gen::weightedElement<int>({{8, 0}, {1, 1}, {1, 2}}),
          *rc::gen::weightedElement<bool>({{8, false}, {1, true}})};
}

void Write(const Entry& entry, std::string* map) {
  std::string bytes;
  const auto value = [&] {
    if (!entry.value.empty()) wire::ProtoWriter(&bytes).Bytes(2, entry.value);
    if (!entry.raw.empty()) wire::ProtoWriter(&bytes).Bytes(3, entry.raw);
  };
  if (entry.is_backwards) value();
  if (!entry.name.empty()) wire::ProtoWriter(&bytes).Bytes(1, entry.name);
  if (!entry.is_backwards) value();
  if (entry.extras == 1) wire::ProtoWriter(&bytes).Varint(9, 1);
  if (entry.extras == 2) wire::ProtoWriter(map).Varint(9, 1);
  wire::ProtoWriter(map).Bytes(1, bytes);
}

std::string Message(const std::string& map) {
  std::string inner, message;
  wire::ProtoWriter(&inner).Bytes(1, map);
  wire::ProtoWriter(&message).Bytes(2, inner);
  return message;
}

RC_GTEST_PROP(Messages, HeadersAreReadHoweverTheyAreWritten, ()) {
  std::string map;
  std::vector<std::pair<std::string, std::string>> expected, seen;
  for (int left = *rc::gen::inRange(0, 8); left > 0; --left) {
    const Entry entry = AnyEntry();
    Write(entry, &map);
    expected.emplace_back(entry.name, entry.raw.empty() ? entry.value : entry.raw);
  }
  const std::string message = Message(map);
  Incoming incoming;
  RC_ASSERT(ReadIncoming(message, &incoming));
  for (const model::HeaderView& h : incoming.headers) {
    seen.emplace_back(h.name, h.value);
    for (const std::string_view text : {h.name, h.value}) {
      RC_ASSERT(text.empty() ||
                (text.data() >= incoming.head.data() &&
                 text.data() + text.size() <= incoming.head.data() + incoming.head.size()));
    }
  }
  RC_ASSERT(seen == expected);
  // What is cut short is refused, and nothing beyond it is read.
  if (map.empty()) return;
  const std::string cut = map.substr(0, *rc::gen::inRange<size_t>(0, map.size()));
  const std::string shorter = Message(cut);
  if (ReadIncoming(shorter, &incoming)) RC_ASSERT(incoming.headers.size() <= expected.size());
}

TEST(Messages, HeadersOfTwoMapsAreAllThere) {
  std::string first, second, inner, message;
  Write({"a", "", "1"}, &first);
  Write({"b", "", "2"}, &second);
  wire::ProtoWriter(&inner).Bytes(1, first);
  wire::ProtoWriter(&inner).Bytes(1, second);
  wire::ProtoWriter(&message).Bytes(2, inner);
  Incoming incoming;
  ASSERT_TRUE(ReadIncoming(message, &incoming));
  ASSERT_EQ(incoming.headers.size(), 2u);
  EXPECT_EQ(incoming.headers[0].name, "a");
  EXPECT_EQ(incoming.headers[1].value, "2");
  EXPECT_EQ(incoming.head.data(), incoming.headers[0].name.data() - 4);
  EXPECT_EQ(incoming.head.data() + incoming.head.size(),
            incoming.headers[1].value.data() + incoming.headers[1].value.size());
}

TEST(Messages, ALengthBeyondTheHeaderIsRefused) {
  // The value's length reaches one byte beyond its entry, into the next one's tag.
  const std::string map("\x0a\x06\x0a\x01n\x1a\x02v\x0a\x06\x0a\x01n\x1a\x01v", 16);
  Incoming incoming;
  EXPECT_FALSE(ReadIncoming(Message(map), &incoming));
}

}  // namespace
}  // namespace penstock::extproc
