#include "traffic/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace penstock::traffic {
namespace {

using testing::ElementsAre;

std::vector<std::string> Read(const std::vector<std::string_view>& pieces) {
  std::vector<std::string> events;
  SseReader reader([&](std::string_view data) { events.emplace_back(data); });
  for (const std::string_view piece : pieces) reader.Feed(piece);
  return events;
}

constexpr std::string_view kStream =
    ": a comment\n"
    "data: {\"a\":1}\n\n"
    "event: x\r\ndata:two\r\nid: 7\r\n\r\n"
    "data: first\rdata: second\r\r"
    "data\n\n"
    "database: no\n\n"
    "\n\n"
    "data: [DONE]\n\n"
    "data: never ended\n";

TEST(SseReader, ReadsEveryLineEndAndJoinsLines) {
  EXPECT_THAT(Read({kStream}), ElementsAre("{\"a\":1}", "two", "first\nsecond", "", "[DONE]"));
}

TEST(SseReader, WhereItIsCutMakesNoDifference) {
  const std::vector<std::string> whole = Read({kStream});
  for (size_t cut = 0; cut <= kStream.size(); ++cut) {
    EXPECT_EQ(Read({kStream.substr(0, cut), kStream.substr(cut)}), whole) << "cut at " << cut;
  }
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < kStream.size(); ++i) bytes.push_back(kStream.substr(i, 1));
  EXPECT_EQ(Read(bytes), whole);
}

TEST(SseReader, AnEventWithoutEndIsNotKept) {
  std::vector<std::string> events;
  SseReader reader([&](std::string_view data) { events.emplace_back(data); });
  const std::string line = "data: " + std::string(1000, 'x') + "\n";
  for (size_t bytes = 0; bytes < 2 * SseReader::kMaxEventBytes; bytes += line.size()) {
    reader.Feed(line);
  }
  EXPECT_TRUE(reader.is_broken());
  reader.Feed("\n\ndata: more\n\n");
  EXPECT_TRUE(events.empty());
}

}  // namespace
}  // namespace penstock::traffic
