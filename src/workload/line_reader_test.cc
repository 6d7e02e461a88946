#include "workload/line_reader.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace penstock::workload {
namespace {

using Next = LineReader::Next;

std::vector<std::string> All(LineReader reader) {
  std::vector<std::string> out;
  std::string_view line;
  for (;;) {
    switch (reader.Read(&line)) {
      case Next::kLine:
        out.emplace_back(line);
        break;
      case Next::kTooLong:
        out.emplace_back("too long at " + std::to_string(reader.number()));
        break;
      default:
        return out;
    }
  }
}

std::vector<std::string> LinesOf(std::string_view text) {
  return All(LineReader::OfText(text, "t"));
}

TEST(LineReader, EndsOfLinesAndOfTheFile) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(LinesOf(""), Lines{});
  EXPECT_EQ(LinesOf("a"), Lines{"a"});
  EXPECT_EQ(LinesOf("a\n"), Lines{"a"});
  EXPECT_EQ(LinesOf("a\r\nb\n\nc"), (Lines{"a", "b", "", "c"}));
  EXPECT_EQ(LinesOf("\xef\xbb\xbfid\n\xef\xbb\xbf"), (Lines{"id", "\xef\xbb\xbf"}));
  EXPECT_EQ(LinesOf(std::string_view("a\0b\n", 4)), Lines{std::string("a\0b", 3)});
}

TEST(LineReader, ALineBeyondTheLimitIsPassedOver) {
  const std::string fits(LineReader::kMaxLineBytes, 'x');
  EXPECT_EQ(LinesOf("a\n" + fits + "\nb\n"), (std::vector<std::string>{"a", fits, "b"}));
  const std::string more(5 * LineReader::kMaxLineBytes + 17, 'x');
  const std::vector<std::string> passed{"a", "too long at 2", "b"};
  EXPECT_EQ(LinesOf("a\n" + more + "\nb\n"), passed);
  EXPECT_EQ(LinesOf("a\n" + fits + "x\nb"), passed);
  EXPECT_EQ(LinesOf("a\n" + more), (std::vector<std::string>{"a", "too long at 2"}));
  EXPECT_EQ(LinesOf("a\n" + more + "\n"), (std::vector<std::string>{"a", "too long at 2"}));
}

RC_GTEST_PROP(LineReader, JoinedLinesAreTheText, ()) {
  const auto lines = *rc::gen::container<std::vector<std::string>>(
      rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab ,{}"))));
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  RC_ASSERT(LinesOf(text) == lines);
}

TEST(LineReader, ReadsFilesAsText) {
  const std::string path = testing::TempDir() + "lines.txt";
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += std::to_string(i * 7919) + "\n";
  std::ofstream(path) << text;
  auto reader = LineReader::Open(path);
  ASSERT_TRUE(reader.has_value()) << reader.error().message;
  EXPECT_EQ(All(std::move(*reader)), LinesOf(text));
  std::remove(path.c_str());
}

TEST(LineReader, SaysWhatCannotBeRead) {
  EXPECT_EQ(LineReader::Open("./no/such").error().code, Code::kNotFound);
  EXPECT_EQ(LineReader::Open("/tmp").error().code, Code::kInvalidArgument);
  EXPECT_EQ(LineReader::Open("/dev/null").error().message, "/dev/null: is not a file");
}

}  // namespace
}  // namespace penstock::workload
