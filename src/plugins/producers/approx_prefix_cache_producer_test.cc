#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using testing::TestPool;

// One producer in column 0, over a pool.
struct Rig {
  explicit Rig(std::string_view parameters = "{}", size_t size = 3)
      : pool(size), producer("approx-prefix-cache-producer", parameters) {
    producer->SetIndex(sched::DataKey::kPrefixMatch, 0);
    pool.columns.prefix.resize(1);
    for (const auto& endpoint : pool.pool.endpoints) producer->OnEndpointChanged(endpoint);
  }
  sched::RequestContext Prepare(std::vector<model::PromptPart> prompt, std::string model = "llama",
                                std::string salt = "") {
    sched::RequestContext context;
    context.prefix_keys.resize(1);
    context.request.target_model = std::move(model);
    context.request.cache_salt = std::move(salt);
    context.request.prompt = prompt;
    producer->Prepare(context, Time());
    context.request.prompt = {};
    return context;
  }
  void Send(sched::RequestContext context, uint32_t column) {
    producer->OnPicked(context, pool.columns, pool.Pick(column));
  }
  const std::vector<float>& Match(const sched::RequestContext& context) {
    producer->Produce(context, pool.columns);
    return pool.columns.prefix[0].matched_blocks;
  }

  TestPool pool;
  Made<sched::Producer> producer;
};

// A prompt of so many tokens; prompts of one letter are prefixes of each other.
std::string Text(size_t tokens, char letter = 'a') { return std::string(tokens * 4, letter); }

TEST(ApproxPrefixCacheProducer, GoesOnFromKeysOfItsOwnBlockSize) {
  Rig rig;
  const std::string text = Text(300);
  const sched::PrefixKeys all = rig.Prepare({{text, true}}).prefix_keys[0];
  ASSERT_EQ(all.blocks.size(), 5u);
  const auto prepare = [&](sched::PrefixKeys known) {
    sched::RequestContext context;
    context.prefix_keys = {std::move(known)};
    context.request.target_model = "llama";
    const model::PromptPart part{text, true};
    context.request.prompt = {&part, 1};
    rig.producer->Prepare(context, Time());
    return context.prefix_keys[0].blocks;
  };
  // What goes before is believed, so that the rest shows what it followed from.
  EXPECT_EQ(prepare({{all.blocks[0], all.blocks[1]}, {}, 64}), all.blocks);
  EXPECT_NE(prepare({{all.blocks[0], 7}, {}, 64}).back(), all.blocks.back());
  EXPECT_EQ(prepare({{all.blocks[0], 7}, {}, 128}), all.blocks);
}

TEST(ApproxPrefixCacheProducer, MatchesWhatWasSentWhere) {
  Rig rig;
  const std::string text = Text(200);  // 64, 64, 64 and 8 tokens
  rig.Send(rig.Prepare({{text, true}}), 1);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), ElementsAre(0, 4, 0));
  EXPECT_EQ(rig.pool.columns.prefix[0].total_blocks, 4u);
  EXPECT_EQ(rig.pool.columns.prefix[0].block_size_tokens, 64u);
  const std::string longer = Text(300);
  EXPECT_THAT(rig.Match(rig.Prepare({{longer, true}})), ElementsAre(0, 3, 0));
  const std::string other = Text(200, 'b');
  EXPECT_THAT(rig.Match(rig.Prepare({{other, true}})), Each(0));
}

TEST(ApproxPrefixCacheProducer, AModelOrASaltOfItsOwnSharesNothing) {
  Rig rig;
  const std::string text = Text(128);
  rig.Send(rig.Prepare({{text, true}}), 0);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}}, "llama-lora")), Each(0));
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}}, "llama", "tenant")), Each(0));
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), ElementsAre(2, 0, 0));
}

TEST(ApproxPrefixCacheProducer, EveryPromptOfARequestIsMatchedOnItsOwn) {
  Rig rig;
  const std::string a = Text(128, 'a');
  const std::string b = Text(128, 'b');
  const std::string c = Text(128, 'c');
  rig.Send(rig.Prepare({{c, true}}), 2);
  rig.Send(rig.Prepare({{a, true}}), 0);
  EXPECT_THAT(rig.Match(rig.Prepare({{a, true}, {b, true}, {c, true}})), ElementsAre(2, 0, 2));
  EXPECT_EQ(rig.pool.columns.prefix[0].total_blocks, 6u);
}

TEST(ApproxPrefixCacheProducer, WithoutAPromptNothingMatches) {
  Rig rig;
  rig.Send(rig.Prepare({}), 0);
  EXPECT_THAT(rig.Match(rig.Prepare({})), Each(0));
  EXPECT_EQ(rig.pool.columns.prefix[0].total_blocks, 0u);
}

TEST(ApproxPrefixCacheProducer, LooksAtAsMuchAsItIsTold) {
  const std::string text = Text(64 * 10);
  const auto total = [&](std::string_view parameters) {
    return Rig(parameters).Prepare({{text, true}}).prefix_keys[0].blocks.size();
  };
  EXPECT_EQ(total("{}"), 10u);
  EXPECT_EQ(total("{maxPrefixTokensToMatch: 200}"), 3u);
  EXPECT_EQ(total("{maxPrefixTokensToMatch: 1}"), 1u);
  EXPECT_EQ(total("{maxPrefixTokensToMatch: 0, maxPrefixBlocksToMatch: 4}"), 4u);
  EXPECT_EQ(total("{maxPrefixTokensToMatch: 0, maxPrefixBlocksToMatch: 0}"), 10u);
}

TEST(ApproxPrefixCacheProducer, BlockSizeIsTheEnginesOrTheConfiguredOneButAtLeast64) {
  const std::string text = Text(64);
  const auto block_size = [&](std::string_view parameters, uint32_t of_engine) {
    Rig rig(parameters);
    rig.pool.pool.endpoints[1].block_size_tokens = of_engine;
    rig.producer->OnEndpointChanged(rig.pool.pool.endpoints[1]);
    return rig.Prepare({{text, true}}).prefix_keys[0].block_size_tokens;
  };
  EXPECT_EQ(block_size("{}", 0), 64u);
  EXPECT_EQ(block_size("{}", 16), 64u);
  EXPECT_EQ(block_size("{}", 256), 256u);
  EXPECT_EQ(block_size("{blockSizeTokens: 128}", 0), 128u);
  EXPECT_EQ(block_size("{blockSizeTokens: 128}", 16), 64u);
  EXPECT_EQ(block_size("{blockSizeTokens: 128, autoTune: false}", 256), 128u);
  EXPECT_EQ(block_size("{blockSize: 96}", 0), 96u);
  EXPECT_EQ(block_size("{blockSize: 96, blockSizeTokens: 128}", 0), 128u);
}

TEST(ApproxPrefixCacheProducer, AnEnginesCacheSizeIsConvertedToItsBlocks) {
  Rig rig("{}", 1);
  rig.pool.pool.endpoints[0].block_size_tokens = 16;
  rig.pool.pool.endpoints[0].gpu_blocks = 8;  // 128 tokens: two blocks of 64
  rig.producer->OnEndpointChanged(rig.pool.pool.endpoints[0]);
  const std::string text = Text(64 * 5);
  rig.Send(rig.Prepare({{text, true}}), 0);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), ElementsAre(2));
  const uint64_t two_blocks = rig.producer->MaxBytes();
  rig.pool.pool.endpoints[0].gpu_blocks = 0xffffffff;  // nonsense is bounded
  rig.producer->OnEndpointChanged(rig.pool.pool.endpoints[0]);
  EXPECT_EQ(rig.producer->MaxBytes(), two_blocks / 2 * (1U << 22));
}

TEST(ApproxPrefixCacheProducer, RemembersAsManyBlocksAsItIsToldOtherwise) {
  Rig rig("{lruCapacityPerServer: 3, autoTune: false}", 1);
  rig.pool.pool.endpoints[0].gpu_blocks = 1000;
  rig.producer->OnEndpointChanged(rig.pool.pool.endpoints[0]);
  const std::string text = Text(64 * 5);
  rig.Send(rig.Prepare({{text, true}}), 0);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), ElementsAre(3));
}

TEST(ApproxPrefixCacheProducer, ASlotsNextEndpointStartsWithNothing) {
  Rig rig;
  const std::string text = Text(128);
  rig.Send(rig.Prepare({{text, true}}), 1);
  rig.producer->OnEndpointRemoved(rig.pool.pool.slots[1]);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), Each(0));
  rig.Send(rig.Prepare({{text, true}}), 1);  // decided before the endpoint left
  rig.pool.pool.endpoints[1].address = "10.0.0.9:8000";
  rig.producer->OnEndpointChanged(rig.pool.pool.endpoints[1]);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), Each(0));
}

TEST(ApproxPrefixCacheProducer, ARestartedEngineHoldsNothing) {
  Rig rig;
  const std::string text = Text(128);
  rig.Send(rig.Prepare({{text, true}}), 1);
  rig.Send(rig.Prepare({{text, true}}), 2);
  rig.producer->OnEndpointRestarted(rig.pool.pool.slots[1]);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), ElementsAre(0, 0, 2));
}

TEST(ApproxPrefixCacheProducer, AChangeOfHealthForgetsNothing) {
  Rig rig;
  const std::string text = Text(128);
  rig.Send(rig.Prepare({{text, true}}), 1);
  rig.pool.pool.endpoints[1].health = model::Health::kFailed;
  rig.producer->OnEndpointChanged(rig.pool.pool.endpoints[1]);
  EXPECT_THAT(rig.Match(rig.Prepare({{text, true}})), ElementsAre(0, 2, 0));
}

}  // namespace
}  // namespace penstock::plugins
