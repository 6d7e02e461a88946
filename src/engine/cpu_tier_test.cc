#include "engine/cpu_tier.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <list>

#include "core/random.h"

namespace penstock::engine {
namespace {

using Hashes = std::vector<uint64_t>;

TEST(CpuTier, HoldsSoManyBlocksAndDropsTheLeastRecentlyUsed) {
  CpuTier tier(3);
  tier.Store(Hashes{1, 2, 3});
  EXPECT_EQ(tier.Prefix(Hashes{1, 2, 3, 4}), 3u);
  tier.Store(Hashes{4});  // in the place of the tail of what was stored before
  EXPECT_EQ(tier.blocks(), 3u);
  EXPECT_EQ(tier.Prefix(Hashes{1, 2, 3}), 2u);
  EXPECT_EQ(tier.Prefix(Hashes{4}), 1u);
}

TEST(CpuTier, TouchingKeepsAndDoesNotStore) {
  CpuTier tier(3);
  tier.Store(Hashes{1, 2});
  tier.Store(Hashes{3});
  tier.Touch(Hashes{1, 2, 9});
  tier.Store(Hashes{4});
  EXPECT_EQ(tier.Prefix(Hashes{1, 2}), 2u);
  EXPECT_EQ(tier.Prefix(Hashes{3}), 0u);
  EXPECT_EQ(tier.Prefix(Hashes{9}), 0u);
}

TEST(CpuTier, APrefixEndsAtItsFirstGap) {
  CpuTier tier(8);
  tier.Store(Hashes{1, 3});
  EXPECT_EQ(tier.Prefix(Hashes{1, 2, 3}), 1u);
  EXPECT_EQ(tier.Prefix(Hashes{}), 0u);
}

TEST(CpuTier, MoreThanItHoldsLeavesTheHead) {
  CpuTier tier(2);
  tier.Store(Hashes{1, 2, 3, 4, 5});
  EXPECT_EQ(tier.blocks(), 2u);
  EXPECT_EQ(tier.Prefix(Hashes{1, 2, 3}), 2u);
}

TEST(CpuTier, OfNoBlocksHoldsNothing) {
  CpuTier tier(0);
  tier.Store(Hashes{1});
  EXPECT_EQ(tier.blocks(), 0u);
  EXPECT_EQ(tier.Prefix(Hashes{1}), 0u);
}

TEST(CpuTier, ClearedItIsAsNew) {
  CpuTier tier(2);
  tier.Store(Hashes{1, 2});
  tier.Clear();
  EXPECT_EQ(tier.blocks(), 0u);
  tier.Store(Hashes{3, 4});
  EXPECT_EQ(tier.Prefix(Hashes{3, 4}), 2u);
}

TEST(CpuTierProperty, AgreesWithAPlainList) {
  EXPECT_TRUE(rc::check("tier", [](uint64_t seed) {
    Random random(seed);
    const auto capacity = static_cast<uint32_t>(random.Below(12));
    CpuTier tier(capacity);
    std::list<uint64_t> order;  // least recently used first
    for (int i = 0; i < 200; ++i) {
      Hashes hashes(random.Below(5));
      const uint64_t first = random.Below(20);
      for (size_t k = 0; k < hashes.size(); ++k) hashes[k] = first + k;
      const bool stores = random.Below(3) > 0;
      stores ? tier.Store(hashes) : tier.Touch(hashes);
      for (size_t k = hashes.size(); k-- > 0;) {
        const auto it = std::find(order.begin(), order.end(), hashes[k]);
        if (it == order.end() && (!stores || capacity == 0)) continue;
        if (it != order.end()) order.erase(it);
        if (order.size() == capacity) order.pop_front();
        order.push_back(hashes[k]);
      }
      RC_ASSERT(tier.blocks() == order.size());
      for (uint64_t hash = 0; hash < 25; ++hash) {
        const bool is_held = std::find(order.begin(), order.end(), hash) != order.end();
        RC_ASSERT(tier.Prefix(Hashes{hash}) == (is_held ? 1u : 0u));
      }
    }
  }));
}

}  // namespace
}  // namespace penstock::engine
