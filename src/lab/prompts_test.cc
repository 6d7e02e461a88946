#include "lab/prompts.h"

#include <gtest/gtest.h>

namespace penstock::lab {
namespace {

using workload::Job;
using workload::Piece;

std::string Bytes(std::vector<Piece> pieces) {
  std::string bytes;
  RenderPrompt(pieces, &bytes);
  return bytes;
}

size_t Common(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  size_t n = 0;
  while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
  return n;
}

TEST(RenderPrompt, EqualPiecesAreEqualBytesAsFarAsTheyGo) {
  EXPECT_EQ(Bytes({{1, 100}}).size(), 400u);
  EXPECT_EQ(Bytes({{1, 100}}).substr(0, 40), Bytes({{1, 10}}));
  EXPECT_EQ(Bytes({{1, 10}, {2, 5}}).substr(40), Bytes({{2, 5}}));
  EXPECT_NE(Bytes({{1, 1}}), Bytes({{2, 1}}));
  EXPECT_EQ(Bytes({}), "");
}

TEST(BlockHashes, PrefixesShareWholeBlocksOnly) {
  Job first{.prompt = {{7, 40}, {8, 10}}, .output_tokens = 20, .output_content = 9};
  Job second{.prompt = {{7, 40}, {10, 10}}, .output_tokens = 20, .output_content = 11};
  const auto a = BlockHashes(first, 16, 1);
  const auto b = BlockHashes(second, 16, 1);
  EXPECT_EQ(a.size(), 4u);  // 70 tokens
  EXPECT_EQ(Common(a, b), 2u);
  EXPECT_EQ(Common(a, BlockHashes(first, 16, 2)), 0u) << "another adapter";
}

TEST(BlockHashes, ATurnHoldsPromptAndAnswerOfTheOneBefore) {
  Job first{.prompt = {{7, 40}}, .output_tokens = 25, .output_content = 9};
  Job second{.prompt = {{7, 40}, {9, 25}, {12, 30}}, .output_tokens = 1, .output_content = 13};
  EXPECT_EQ(Common(BlockHashes(first, 16, 1), BlockHashes(second, 16, 1)), 4u);  // 65 / 16
}

TEST(BlockHashes, OtherOrdersAndOffsetsAreOtherText) {
  Job first{.prompt = {{1, 8}, {2, 8}}};
  Job second{.prompt = {{2, 8}, {1, 8}}};
  EXPECT_EQ(Common(BlockHashes(first, 16, 1), BlockHashes(second, 16, 1)), 0u);
  Job cut{.prompt = {{1, 24}}};
  EXPECT_EQ(Common(BlockHashes(first, 8, 1), BlockHashes(cut, 8, 1)), 1u);
}

}  // namespace
}  // namespace penstock::lab
