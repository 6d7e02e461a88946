#include "kvcache/snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "core/random.h"
#include "kvcache/chain_index.h"
#include "kvcache/holder.h"

namespace penstock::kvcache {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kBlock = 4;
constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr Time kNow = Time(seconds(1000));

std::vector<uint32_t> Tokens(uint32_t first, size_t blocks, uint32_t block_tokens = kBlock) {
  std::vector<uint32_t> tokens(blocks * block_tokens);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = first + static_cast<uint32_t>(i);
  return tokens;
}

// A publisher of an index of its own.
struct Rig {
  explicit Rig(std::string_view secret = "a secret of the test",
               uint64_t max_bytes = uint64_t{1} << 30)
      : keys(secret, kBlock),
        index({.block_tokens = kBlock, .max_slots = 4, .max_bytes = max_bytes}),
        holder(
            std::make_unique<Holder>(index, keys, *index.Join(), Holder::Options{.model = "m"})) {}

  void Store(std::vector<uint64_t> hashes, std::optional<uint64_t> parent,
             std::vector<uint32_t> tokens, KvEvent more = {}) {
    more.type = KvEvent::Type::kStored;
    more.block_size = static_cast<uint32_t>(tokens.size() / hashes.size());
    more.hashes = hashes;
    more.parent = parent;
    more.tokens = tokens;
    holder->Apply(more, kNow);
  }
  void Remove(std::vector<uint64_t> hashes, KvEvent more = {}) {
    more.type = KvEvent::Type::kRemoved;
    more.hashes = hashes;
    holder->Apply(more, kNow);
  }
  PrefixHold Match(const std::vector<uint32_t>& tokens, std::string_view salt = "") const {
    std::vector<uint64_t> prompt;
    keys.Append(tokens, {}, &prompt);
    std::vector<PrefixHold> holds(index.slot_limit());
    ChainIndex::Reader(index).Match(keys.Namespace("m", salt), prompt, holds);
    return holds[holder->slot().index];
  }
  std::string Save() const {
    std::string saved;
    holder->Save(kNow, &saved);
    return saved;
  }

  ContentKeys keys;
  ChainIndex index;
  std::unique_ptr<Holder> holder;
};

// Everything that a holder can have.
void StoreOfEachKind(Rig* rig) {
  rig->Store({1, 2, 3, 4, 5, 6}, {}, Tokens(0, 6));
  rig->Store({7, 8}, 3, Tokens(500, 2));
  rig->Store({11, 12}, {}, Tokens(1000, 2, 8));              // larger ones
  rig->Store({21, 22, 23, 24, 25}, {}, Tokens(2000, 5, 3));  // that fit nothing
  rig->Store({26}, 25, Tokens(2015, 1, 3));
  rig->Store({1, 2}, {}, Tokens(0, 2));  // twice
  rig->Store({31, 32}, {}, Tokens(3000, 2), {.tier = Tier::kCpu, .salt = "s"});
  rig->Store({2}, 1, Tokens(4, 1), {.tier = Tier::kDisk});
  rig->Store({1, 2, 3, 4}, {}, Tokens(0, 4),
             {.kind = CacheKind::kWindow, .group = 1, .has_group = true, .window_tokens = 9});
  rig->Remove({1}, {.group = 1, .has_group = true});
  rig->Remove({5});
  std::vector<uint64_t> many(100);
  for (uint64_t i = 0; i < many.size(); ++i) many[i] = 100 + i;
  rig->Store(many, {}, Tokens(9000, many.size()));
}

void ExpectSame(const Rig& got, const Rig& want) {
  EXPECT_EQ(got.holder->blocks(), want.holder->blocks());
  for (size_t tier = 0; tier < kTiers; ++tier) {
    EXPECT_EQ(got.holder->tier_blocks(static_cast<Tier>(tier)),
              want.holder->tier_blocks(static_cast<Tier>(tier)));
  }
  for (const auto& tokens :
       {Tokens(0, 6), Tokens(0, 3), Tokens(1000, 4), Tokens(2000, 5), Tokens(9000, 100)}) {
    EXPECT_EQ(got.Match(tokens), want.Match(tokens)) << tokens[0];
  }
  EXPECT_EQ(got.Match(Tokens(3000, 2), "s"), want.Match(Tokens(3000, 2), "s"));
}

Snapshot SnapshotOf(const Rig& rig) {
  Snapshot snapshot{.unix_seconds = 1'700'000'000};
  for (const char* name : {"a", "b"}) {
    snapshot.publishers.push_back(
        {.name = name,
         .address = "10.0.0.7:8000",
         .events = "tcp://10.0.0.7:5557",
         .position = {.sequence = 41, .batch_hash = 77, .flaw = PublisherReason::kGap},
         .block_count = rig.holder->blocks(),
         .blocks = rig.Save()});
  }
  return snapshot;
}

std::string Encoded(const Rig& rig) {
  size_t left_out = 1;
  auto bytes = EncodeSnapshot(rig.keys, SnapshotOf(rig), kMaxBytes, &left_out);
  EXPECT_EQ(left_out, 0u);
  return std::move(*bytes);
}

std::string Refusal(const ContentKeys& keys, std::string_view bytes) {
  const auto snapshot = DecodeSnapshot(keys, bytes, kMaxBytes);
  return snapshot ? "" : snapshot.error().message;
}

TEST(HolderSave, AnotherHolderGoesOnFromThere) {
  Rig rig;
  StoreOfEachKind(&rig);
  Rig other;
  ASSERT_TRUE(other.holder->Restore(rig.Save(), kNow));
  ExpectSame(other, rig);
  EXPECT_EQ(other.Save(), rig.Save());
  for (Rig* at : {&rig, &other}) {
    at->Remove({1});  // it was stored twice
    at->Store({27, 28, 29}, 26, Tokens(2018, 3, 3));
    at->Remove({4, 150});
    at->Store({33}, 32, Tokens(3008, 1), {.salt = "s"});
    at->Store({5}, 4, Tokens(16, 1), {.kind = CacheKind::kWindow, .group = 1, .has_group = true});
  }
  ExpectSame(other, rig);
  EXPECT_EQ(other.Match(Tokens(0, 6)).blocks, 1u) << "3, rounded down by an engine of odd blocks";
  other.holder->Apply({.type = KvEvent::Type::kCleared}, kNow);
  EXPECT_EQ(other.holder->blocks(), 0u);
}

TEST(HolderSave, WhatIsOldGoesFirstAfterwardsToo) {
  Rig rig;
  for (uint32_t c = 0; c < 6; ++c) {
    std::vector<uint64_t> hashes(20);
    for (uint64_t i = 0; i < 20; ++i) hashes[i] = c * 100 + i + 1;
    KvEvent event{.type = KvEvent::Type::kStored, .block_size = kBlock, .hashes = hashes};
    const std::vector<uint32_t> tokens = Tokens(c * 1000, 20);
    event.tokens = tokens;
    rig.holder->Apply(event, kNow + seconds(c));
  }
  Rig other;
  ASSERT_TRUE(other.holder->Restore(rig.Save(), kNow));
  other.holder->SetCapacity(60);
  EXPECT_EQ(other.Match(Tokens(2000, 20)).blocks, 0u);
  EXPECT_EQ(other.Match(Tokens(5000, 20)).blocks, 20u);
}

TEST(HolderSave, DoubtStays) {
  Rig rig;
  rig.Store({1, 2}, {}, Tokens(0, 2));
  rig.holder->MarkGap(kNow - seconds(500));
  rig.Store({11, 12}, {}, Tokens(100, 2));
  Rig other;
  ASSERT_TRUE(other.holder->Restore(rig.Save(), kNow));
  EXPECT_EQ(other.Match(Tokens(0, 2)).blocks, 2u);
  EXPECT_EQ(other.Match(Tokens(0, 2)).sure, 0u);
  EXPECT_EQ(other.Match(Tokens(100, 2)).sure, 2u);
  while (other.holder->Tend(kNow + seconds(101), 100)) {
  }
  EXPECT_EQ(other.Match(Tokens(0, 2)).blocks, 0u) << "600 s in all";
}

TEST(HolderSave, StoresThatWaitForTheirParentAreLeftOut) {
  Rig rig;
  rig.Store({2}, 1, Tokens(4, 1));
  EXPECT_EQ(rig.holder->orphans(), 1u);
  Rig other;
  ASSERT_TRUE(other.holder->Restore(rig.Save(), kNow));
  other.Store({1}, {}, Tokens(0, 1));
  EXPECT_EQ(other.Match(Tokens(0, 2)).blocks, 1u);
}

TEST(HolderSave, MoreThanTheBudgetIsNotTaken) {
  Rig rig;
  for (uint32_t c = 0; c < 300; ++c) {
    std::vector<uint64_t> hashes(32);
    for (uint64_t i = 0; i < 32; ++i) hashes[i] = c * 100 + i + 1;
    rig.Store(hashes, {}, Tokens(c * 1000, 32));
  }
  Rig small("a secret of the test", 100'000);
  ASSERT_TRUE(small.holder->Restore(rig.Save(), kNow));
  EXPECT_LE(small.index.bytes() - small.index.garbage_bytes(), 113'000u);
  EXPECT_GT(small.holder->counters().over_budget, 1000u);
}

// Whatever is wrong, nothing is left of it, and the holder works.
TEST(HolderSave, BrokenBytesAreRefusedOrHarmless) {
  Rig rig;
  StoreOfEachKind(&rig);
  const std::string saved = rig.Save();
  for (size_t size = 0; size < saved.size(); ++size) {
    Rig other;
    ASSERT_FALSE(other.holder->Restore(std::string_view(saved).substr(0, size), kNow)) << size;
    EXPECT_EQ(other.index.segments(), 0u);
    EXPECT_EQ(other.holder->blocks(), 0u);
  }
  EXPECT_FALSE(Rig().holder->Restore(saved + "x", kNow));
  Random random(5);
  for (int i = 0; i < 3'000; ++i) {
    std::string bytes = saved;
    for (uint64_t n = 1 + random.Below(3); n > 0; --n) {
      bytes[random.Below(bytes.size())] = static_cast<char>(random.Below(256));
    }
    Rig other;
    if (!other.holder->Restore(bytes, kNow)) {
      EXPECT_EQ(other.index.segments(), 0u);
      EXPECT_EQ(other.holder->blocks(), 0u);
    }
    StoreOfEachKind(&other);
    other.holder.reset();
    other.index.Collect();
    EXPECT_EQ(other.index.segments(), 0u);
  }
}

TEST(Snapshot, ComesBackAsItWas) {
  Rig rig;
  StoreOfEachKind(&rig);
  const auto snapshot = DecodeSnapshot(rig.keys, Encoded(rig), kMaxBytes);
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  EXPECT_EQ(snapshot->unix_seconds, 1'700'000'000);
  ASSERT_EQ(snapshot->publishers.size(), 2u);
  const SavedPublisher& second = snapshot->publishers[1];
  EXPECT_EQ(second.name, "b");
  EXPECT_EQ(second.address, "10.0.0.7:8000");
  EXPECT_EQ(second.events, "tcp://10.0.0.7:5557");
  EXPECT_EQ(second.position.sequence, 41u);
  EXPECT_EQ(second.position.batch_hash, 77u);
  EXPECT_EQ(second.position.flaw, PublisherReason::kGap);
  EXPECT_EQ(second.block_count, rig.holder->blocks());
  EXPECT_EQ(second.blocks, rig.Save());
}

TEST(Snapshot, WhatIsCutOffOrChangedIsRefused) {
  Rig rig;
  StoreOfEachKind(&rig);
  const std::string bytes = Encoded(rig);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_NE(Refusal(rig.keys, std::string_view(bytes).substr(0, size)), "") << size;
  }
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
    ASSERT_NE(Refusal(rig.keys, changed), "") << bit;
  }
  EXPECT_THAT(Refusal(rig.keys, bytes + "x"), HasSubstr("is broken: its checksum is another one"));
  EXPECT_THAT(Refusal(rig.keys, "{}"), HasSubstr("is no snapshot of KV caches"));
}

TEST(Snapshot, OnlyWhoHasTheSecretAndTheBlockSizeCanUseIt) {
  Rig rig;
  const std::string bytes = Encoded(rig);
  EXPECT_EQ(Refusal(ContentKeys("a secret of the test", kBlock), bytes), "");
  EXPECT_THAT(Refusal(ContentKeys("another secret", kBlock), bytes),
              HasSubstr("was made with another secret: routers that share snapshots need the same "
                        "secretFile"));
  EXPECT_THAT(Refusal(ContentKeys("a secret of the test", 16), bytes),
              HasSubstr("has blocks of 4 tokens, and blockSizeTokens is 16"));
}

TEST(Snapshot, AnotherVersionIsRefusedByName) {
  Rig rig;
  std::string bytes = Encoded(rig);
  ASSERT_EQ(bytes[8], 1);
  bytes[8] = 2;
  EXPECT_THAT(Refusal(rig.keys, bytes),
              HasSubstr("has version 2, and this program reads version 1: it is of a newer"));
  bytes[8] = 0;
  EXPECT_THAT(Refusal(rig.keys, bytes), HasSubstr("it is of an older program"));
}

TEST(Snapshot, SizesAreBounded) {
  Rig rig;
  StoreOfEachKind(&rig);
  size_t left_out = 0;
  const auto bytes =
      EncodeSnapshot(rig.keys, SnapshotOf(rig), 20'000 + rig.Save().size(), &left_out);
  ASSERT_TRUE(bytes);
  EXPECT_EQ(left_out, 1u);
  EXPECT_EQ(DecodeSnapshot(rig.keys, *bytes, kMaxBytes)->publishers.size(), 1u);
  EXPECT_THAT(DecodeSnapshot(rig.keys, *bytes, 100).error().message, HasSubstr("more than 100"));
}

}  // namespace
}  // namespace penstock::kvcache
