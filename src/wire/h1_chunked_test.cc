#include "wire/h1_chunked.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace penstock::wire {
namespace {

struct Outcome {
  std::string body;
  std::string verdict;  // "end", "more" or an error's code
  std::string rest;     // behind the end
  bool operator==(const Outcome&) const = default;
};

// Decodes `text`, which arrives in the given pieces.
Outcome Decode(const std::vector<std::string_view>& pieces) {
  ChunkDecoder decoder;
  Outcome outcome{"", "more", ""};
  for (std::string_view piece : pieces) {
    if (outcome.verdict == "end") {
      outcome.rest += piece;
      continue;
    }
    if (outcome.verdict != "more") continue;
    while (true) {
      const ChunkDecoder::Step step = decoder.Next(&piece);
      if (step.state == ChunkDecoder::State::kData) {
        outcome.body += step.data;
        continue;
      }
      if (step.state == ChunkDecoder::State::kEnd) {
        outcome.verdict = "end";
        outcome.rest += piece;
      } else if (step.state == ChunkDecoder::State::kError) {
        EXPECT_FALSE(decoder.error().message.empty());
        outcome.verdict = decoder.error().code;
      }
      break;
    }
  }
  return outcome;
}

// With every cut, and byte by byte; the same each time.
Outcome DecodeCut(std::string_view text) {
  const Outcome whole = Decode({text});
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const Outcome parts = Decode({text.substr(0, cut), text.substr(cut)});
    EXPECT_EQ(parts, whole) << "cut at " << cut << " of\n" << text;
  }
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
  EXPECT_EQ(Decode(bytes), whole) << text;
  return whole;
}

struct Case {
  std::string_view text;
  std::string_view verdict;
  std::string_view body = "";
  std::string_view rest = "";
};

TEST(ChunkDecoder, ReadsAndRefuses) {
  using std::string_view_literals::operator""sv;
  const Case cases[] = {
      {"0\r\n\r\n", "end"},
      {"5\r\nhello\r\n0\r\n\r\n", "end", "hello"},
      {"5\r\nhello\r\n0\r\n\r\nGET /", "end", "hello", "GET /"},
      {"1\r\na\r\n02\r\nbc\r\n000\r\n\r\n", "end", "abc"},
      {"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "end", "01234567890123456789"},
      {"2\r\n\r\n\r\n0\r\n\r\n", "end", "\r\n"},
      {"1;a=b;c=\"d\"\r\nx\r\n0;e\r\n\r\n", "end", "x"},
      {"1\r\nx\r\n0\r\nSum: 1\r\nOther:\r\n\r\nrest", "end", "x", "rest"},
      // Not complete.
      {"", "more"},
      {"5\r\nhel", "more", "hel"},
      {"5\r\nhello\r\n0\r\n\r", "more", "hello"},
      // Sizes.
      {"\r\n", "bad_chunk_size"},
      {"g\r\n", "bad_chunk_size"},
      {"-1\r\n", "bad_chunk_size"},
      {"+1\r\nx\r\n", "bad_chunk_size"},
      {"0x1\r\nx\r\n", "bad_chunk_size"},
      {" 1\r\nx\r\n", "bad_chunk_size"},
      {"1 \r\nx\r\n", "bad_chunk_size"},
      {";a\r\nx\r\n", "bad_chunk_size"},
      {"fffffffffffffffff\r\n", "bad_chunk_size"},
      {"10000000000000000\r\n", "bad_chunk_size"},
      {"1000000000000000\r\n", "bad_chunk_size"},
      {"fffffffffffffff\r\n", "more"},
      // Ends of lines.
      {"1\nx\n0\n\n", "bad_chunk_size"},
      {"1\rx", "bad_chunk"},
      {"1;a\nx\r\n", "bad_chunk"},
      {"1;a\x01\r\nx\r\n", "bad_chunk"},
      {"1;\0\r\n"sv, "bad_chunk"},
      {"3\r\nabcdef\r\n0\r\n\r\n", "bad_chunk", "abc"},
      {"3\r\nabc0\r\n\r\n", "bad_chunk", "abc"},
      {"3\r\nabc\n0\r\n\r\n", "bad_chunk", "abc"},
      {"3\r\nabc\r0\r\n\r\n", "bad_chunk", "abc"},
      // Trailers.
      {"0\r\n a: b\r\n\r\n", "bad_trailer"},
      {"0\r\na b\r\n\r\n", "bad_trailer"},
      {"0\r\na: b\x02\r\n\r\n", "bad_trailer"},
      {"0\r\na: b\n\r\n", "bad_trailer"},
      {"0\r\na: b\r\r\n", "bad_trailer"},
      {"0\r\n\n", "bad_trailer"},
      {"0\r\n\rx", "bad_trailer"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = DecodeCut(c.text);
    EXPECT_EQ(outcome.verdict, c.verdict) << c.text;
    EXPECT_EQ(outcome.body, c.body) << c.text;
    EXPECT_EQ(outcome.rest, c.rest) << c.text;
  }
}

TEST(ChunkDecoder, OverheadIsBounded) {
  std::string text;
  while (text.size() < 2 * ChunkDecoder::kMaxExtensionBytes) text += "1;extension\r\nx\r\n";
  EXPECT_EQ(Decode({text}).verdict, "chunk_overhead");
  EXPECT_EQ(Decode({std::string(2 * ChunkDecoder::kMaxExtensionBytes, '0')}).verdict,
            "chunk_overhead");
  text = "0\r\n";
  while (text.size() < 2 * ChunkDecoder::kMaxTrailerBytes) text += "trailer: value\r\n";
  EXPECT_EQ(Decode({text}).verdict, "trailers_too_large");
  EXPECT_EQ(Decode({"0\r\nx: " + std::string(2 * ChunkDecoder::kMaxTrailerBytes, 'y')}).verdict,
            "trailers_too_large");
}

TEST(ChunkDecoder, PlainChunksHaveNoLimit) {
  std::string text, body;
  for (int i = 0; i < 50'000; ++i) text += "1\r\nx\r\n";
  const Outcome outcome = Decode({text + "0\r\n\r\n"});
  EXPECT_EQ(outcome.verdict, "end");
  EXPECT_EQ(outcome.body.size(), 50'000u);
}

TEST(ChunkDecoder, DataIsNotCopied) {
  const std::string text = "5\r\nhello\r\n";
  std::string_view input = text;
  ChunkDecoder decoder;
  const ChunkDecoder::Step step = decoder.Next(&input);
  ASSERT_EQ(step.state, ChunkDecoder::State::kData);
  EXPECT_EQ(step.data.data(), text.data() + 3);
}

TEST(ChunkDecoder, ErrorsAndEndsAreFinalUntilReset) {
  ChunkDecoder decoder;
  std::string_view input = "x";
  EXPECT_EQ(decoder.Next(&input).state, ChunkDecoder::State::kError);
  input = "0\r\n\r\n";
  EXPECT_EQ(decoder.Next(&input).state, ChunkDecoder::State::kError);
  EXPECT_EQ(input, "0\r\n\r\n");
  decoder.Reset();
  EXPECT_EQ(decoder.Next(&input).state, ChunkDecoder::State::kEnd);
  input = "more";
  EXPECT_EQ(decoder.Next(&input).state, ChunkDecoder::State::kEnd);
  EXPECT_EQ(input, "more");
}

}  // namespace
}  // namespace penstock::wire
