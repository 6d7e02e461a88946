#include "kvcache/claims.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <thread>

#include "core/random.h"

namespace penstock::kvcache {
namespace {

constexpr uint64_t kSpace = 7;

struct Rig {
  explicit Rig(const Claims::Options& options = {}, const ChainIndex::Options& index_options = {})
      : index(index_options), claims(index, options), reader(index) {}

  uint32_t Held(uint32_t slot, std::span<const uint64_t> keys, uint64_t space = kSpace) {
    const uint32_t shadow = claims.ShadowOf(slot);
    std::vector<PrefixHold> holds(index.slot_limit());
    reader.Match(space, keys, holds);
    return shadow == 0 ? 0 : holds[shadow - 1].blocks;
  }
  uint64_t Add(uint32_t slot, const std::vector<uint64_t>& keys, Time now = {}) {
    return claims.Add(slot, 0, kSpace, keys, now);
  }

  ChainIndex index;
  Claims claims;
  ChainIndex::Reader reader;
};

TEST(Claims, LastUntilSomeTimeAfterTheFirstChunk) {
  Rig rig;
  const std::vector<uint64_t> keys = {1, 2, 3};
  const Time start{};
  const uint64_t claim = rig.Add(4, keys, start);
  EXPECT_EQ(rig.Held(4, keys), 3u);
  EXPECT_EQ(rig.Held(5, keys), 0u);
  rig.claims.Tick(start + seconds(60));
  EXPECT_EQ(rig.Held(4, keys), 3u);
  rig.claims.Confirm(4, claim, start + seconds(60));
  rig.claims.Tick(start + seconds(61));
  EXPECT_EQ(rig.Held(4, keys), 3u);
  rig.claims.Tick(start + seconds(62));
  EXPECT_EQ(rig.Held(4, keys), 0u);
  EXPECT_EQ(rig.claims.counts().confirmed, 1u);
  EXPECT_EQ(rig.claims.counts().expired, 0u);
  EXPECT_EQ(rig.index.slots(), 0u);
}

TEST(Claims, EndAfterSomeTimeWithoutAFirstChunk) {
  Rig rig;
  const std::vector<uint64_t> keys = {1, 2, 3};
  rig.Add(0, keys, Time());
  rig.claims.Tick(Time() + seconds(299));
  EXPECT_EQ(rig.Held(0, keys), 3u);
  rig.claims.Tick(Time() + seconds(300));
  EXPECT_EQ(rig.Held(0, keys), 0u);
  EXPECT_EQ(rig.claims.counts().expired, 1u);
}

TEST(Claims, WhatAnotherOneCoversStays) {
  Rig rig;
  const uint64_t longer = rig.Add(0, {1, 2, 3, 4});
  const uint64_t shorter = rig.Add(0, {1, 2});
  const uint64_t other = rig.Add(0, {1, 5});
  rig.claims.Withdraw(0, longer);
  EXPECT_EQ(rig.Held(0, std::vector<uint64_t>{1, 2, 3, 4}), 2u);
  rig.claims.Withdraw(0, shorter);
  EXPECT_EQ(rig.Held(0, std::vector<uint64_t>{1, 2, 3, 4}), 1u);
  EXPECT_EQ(rig.Held(0, std::vector<uint64_t>{1, 5}), 2u);
  rig.claims.Withdraw(0, other);
  EXPECT_EQ(rig.Held(0, std::vector<uint64_t>{1, 5}), 0u);
  EXPECT_EQ(rig.claims.counts().withdrawn, 3u);
  EXPECT_EQ(rig.index.segments(), 0u);
}

TEST(Claims, AreWholeBlocksOfTheEngine) {
  Rig rig;
  const std::vector<uint64_t> keys = {1, 2, 3, 4, 5, 6};
  rig.claims.Add(0, 64, kSpace, keys, Time());
  EXPECT_EQ(rig.Held(0, keys), 4u);
}

TEST(Claims, TheOldestGoWhenThereAreTooMany) {
  Rig rig({.max_claims = 2, .max_blocks = 10});
  rig.Add(0, {1, 2});
  rig.Add(0, {3, 4});
  rig.Add(0, {5, 6});
  EXPECT_EQ(rig.Held(0, std::vector<uint64_t>{1, 2}), 0u);
  EXPECT_EQ(rig.Held(0, std::vector<uint64_t>{3, 4}), 2u);
  rig.Add(0, {7, 1, 2, 3, 4, 5, 6, 8, 9});
  EXPECT_EQ(rig.Held(0, std::vector<uint64_t>{5, 6}), 0u);
  EXPECT_EQ(rig.claims.counts().displaced, 3u);
  EXPECT_EQ(rig.claims.counts().live, 1u);
  EXPECT_EQ(rig.Add(0, std::vector<uint64_t>(11, 1)), 0u);
  EXPECT_EQ(rig.claims.counts().refused, 1u);
}

TEST(Claims, AreRefusedWithoutASlot) {
  Rig rig({}, {.max_slots = 1});
  EXPECT_NE(rig.Add(0, {1}), 0u);
  EXPECT_EQ(rig.Add(1, {1}), 0u);
  EXPECT_EQ(rig.claims.counts().refused, 1u);
  rig.claims.Forget(0);
  EXPECT_EQ(rig.claims.counts().forgotten, 1u);
  EXPECT_NE(rig.Add(1, {1}), 0u);
}

TEST(Claims, AreMadeAndEndedByManyThreadsAtOnce) {
  ChainIndex index({});
  {
    Claims claims(index, {.max_claims = 16});
    const auto work = [&](uint64_t seed) {
      Random random(seed);
      std::vector<std::pair<uint32_t, uint64_t>> made;
      for (int i = 0; i < 2000; ++i) {
        const auto slot = static_cast<uint32_t>(random.Below(2));
        std::vector<uint64_t> keys(1 + random.Below(8), 1);
        keys.back() = random.Below(2);
        made.emplace_back(slot, claims.Add(slot, 0, kSpace, keys, Time()));
        const auto [of, number] = made[random.Below(made.size())];
        random.Below(2) == 0 ? claims.Withdraw(of, number) : claims.Confirm(of, number, Time());
        if (random.Below(50) == 0) claims.Forget(slot);
        if (random.Below(50) == 0) claims.Tick(Time() + seconds(1));
      }
    };
    std::vector<std::thread> threads;
    for (uint64_t seed = 1; seed <= 3; ++seed) threads.emplace_back(work, seed);
    ChainIndex::Reader reader(index);
    std::vector<PrefixHold> holds(8);
    for (int i = 0; i < 2000; ++i) {
      reader.Match(kSpace, std::vector<uint64_t>(8, 1), holds);
      for (const PrefixHold& hold : holds) ASSERT_LE(hold.blocks, 8u);
      claims.ShadowOf(static_cast<uint32_t>(i % 3));
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(index.slots(), 0u);
  EXPECT_EQ(index.segments(), 0u);
}

// What a claim is, without an index.
struct NaiveClaim {
  uint32_t slot;
  uint64_t space;
  std::vector<uint64_t> keys;
  Time made, ends;
  bool is_confirmed = false;
};

class NaiveClaims {
 public:
  std::map<uint64_t, NaiveClaim> claims;

  size_t Of(uint32_t slot) const {
    return static_cast<size_t>(std::count_if(claims.begin(), claims.end(),
                                             [&](const auto& c) { return c.second.slot == slot; }));
  }
  void Expire(Time now) {
    std::erase_if(claims, [&](const auto& c) { return c.second.ends <= now; });
  }
  void DropOldest(uint32_t slot) {
    claims.erase(std::find_if(claims.begin(), claims.end(),
                              [&](const auto& c) { return c.second.slot == slot; }));
  }
  uint32_t Held(uint32_t slot, uint64_t space, const std::vector<uint64_t>& keys) const {
    uint32_t best = 0;
    for (const auto& [number, claim] : claims) {
      if (claim.slot != slot || claim.space != space) continue;
      uint32_t i = 0;
      while (i < keys.size() && i < claim.keys.size() && keys[i] == claim.keys[i]) ++i;
      best = std::max(best, i);
    }
    return best;
  }
};

TEST(Claims, AreWhatANaiveModelSays) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Random random(seed);
    ChainIndex index({});
    {
      const Claims::Options options{.max_claims = 8};
      Claims claims(index, options);
      ChainIndex::Reader reader(index);
      NaiveClaims naive;
      Time now{};
      std::vector<std::pair<uint32_t, uint64_t>> made;
      const auto some_keys = [&] {
        std::vector<uint64_t> keys(1 + random.Below(12));
        // Mostly the same, so that they share prefixes of every length.
        for (uint64_t& key : keys) key = random.Below(6) == 0 ? 2 : 1;
        return keys;
      };
      for (int step = 0; step < 1500; ++step) {
        const auto slot = static_cast<uint32_t>(random.Below(3));
        const auto [claim_slot, number] =
            made.empty() ? std::pair<uint32_t, uint64_t>{0, 0} : made[random.Below(made.size())];
        switch (random.Below(8)) {
          case 0:
          case 1:
          case 2: {
            const std::vector<uint64_t> keys = some_keys();
            const uint64_t space = random.Below(2);
            const uint64_t added = claims.Add(slot, 0, space, keys, now);
            ASSERT_NE(added, 0u);
            if (naive.Of(slot) >= options.max_claims) naive.DropOldest(slot);
            naive.claims[added] = {slot, space, keys, now, now + options.at_most};
            made.emplace_back(slot, added);
            break;
          }
          case 3: {
            claims.Confirm(claim_slot, number, now);
            const auto found = naive.claims.find(number);
            if (found == naive.claims.end() || found->second.is_confirmed) break;
            found->second.is_confirmed = true;
            found->second.ends =
                std::min(now + options.after_first_chunk, found->second.made + options.at_most);
            break;
          }
          case 4:
          case 5:
            claims.Withdraw(claim_slot, number);
            naive.claims.erase(number);
            break;
          case 6:
            now += milliseconds(random.Below(random.Below(20) == 0 ? 200'000 : 1000));
            claims.Tick(now);
            naive.Expire(now);
            break;
          default:
            if (random.Below(20) != 0) break;
            claims.Forget(slot);
            std::erase_if(naive.claims, [&](const auto& c) { return c.second.slot == slot; });
        }
        const std::vector<uint64_t> asked = some_keys();
        std::vector<PrefixHold> holds(index.slot_limit());
        for (const uint64_t space : {0, 1}) {
          reader.Match(space, asked, holds);
          for (uint32_t s = 0; s < 3; ++s) {
            const uint32_t shadow = claims.ShadowOf(s);
            ASSERT_EQ(shadow == 0 ? 0 : holds[shadow - 1].blocks, naive.Held(s, space, asked))
                << "seed " << seed << " step " << step;
          }
        }
        ASSERT_EQ(claims.counts().live, naive.claims.size());
      }
    }
    EXPECT_EQ(index.slots(), 0u);
    EXPECT_EQ(index.segments(), 0u);
    EXPECT_EQ(index.charged(), 0u);
  }
}

}  // namespace
}  // namespace penstock::kvcache
