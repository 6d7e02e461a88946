#include <gtest/gtest.h>
#include <sentencepiece_trainer.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tokens/tokenizer.h"

namespace penstock::tokens {
namespace {

std::string TrainedModel() {
  const std::string folder = ::testing::TempDir() + "penstock_sentencepiece";
  std::filesystem::create_directories(folder);
  std::ofstream lines(folder + "/lines.txt");
  for (int i = 0; i < 200; ++i) lines << "hello world, the number " << i << " is here again\n";
  lines.close();
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      "--input=" + folder + "/lines.txt --model_prefix=" + folder +
      "/tiny --vocab_size=320 --model_type=bpe --byte_fallback=true --hard_vocab_limit=false "
      "--minloglevel=2");
  EXPECT_TRUE(status.ok()) << status.ToString();
  return folder + "/tiny.model";
}

TEST(SentencePieceTokenizer, EncodesWithControlSymbolsCutOut) {
  const auto loaded = Tokenizer::Load(TrainedModel());
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  const Tokenizer& tokenizer = **loaded;
  std::vector<uint32_t> tokens;
  ASSERT_TRUE(
      tokenizer.Encode("hello world</s>hello \u00e9", SpecialTokens::kAdd, &tokens).has_value());
  EXPECT_EQ(tokens[0], 1U);  // <s>
  EXPECT_EQ(tokenizer.Decode(tokens), "<s> hello world</s> hello \u00e9");
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 2U), 1);
  std::vector<Cut> cuts;
  tokens.clear();
  ASSERT_TRUE(tokenizer.EncodeFrom("hello</s>the", 0, false, &tokens, &cuts).has_value());
  ASSERT_EQ(cuts.size(), 1U);
  EXPECT_EQ(cuts[0].offset, 9U);
}

TEST(SentencePieceTokenizer, WhatIsNoModelIsRefused) {
  const std::string path = ::testing::TempDir() + "penstock_no.model";
  std::ofstream(path) << "no model";
  EXPECT_FALSE(Tokenizer::Load(path).has_value());
}

}  // namespace
}  // namespace penstock::tokens
