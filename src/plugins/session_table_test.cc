#include "plugins/session_table.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace penstock::plugins {
namespace {

constexpr uint64_t kOneBucket = uint64_t{1} << 32;  // multiples fall into the same bucket

TEST(SessionTable, InAFullBucketTheOldestBindingGivesWay) {
  SessionTable table(seconds(100));
  const Time start = FromNanos(1'000'000'000'000);
  for (uint32_t i = 0; i < SessionTable::kWays; ++i) {
    table.Bind((i + 1) * kOneBucket, i, start + seconds(i));
  }
  const Time now = start + seconds(SessionTable::kWays);
  table.Bind(1 * kOneBucket, 0, now);  // used again
  table.Bind(99 * kOneBucket, 99, now);
  EXPECT_EQ(table.Find(1 * kOneBucket, now), 0u);
  EXPECT_EQ(table.Find(2 * kOneBucket, now), std::nullopt);
  EXPECT_EQ(table.Find(3 * kOneBucket, now), 2u);
  EXPECT_EQ(table.Find(99 * kOneBucket, now), 99u);
}

TEST(SessionTable, AClockThatIsALittleBehindSeesFreshBindings) {
  SessionTable table(seconds(1));
  const Time now = FromNanos(1'000'000'000'000);
  table.Bind(7, 3, now);
  EXPECT_EQ(table.Find(7, now - milliseconds(50)), 3u);
}

TEST(SessionTable, ASweepKeepsOldStampsFromLookingNewAgain) {
  SessionTable table(seconds(1));
  const Time start = FromNanos(1'000'000'000'000);
  table.Bind(7, 3, start);
  table.Sweep(start + seconds(2));
  EXPECT_EQ(table.Find(7, start + seconds(256)), std::nullopt);
}

TEST(SessionTable, CannotBindSlotsThatDoNotFit) {
  SessionTable table(seconds(1));
  table.Bind(7, 65536, Time());
  EXPECT_EQ(table.Find(7, Time()), std::nullopt);
  table.Bind(7, 65535, Time());
  EXPECT_EQ(table.Find(7, Time()), 65535u);
}

TEST(SessionTable, SurvivesManyThreads) {
  SessionTable table(seconds(1));
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&table, t] {
      for (uint64_t i = 0; i < 2000; ++i) {
        const Time now = FromNanos(static_cast<int64_t>(i) * 1'000'000);
        table.Bind(i % 50 * 0x9e3779b97f4a7c15ULL, static_cast<uint32_t>(i % 50), now);
        const auto slot = table.Find(i % 50 * 0x9e3779b97f4a7c15ULL, now);
        EXPECT_EQ(slot.value_or(i % 50), i % 50);
        if (i % 1000 == 0) table.ForgetSlot(t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace penstock::plugins
