#include "kvcache/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <list>
#include <map>
#include <set>
#include <thread>

namespace penstock::kvcache {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

std::vector<float> CountOf(const PrefixIndex& index, const std::vector<uint64_t>& sequence,
                           size_t slots) {
  std::vector<float> counts(slots);
  index.Count(sequence, counts);
  return counts;
}

// Spreads small numbers as hashes are spread.
uint64_t Key(uint64_t n) { return n * 0x9e3779b97f4a7c15ULL; }
std::vector<uint64_t> Keys(std::vector<uint64_t> numbers) {
  for (uint64_t& n : numbers) n = Key(n);
  return numbers;
}

TEST(PrefixIndex, CountsLeadingBlocksPerSlot) {
  PrefixIndex index(100);
  index.Insert(0, Keys({1, 2, 3}));
  index.Insert(2, Keys({1, 2}));
  EXPECT_THAT(CountOf(index, Keys({1, 2, 3, 4}), 4), ElementsAre(3, 0, 2, 0));
  EXPECT_THAT(CountOf(index, Keys({9, 1}), 4), Each(0));
}

TEST(PrefixIndex, StopsAtTheFirstBlockThatNobodyHolds) {
  PrefixIndex index(100);
  index.Insert(0, Keys({1, 3}));
  EXPECT_THAT(CountOf(index, Keys({1, 2, 3}), 1), ElementsAre(1));
}

TEST(PrefixIndex, ASlotThatSkippedABlockStillCounts) {
  PrefixIndex index(100);
  index.Insert(0, Keys({1, 2, 3}));
  index.Insert(1, Keys({3}));
  EXPECT_THAT(CountOf(index, Keys({1, 2, 3}), 2), ElementsAre(3, 1));
}

TEST(PrefixIndex, LeavesOutSlotsBeyondTheCounts) {
  PrefixIndex index(100);
  for (uint32_t slot = 0; slot < 100; ++slot) index.Insert(slot, Keys({1}));
  EXPECT_THAT(CountOf(index, Keys({1}), 3), ElementsAre(1, 1, 1));
}

TEST(PrefixIndex, SaysWhetherAnybodyHoldsTheFirstBlock) {
  PrefixIndex index(100);
  index.Insert(0, Keys({1}));
  std::vector<float> counts(1);
  EXPECT_TRUE(index.Count(Keys({1, 2}), counts));
  EXPECT_FALSE(index.Count(Keys({2, 1}), counts));
  EXPECT_FALSE(index.Count({}, counts));
}

TEST(PrefixIndex, ForgetsTheTailOfASequenceFirst) {
  PrefixIndex index(4);
  index.Insert(0, Keys({1, 2, 3, 4}));
  index.Insert(0, Keys({5}));
  EXPECT_THAT(CountOf(index, Keys({1, 2, 3, 4}), 1), ElementsAre(3));
  EXPECT_THAT(CountOf(index, Keys({5}), 1), ElementsAre(1));
}

TEST(PrefixIndex, AUseRenewsABlock) {
  PrefixIndex index(2);
  index.Insert(0, Keys({1}));
  index.Insert(0, Keys({2}));
  index.Insert(0, Keys({1}));
  index.Insert(0, Keys({3}));
  EXPECT_THAT(CountOf(index, Keys({1}), 1), ElementsAre(1));
  EXPECT_THAT(CountOf(index, Keys({2}), 1), ElementsAre(0));
  EXPECT_EQ(index.evictions(), 1u);
}

TEST(PrefixIndex, KeepsTheBeginningOfASequenceLongerThanItsCapacity) {
  PrefixIndex index(3);
  index.Insert(0, Keys({1, 2, 3, 4, 5}));
  EXPECT_THAT(CountOf(index, Keys({1, 2, 3, 4, 5}), 1), ElementsAre(3));
  EXPECT_EQ(index.entries(), 3u);
}

TEST(PrefixIndex, ShrinkingForgetsAtOnceAndNeverGoesBelowOne) {
  PrefixIndex index(10);
  index.Insert(0, Keys({1, 2, 3, 4}));
  index.SetCapacity(0, 2);
  EXPECT_EQ(index.entries(), 2u);
  index.SetCapacity(0, 0);
  EXPECT_EQ(index.entries(), 1u);
  EXPECT_EQ(index.MaxBytes(), PrefixIndex::kBytesPerEntry);
}

TEST(PrefixIndex, RemovesASlotAndNothingElse) {
  PrefixIndex index(100);
  for (uint32_t slot = 0; slot < 200; ++slot) index.Insert(slot, Keys({1, 2}));
  index.Insert(7, Keys({3}));
  index.RemoveSlot(7);
  std::vector<float> expected(200, 2);
  expected[7] = 0;
  EXPECT_EQ(CountOf(index, Keys({1, 2}), 200), expected);
  EXPECT_THAT(CountOf(index, Keys({3}), 200), Each(0));
  EXPECT_EQ(index.entries(), 199u * 2);
  for (uint32_t slot = 0; slot < 200; ++slot) index.RemoveSlot(slot);
  EXPECT_EQ(index.entries(), 0u);
  EXPECT_EQ(index.blocks(), 0u);
}

TEST(PrefixIndex, DoesNotTrackSlotsBeyondItsLimit) {
  PrefixIndex index(100);
  index.Insert(PrefixIndex::kMaxSlots, Keys({1}));
  index.SetCapacity(PrefixIndex::kMaxSlots, 5);
  index.RemoveSlot(PrefixIndex::kMaxSlots);
  EXPECT_EQ(index.entries(), 0u);
  index.Insert(PrefixIndex::kMaxSlots - 1, Keys({1}));
  EXPECT_EQ(index.entries(), 1u);
}

// The same behaviour, written without any thought of speed.
struct NaiveIndex {
  struct Slot {
    size_t capacity;
    std::list<uint64_t> newest_first;
  };
  explicit NaiveIndex(size_t slots, size_t capacity) : slots(slots, Slot{capacity, {}}) {}

  void Insert(size_t slot, std::vector<uint64_t> sequence) {
    Slot& s = slots[slot];
    if (sequence.size() > s.capacity) sequence.resize(s.capacity);
    for (auto it = sequence.rbegin(); it != sequence.rend(); ++it) {
      s.newest_first.remove(*it);
      s.newest_first.push_front(*it);
      Trim(s);
    }
  }
  static void Trim(Slot& s) {
    while (s.newest_first.size() > s.capacity) s.newest_first.pop_back();
  }
  std::vector<float> Count(const std::vector<uint64_t>& sequence) const {
    std::vector<float> counts(slots.size());
    for (const uint64_t key : sequence) {
      bool any = false;
      for (size_t i = 0; i < slots.size(); ++i) {
        const auto& held = slots[i].newest_first;
        if (std::find(held.begin(), held.end(), key) == held.end()) continue;
        counts[i] += 1;
        any = true;
      }
      if (!any) break;
    }
    return counts;
  }
  std::vector<Slot> slots;
};

TEST(PrefixIndex, AgreesWithANaiveIndex) {
  const bool ok = rc::check([] {
    constexpr size_t kSlots = 12;  // enough for bitmaps
    constexpr uint32_t kCapacity = 9;
    PrefixIndex index(kCapacity);
    NaiveIndex naive(kSlots, kCapacity);
    const int steps = *rc::gen::inRange(0, 120);
    for (int i = 0; i < steps; ++i) {
      const uint32_t slot = *rc::gen::inRange<uint32_t>(0, kSlots);
      // Overlapping runs of keys, as prompts that share prefixes have.
      const uint64_t first = *rc::gen::inRange<uint64_t>(0, 6);
      std::vector<uint64_t> sequence;
      for (uint64_t n = *rc::gen::inRange<uint64_t>(0, 14); n > 0; --n) {
        sequence.push_back(Key(first + sequence.size()));
      }
      const int action = *rc::gen::inRange(0, 20);
      if (action == 0) {
        index.RemoveSlot(slot);
        naive.slots[slot] = {kCapacity, {}};
      } else if (action == 1) {
        const uint32_t capacity = *rc::gen::inRange<uint32_t>(1, 20);
        index.SetCapacity(slot, capacity);
        naive.slots[slot].capacity = capacity;
        NaiveIndex::Trim(naive.slots[slot]);
      } else {
        index.Insert(slot, sequence);
        naive.Insert(slot, sequence);
      }
      RC_ASSERT(CountOf(index, sequence, kSlots) == naive.Count(sequence));
      size_t entries = 0;
      for (const auto& s : naive.slots) entries += s.newest_first.size();
      RC_ASSERT(index.entries() == entries);
    }
  });
  EXPECT_TRUE(ok);
}

TEST(PrefixIndex, SurvivesManyThreads) {
  PrefixIndex index(64);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&index, t] {
      std::vector<float> counts(8);
      std::vector<uint64_t> sequence(40);
      for (uint64_t i = 0; i < 300; ++i) {
        for (uint64_t k = 0; k < sequence.size(); ++k) sequence[k] = Key((i + t) % 7 * 100 + k);
        index.Count(sequence, counts);
        index.Insert(static_cast<uint32_t>((i + t) % 8), sequence);
        if (i % 50 == 0) index.RemoveSlot(static_cast<uint32_t>(t));
        if (i % 70 == 0) index.SetCapacity(static_cast<uint32_t>(t), 32 + i % 64);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(index.entries() * PrefixIndex::kBytesPerEntry, index.MaxBytes());
  for (uint32_t slot = 0; slot < 8; ++slot) index.RemoveSlot(slot);
  EXPECT_EQ(index.entries(), 0u);
  EXPECT_EQ(index.blocks(), 0u);
}

TEST(HolderSet, BehavesAsASetAroundTheStepToABitmap) {
  const bool ok = rc::check([](const std::vector<std::pair<bool, uint8_t>>& steps) {
    HolderSet set;
    std::set<uint16_t> model;
    for (const auto& [add, n] : steps) {
      const auto slot = static_cast<uint16_t>(n % 16 * 4000);
      if (add) {
        set.Add(slot);
        model.insert(slot);
      } else {
        set.Remove(slot);
        model.erase(slot);
      }
      std::set<uint16_t> seen;
      if (set.is_bitmap()) {
        for (size_t i = 0; i < set.words().size() * 64; ++i) {
          if (set.words()[i / 64] >> (i % 64) & 1) seen.insert(static_cast<uint16_t>(i));
        }
      } else {
        seen.insert(set.slots().begin(), set.slots().end());
      }
      RC_ASSERT(seen == model);
      RC_ASSERT(set.size() == model.size());
      HolderSet moved(std::move(set));
      set = std::move(moved);
    }
  });
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace penstock::kvcache
