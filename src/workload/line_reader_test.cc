#include "workload/line_reader.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <zstd.h>

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

std::string Compressed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

std::string InFile(const std::string& bytes) {
  const std::string path = ::testing::TempDir() + "line_reader_test.zst";
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

TEST(LineReader, ReadsWhatZstandardHasCompressed) {
  std::string text;
  std::vector<std::string> lines;
  for (int i = 0; i < 50'000; ++i) {
    lines.push_back("line " + std::to_string(int64_t{i} * i));
    text += lines.back() + "\n";
  }
  // Two streams, one behind the other, as `cat` makes them; far more text than bytes.
  const std::string both = Compressed(text) + Compressed(text);
  auto reader = LineReader::Open(InFile(both));
  ASSERT_TRUE(reader);
  std::vector<std::string> twice = lines;
  twice.insert(twice.end(), lines.begin(), lines.end());
  EXPECT_EQ(All(std::move(*reader)), twice);
}

TEST(LineReader, CompressedDataThatBreaksOffOrIsDamaged) {
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += "line " + std::to_string(int64_t{i} * i) + "\n";
  const std::string bytes = Compressed(text);
  const auto last = [](const std::string& path) {
    auto reader = LineReader::Open(path);
    std::string_view line;
    Next next = Next::kLine;
    while (next == Next::kLine) next = reader->Read(&line);
    return std::pair(next, reader->error());
  };
  EXPECT_EQ(last(InFile(bytes.substr(0, bytes.size() / 2))).first, Next::kCutOff);
  const auto damaged = last(InFile(bytes.substr(0, 4) + std::string(100, '\xff')));
  EXPECT_EQ(damaged.first, Next::kUnreadable);
  EXPECT_NE(damaged.second.find("cannot be decompressed"), std::string::npos);
}

}  // namespace
}  // namespace penstock::workload
