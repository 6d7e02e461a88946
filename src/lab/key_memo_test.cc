#include "lab/key_memo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>

#include "core/random.h"
#include "kvcache/block_keys.h"
#include "lab/prompts.h"

namespace penstock::lab {
namespace {

using sched::PrefixKeys;
using workload::Piece;

constexpr uint32_t kBlock = 16;  // tokens

// What a producer of such blocks does.
void Prepare(const std::vector<Piece>& prompt, uint64_t root, PrefixKeys* keys,
             uint32_t block_size = kBlock, size_t max_blocks = SIZE_MAX) {
  std::string bytes;
  RenderPrompt(prompt, &bytes);
  const model::PromptPart part{bytes, true};
  if (keys->block_size_tokens != block_size) keys->blocks.clear();
  keys->block_size_tokens = block_size;
  kvcache::AppendBlockKeys({&part, 1}, root, block_size * model::kBytesPerToken, max_blocks,
                           &keys->blocks, &keys->sequence_ends);
}

std::vector<uint64_t> Fresh(const std::vector<Piece>& prompt, uint64_t root = 1,
                            uint32_t block_size = kBlock, size_t max_blocks = SIZE_MAX) {
  PrefixKeys keys;
  Prepare(prompt, root, &keys, block_size, max_blocks);
  return keys.blocks;
}

// By way of the memo; `recalled`: how many keys it knew.
std::vector<uint64_t> Ask(KeyMemo& memo, const std::vector<Piece>& prompt, uint64_t root = 1,
                          uint32_t block_size = kBlock, size_t max_blocks = SIZE_MAX) {
  PrefixKeys keys;
  memo.Recall(prompt, root, &keys);
  Prepare(prompt, root, &keys, block_size, max_blocks);
  memo.Remember(prompt, root, keys);
  return keys.blocks;
}

TEST(KeyMemo, ASharedBeginningIsRecalled) {
  KeyMemo memo;
  const std::vector<Piece> first = {{7, 160}, {8, 100}};
  const std::vector<Piece> second = {{7, 160}, {9, 100}};
  EXPECT_EQ(Ask(memo, first), Fresh(first));
  EXPECT_EQ(memo.recalled(), 0u);
  EXPECT_EQ(Ask(memo, second), Fresh(second));
  EXPECT_EQ(memo.recalled(), 10u);
  EXPECT_EQ(Ask(memo, first), Fresh(first));
  EXPECT_EQ(memo.recalled(), 10u + 16u) << "full blocks alone";
}

TEST(KeyMemo, ShortPiecesAreRememberedTogether) {
  KeyMemo memo;
  std::vector<Piece> turns;
  for (uint64_t turn = 1; turn <= 30; ++turn) {
    turns.push_back({turn, 10});
    EXPECT_EQ(Ask(memo, turns), Fresh(turns));
  }
  EXPECT_GT(memo.recalled(), 100u);
  EXPECT_LE(memo.keys(), 300u / kBlock);
}

TEST(KeyMemo, AnotherAdapterOrBlockSizeSharesNothing) {
  KeyMemo memo;
  const std::vector<Piece> prompt = {{7, 200}};
  Ask(memo, prompt, 1);
  EXPECT_EQ(Ask(memo, prompt, 2), Fresh(prompt, 2));
  EXPECT_EQ(memo.recalled(), 0u);
  EXPECT_EQ(Ask(memo, prompt, 1, 32), Fresh(prompt, 1, 32)) << "the producer drops the others";
  const uint64_t recalled = memo.recalled();
  EXPECT_EQ(Ask(memo, prompt, 1, 32), Fresh(prompt, 1, 32));
  EXPECT_EQ(memo.recalled(), recalled + 6);
}

TEST(KeyMemo, IsBounded) {
  KeyMemo memo(100);
  for (uint64_t i = 0; i < 1000; ++i) {
    Ask(memo, {{i, 20 * kBlock}});
    ASSERT_LE(memo.keys(), 200u);
  }
  const std::vector<Piece> longer_than_all = {{5000, 300 * kBlock}};
  EXPECT_EQ(Ask(memo, longer_than_all), Fresh(longer_than_all));
  EXPECT_LE(memo.keys(), 400u) << "one is kept whatever its length";
}

TEST(KeyMemo, ChangesNoKey) {
  EXPECT_TRUE(rc::check("memo", [](uint64_t seed) {
    Random random(seed);
    KeyMemo memo(10 + random.Below(300));
    const size_t max_blocks = 1 + random.Below(20);
    uint32_t block_size = kBlock;
    for (int i = 0; i < 100; ++i) {
      std::vector<Piece> prompt(random.Below(6));
      for (Piece& piece : prompt) {
        piece = {random.Below(3), static_cast<uint32_t>(random.Below(4) * random.Below(60))};
      }
      if (random.Below(20) == 0) block_size = 1 + static_cast<uint32_t>(random.Below(32));
      const uint64_t root = random.Below(2);
      RC_ASSERT(Ask(memo, prompt, root, block_size, max_blocks) ==
                Fresh(prompt, root, block_size, max_blocks));
    }
  }));
}

}  // namespace
}  // namespace penstock::lab
