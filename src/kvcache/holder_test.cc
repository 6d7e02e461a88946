#include "kvcache/holder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace penstock::kvcache {
namespace {

using Outcome = Holder::Outcome;
constexpr Time kStart{};

std::vector<uint32_t> Tokens(uint32_t first, size_t count) {
  std::vector<uint32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = first + static_cast<uint32_t>(i);
  return tokens;
}

// One publisher of an index with blocks of four tokens.
struct Rig {
  explicit Rig(ChainIndex::Options options = {.block_tokens = 4, .max_slots = 8},
               Holder::Options holder_options = {.model = "m"})
      : index(options), reader(index) {
    holder = std::make_unique<Holder>(index, keys, *index.Join(), holder_options);
  }

  Outcome Store(std::vector<uint64_t> hashes, std::optional<uint64_t> parent,
                std::vector<uint32_t> tokens, KvEvent more = {}) {
    more.type = KvEvent::Type::kStored;
    more.block_size = static_cast<uint32_t>(tokens.size() / hashes.size());
    more.hashes = hashes;
    more.parent = parent;
    more.tokens = tokens;
    return holder->Apply(more, now);
  }
  Outcome Remove(std::vector<uint64_t> hashes, KvEvent more = {}) {
    more.type = KvEvent::Type::kRemoved;
    more.hashes = hashes;
    return holder->Apply(more, now);
  }
  PrefixHold Match(std::vector<uint32_t> tokens, std::string_view salt = "") {
    std::vector<uint64_t> prompt;
    keys.Append(tokens, {}, &prompt);
    std::vector<PrefixHold> holds(index.slot_limit());
    reader.Match(keys.Namespace("m", salt), prompt, holds);
    return holds[holder->slot().index];
  }
  uint32_t MatchTier(Tier tier, const std::vector<uint32_t>& tokens) {
    std::vector<uint64_t> prompt;
    keys.Append(tokens, {}, &prompt);
    std::vector<uint32_t> lengths(index.slot_limit());
    reader.MatchTier(tier, keys.Namespace("m", ""), prompt, lengths);
    return lengths[holder->slot().index];
  }

  Time now = kStart;
  ContentKeys keys{"a secret of the test", 4};
  ChainIndex index;
  ChainIndex::Reader reader;
  std::unique_ptr<Holder> holder;
};

TEST(Holder, AStoredPrefixIsHeldAsFarAsItGoes) {
  Rig rig;
  EXPECT_EQ(rig.Store({1, 2, 3}, {}, Tokens(0, 12)), Outcome::kApplied);
  EXPECT_EQ(rig.Store({4}, 3, Tokens(12, 4)), Outcome::kApplied);
  EXPECT_EQ(rig.Match(Tokens(0, 20)).blocks, 4u);
  EXPECT_EQ(rig.Match(Tokens(0, 11)).blocks, 2u);
  EXPECT_EQ(rig.Match(Tokens(4, 12)).blocks, 0u);
}

TEST(Holder, ARemovedBlockEndsThePrefixUntilItIsBack) {
  Rig rig;
  rig.Store({1, 2, 3}, {}, Tokens(0, 12));
  rig.Remove({2});
  EXPECT_EQ(rig.Match(Tokens(0, 12)).blocks, 1u);
  rig.Store({2}, 1, Tokens(4, 4));
  EXPECT_EQ(rig.Match(Tokens(0, 12)).blocks, 3u);
}

TEST(Holder, ABlockStoredTwiceIsRemovedByTheSecondRemoval) {
  Rig rig;
  rig.Store({1}, {}, Tokens(0, 4));
  rig.Store({1}, {}, Tokens(0, 4));
  rig.Remove({1});
  EXPECT_EQ(rig.Match(Tokens(0, 4)).blocks, 1u);
  rig.Remove({1});
  EXPECT_EQ(rig.Match(Tokens(0, 4)).blocks, 0u);
  EXPECT_EQ(rig.holder->counters().stored_again, 1u);
}

TEST(Holder, TiersAreToldApart) {
  Rig rig;
  rig.Store({1, 2, 3}, {}, Tokens(0, 12));
  const std::vector<uint64_t> offloaded{2, 3, 99};
  rig.holder->Apply({.type = KvEvent::Type::kStored, .tier = Tier::kCpu, .hashes = offloaded},
                    kStart);
  rig.Remove({2});
  const PrefixHold hold = rig.Match(Tokens(0, 12));
  EXPECT_EQ(hold.blocks, 3u);
  EXPECT_EQ(hold.gpu, 1u);
  EXPECT_THAT(hold.in_tier, testing::ElementsAre(2, 1, 0, 0));
  EXPECT_EQ(rig.holder->counters().unkeyed, 1u);
}

TEST(Holder, ATierHoldsItsOwnPrefix) {
  Rig rig;
  rig.Store({1, 2, 3, 4}, {}, Tokens(0, 16));
  EXPECT_FALSE(rig.holder->holds_outside_gpu());
  EXPECT_EQ(rig.MatchTier(Tier::kGpu, Tokens(0, 16)), 4u);
  EXPECT_EQ(rig.MatchTier(Tier::kCpu, Tokens(0, 16)), 0u);
  const std::vector<uint64_t> offloaded{1, 2, 4};
  rig.holder->Apply({.type = KvEvent::Type::kStored, .tier = Tier::kCpu, .hashes = offloaded},
                    kStart);
  EXPECT_TRUE(rig.holder->holds_outside_gpu());
  // Blocks that are in the GPU's memory as well count, those behind a gap do not.
  EXPECT_EQ(rig.MatchTier(Tier::kCpu, Tokens(0, 16)), 2u);
  EXPECT_EQ(rig.MatchTier(Tier::kCpu, Tokens(0, 4)), 1u);
  EXPECT_EQ(rig.MatchTier(Tier::kDisk, Tokens(0, 16)), 0u);
  EXPECT_EQ(rig.Match(Tokens(0, 16)).gpu, 4u);
  rig.Remove({1});
  EXPECT_EQ(rig.MatchTier(Tier::kGpu, Tokens(0, 16)), 0u);
  EXPECT_EQ(rig.MatchTier(Tier::kCpu, Tokens(0, 16)), 2u);
  // What may be gone meanwhile counts until it is known to be.
  rig.holder->MarkGap(kStart);
  EXPECT_EQ(rig.MatchTier(Tier::kCpu, Tokens(0, 16)), 2u);
  rig.Remove({1, 2, 4}, {.tier = Tier::kCpu});
  EXPECT_EQ(rig.MatchTier(Tier::kCpu, Tokens(0, 16)), 0u);
  EXPECT_FALSE(rig.holder->holds_outside_gpu());
}

TEST(Holder, AnOrphanWaitsForItsParentAndIsNeverPlacedByGuessing) {
  Rig rig;
  EXPECT_EQ(rig.Store({3}, 2, Tokens(8, 4)), Outcome::kParked);
  EXPECT_EQ(rig.Match(Tokens(8, 4)).blocks, 0u);
  EXPECT_EQ(rig.Store({2}, 1, Tokens(4, 4)), Outcome::kParked);
  EXPECT_EQ(rig.holder->orphans(), 2u);
  EXPECT_EQ(rig.Store({1}, {}, Tokens(0, 4)), Outcome::kApplied);
  EXPECT_EQ(rig.holder->orphans(), 0u);
  EXPECT_EQ(rig.Match(Tokens(0, 12)).blocks, 3u);
}

TEST(Holder, OrphansAreBounded) {
  Rig rig({.block_tokens = 4, .max_slots = 8}, {.model = "m", .max_orphan_bytes = 2000});
  for (uint64_t i = 0; i < 100; ++i) rig.Store({1000 + i}, 2000 + i, Tokens(0, 4));
  EXPECT_LE(rig.holder->orphans(), 5u);
  EXPECT_GE(rig.holder->counters().orphans_dropped, 95u);
}

TEST(Holder, RefusesWhatRefersToItselfOrIsCutOff) {
  Rig rig;
  EXPECT_EQ(rig.Store({1, 2, 1}, {}, Tokens(0, 12)), Outcome::kRefused);
  EXPECT_EQ(rig.Store({1}, 1, Tokens(0, 4)), Outcome::kRefused);
  EXPECT_EQ(rig.Store({1, 2}, {}, Tokens(0, 9)), Outcome::kRefused);
  EXPECT_EQ(rig.Store({1}, {}, Tokens(0, 4), {.token_offset = 4}), Outcome::kRefused);
  EXPECT_EQ(rig.Store({1}, {}, Tokens(0, 4), {.remote = true}), Outcome::kSkipped);
  EXPECT_EQ(rig.holder->blocks(), 0u);
  EXPECT_EQ(rig.holder->counters().events_self_referencing, 2u);
  EXPECT_EQ(rig.holder->counters().events_malformed, 1u);
  EXPECT_EQ(rig.holder->counters().events_misplaced, 1u);
  EXPECT_EQ(rig.holder->counters().events_remote, 1u);
}

TEST(Holder, AnUnknownParentOfZeroIsTheRoot) {
  Rig rig;
  EXPECT_EQ(rig.Store({1}, 0, Tokens(0, 4)), Outcome::kApplied);
  EXPECT_EQ(rig.Match(Tokens(0, 4)).blocks, 1u);
}

TEST(Holder, SaltsAreWorldsApartAndSharedHashesCountInNoneOnceOneIsGone) {
  Rig rig;
  rig.Store({1, 2}, {}, Tokens(0, 8));
  rig.Store({1, 2}, {}, Tokens(0, 8), {.salt = "s"});
  EXPECT_EQ(rig.Match(Tokens(0, 8)).blocks, 2u);
  EXPECT_EQ(rig.Match(Tokens(0, 8), "s").blocks, 2u);
  rig.Store({3}, 2, Tokens(8, 4), {.salt = "s"});
  EXPECT_EQ(rig.Match(Tokens(0, 12)).blocks, 2u);
  EXPECT_EQ(rig.Match(Tokens(0, 12), "s").blocks, 3u);
  rig.Remove({2});
  EXPECT_EQ(rig.Match(Tokens(0, 8)).blocks, 1u);
  EXPECT_EQ(rig.Match(Tokens(0, 8), "s").blocks, 1u);
  EXPECT_EQ(rig.holder->counters().ambiguous, 2u);
}

TEST(Holder, LargerEngineBlocksCountWhole) {
  Rig rig;
  rig.Store({1, 2}, {}, Tokens(0, 32));
  EXPECT_EQ(rig.Match(Tokens(0, 32)).blocks, 8u);
  EXPECT_EQ(rig.Match(Tokens(0, 28)).blocks, 4u);
  EXPECT_EQ(rig.Match(Tokens(0, 12)).blocks, 0u);
}

TEST(Holder, SmallerEngineBlocksHoldWhatTheyCoverTogether) {
  Rig rig;
  rig.Store({1, 2, 3}, {}, Tokens(0, 3));
  EXPECT_EQ(rig.Match(Tokens(0, 4)).blocks, 0u);
  rig.Store({4, 5}, 3, Tokens(3, 2));
  EXPECT_EQ(rig.Match(Tokens(0, 8)).blocks, 1u);
  rig.Remove({2});
  EXPECT_EQ(rig.Match(Tokens(0, 8)).blocks, 0u);
  rig.Store({2}, 1, Tokens(1, 1));
  EXPECT_EQ(rig.Match(Tokens(0, 8)).blocks, 1u);
}

TEST(Holder, ClearForgetsAllAndLeaveGivesTheSlotBackInSlices) {
  Rig rig;
  for (uint32_t c = 0; c < 10; ++c) rig.Store({c * 2 + 1, c * 2 + 2}, {}, Tokens(c * 100, 8));
  rig.holder->Apply({.type = KvEvent::Type::kCleared}, kStart);
  EXPECT_EQ(rig.Match(Tokens(0, 8)).blocks, 0u);
  EXPECT_EQ(rig.holder->blocks(), 0u);
  for (uint32_t c = 0; c < 10; ++c) rig.Store({c * 2 + 1, c * 2 + 2}, {}, Tokens(c * 100, 8));
  const ChainIndex::Slot slot = rig.holder->slot();
  size_t slices = 1;
  while (!rig.holder->Leave(4)) ++slices;
  EXPECT_GE(slices, 4u);
  EXPECT_FALSE(rig.index.IsCurrent(slot));
  EXPECT_EQ(rig.Store({1}, {}, Tokens(0, 4)), Outcome::kSkipped);
  EXPECT_EQ(rig.index.segments(), 0u);
  const auto next = rig.index.Join();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->index, slot.index);
  EXPECT_NE(next->generation, slot.generation);
  rig.index.Leave(*next);
}

TEST(Holder, MoreThanTheEngineHasMeansMissedRemovals) {
  Rig rig;
  rig.holder->SetCapacity(100);
  for (uint32_t c = 0; c < 6; ++c) {
    rig.now += seconds(1);
    std::vector<uint64_t> hashes(20);
    for (uint64_t i = 0; i < 20; ++i) hashes[i] = c * 100 + i + 1;
    rig.Store(hashes, {}, Tokens(c * 1000, 80));
  }
  EXPECT_LE(rig.holder->gpu_blocks(), 102u);
  EXPECT_EQ(rig.holder->counters().missed_removals, 20u);
  EXPECT_EQ(rig.Match(Tokens(0, 80)).blocks, 0u);
  EXPECT_EQ(rig.Match(Tokens(5000, 80)).blocks, 20u);
}

TEST(Holder, AGapMakesBlocksDoubtfulUntilConfirmedOrTooOld) {
  Rig rig;
  rig.Store({1, 2}, {}, Tokens(0, 8));
  rig.Store({11, 12}, {}, Tokens(100, 8));
  rig.Store({21, 22}, {}, Tokens(200, 8));
  rig.now += seconds(1);
  rig.holder->MarkGap(rig.now);
  EXPECT_EQ(rig.Match(Tokens(0, 8)).blocks, 2u);
  EXPECT_EQ(rig.Match(Tokens(0, 8)).sure, 0u);
  EXPECT_EQ(rig.Match(Tokens(0, 8)).gpu, 2u);
  rig.Store({3}, 2, Tokens(8, 4));  // follows them: they are there
  EXPECT_EQ(rig.Match(Tokens(0, 12)).sure, 3u);
  std::vector<uint64_t> used;
  rig.keys.Append(Tokens(100, 4), {}, &used);
  rig.holder->Confirm(rig.keys.Namespace("m", ""), used);
  EXPECT_EQ(rig.Match(Tokens(100, 8)).sure, 1u);
  while (rig.holder->Tend(rig.now + seconds(601), 2)) {
  }
  EXPECT_EQ(rig.Match(Tokens(0, 12)).sure, 3u);
  EXPECT_EQ(rig.Match(Tokens(100, 8)).blocks, 1u);
  EXPECT_EQ(rig.Match(Tokens(200, 8)).blocks, 0u);
  EXPECT_EQ(rig.holder->counters().aged_out, 3u);
  EXPECT_EQ(rig.holder->doubtful_pages(), 0u);
}

TEST(Holder, TheBudgetIsKeptByDroppingTheOldest) {
  Rig rig({.block_tokens = 4, .max_slots = 8, .max_bytes = 100'000});
  for (uint32_t c = 0; c < 300; ++c) {
    rig.now += seconds(1);
    std::vector<uint64_t> hashes(32);
    for (uint64_t i = 0; i < 32; ++i) hashes[i] = c * 100 + i + 1;
    rig.Store(hashes, {}, Tokens(c * 1000, 128));
  }
  EXPECT_LE(rig.index.bytes() - rig.index.garbage_bytes(), 100'000u);
  EXPECT_GT(rig.holder->counters().over_budget, 1000u);
  EXPECT_EQ(rig.Match(Tokens(299'000, 128)).blocks, 32u);
  EXPECT_EQ(rig.Match(Tokens(0, 128)).blocks, 0u);
}

// A full group of 4, a window of 8 tokens, and states at the end of some blocks.
TEST(Holder, GroupsOfLayersMustAllBeAbleToGoOn) {
  Rig rig;
  const auto group = [](uint16_t number, CacheKind kind, uint32_t window = 0) {
    return KvEvent{.kind = kind, .group = number, .has_group = true, .window_tokens = window};
  };
  rig.Store({1, 2, 3, 4, 5, 6}, {}, Tokens(0, 24), group(0, CacheKind::kFull));
  EXPECT_EQ(rig.Match(Tokens(0, 24)).reusable, 6u);
  rig.Store({1, 2, 3, 4, 5, 6}, {}, Tokens(0, 24), group(1, CacheKind::kWindow, 9));
  EXPECT_EQ(rig.Match(Tokens(0, 24)).reusable, 6u);
  rig.Remove({1, 2, 3}, group(1, CacheKind::kWindow));
  EXPECT_EQ(rig.Match(Tokens(0, 24)).reusable, 6u);
  rig.Remove({6}, group(1, CacheKind::kWindow));
  EXPECT_EQ(rig.Match(Tokens(0, 24)).reusable, 5u);
  EXPECT_EQ(rig.Match(Tokens(0, 16)).reusable, 0u);  // 3 is gone: nothing to look back on
  EXPECT_EQ(rig.Match(Tokens(0, 24)).blocks, 6u);
  // The state of a block whose predecessors this group never had.
  rig.Store({5}, 4, Tokens(16, 4), group(2, CacheKind::kCheckpoint));
  EXPECT_EQ(rig.Match(Tokens(0, 24)).reusable, 5u);
  rig.Remove({5}, group(2, CacheKind::kCheckpoint));
  EXPECT_EQ(rig.Match(Tokens(0, 24)).reusable, 0u);
  EXPECT_EQ(rig.Store({7}, 6, Tokens(24, 4), group(3, CacheKind::kOther)), Outcome::kSkipped);
}

TEST(ChainIndex, SlotsRunOutAndComeBack) {
  ChainIndex index({.block_tokens = 4, .max_slots = 2});
  const auto first = index.Join();
  const auto second = index.Join();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(index.Join());
  index.Leave(*first);
  index.Leave(*first);  // an old generation: nothing happens
  EXPECT_EQ(index.slots(), 1u);
  const auto third = index.Join();
  ASSERT_TRUE(third);
  EXPECT_EQ(third->index, first->index);
  EXPECT_FALSE(index.IsCurrent(*first));
}

}  // namespace
}  // namespace penstock::kvcache
