#include "tokens/told_tokens.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <thread>

namespace penstock::tokens {
namespace {

constexpr Time kNow = Time(seconds(1000));

ToldTokens::Told Ids(uint32_t first, size_t count = 1) {
  TokenAnswer answer{std::vector<uint32_t>(count, first), {}};
  return std::make_shared<const TokenAnswer>(std::move(answer));
}

TEST(ToldTokens, AreFoundUnderTheirKey) {
  ToldTokens told(1 << 20);
  EXPECT_EQ(told.Find({1, 2}, kNow), nullptr);
  told.Store({1, 2}, Ids(5), kNow);
  ASSERT_NE(told.Find({1, 2}, kNow), nullptr);
  EXPECT_EQ(told.Find({1, 2}, kNow)->ids.front(), 5u);
  EXPECT_EQ(told.Find({1, 3}, kNow), nullptr);
  EXPECT_EQ(told.Find({2, 2}, kNow), nullptr);
  told.Store({1, 2}, Ids(6), kNow);
  EXPECT_EQ(told.Find({1, 2}, kNow)->ids.front(), 6u);
  EXPECT_EQ(told.stats().entries, 1u);
}

TEST(ToldTokens, OldOnesDoNotCount) {
  ToldTokens told(1 << 20);
  told.Store({1, 1}, Ids(5), kNow);
  EXPECT_NE(told.Find({1, 1}, kNow + ToldTokens::kMaxAge), nullptr);
  EXPECT_EQ(told.Find({1, 1}, kNow + ToldTokens::kMaxAge + seconds(1)), nullptr);
  EXPECT_EQ(told.stats().entries, 0u);
  EXPECT_EQ(told.stats().bytes, 0u);
  EXPECT_EQ(told.stats().evicted, 1u);
}

TEST(ToldTokens, TheLeastRecentlyUsedGoFirst) {
  ToldTokens told(3 * (192 + 400));
  for (uint64_t i = 1; i <= 3; ++i) told.Store({i, i}, Ids(1, 100), kNow);
  EXPECT_NE(told.Find({1, 1}, kNow), nullptr);
  told.Store({4, 4}, Ids(1, 100), kNow);
  EXPECT_NE(told.Find({1, 1}, kNow), nullptr);
  EXPECT_EQ(told.Find({2, 2}, kNow), nullptr);
  EXPECT_EQ(told.stats().evicted, 1u);
  told.Store({5, 5}, Ids(1, 1'000'000), kNow);
  EXPECT_EQ(told.Find({5, 5}, kNow), nullptr);
  EXPECT_EQ(told.stats().entries, 3u);
  ToldTokens none(0);
  none.Store({1, 1}, Ids(1), kNow);
  EXPECT_EQ(none.Find({1, 1}, kNow), nullptr);
}

RC_GTEST_PROP(ToldTokens, StayWithinTheirBound, ()) {
  ToldTokens told(4000);
  const auto steps = *rc::gen::container<std::vector<std::pair<uint8_t, uint16_t>>>(
      rc::gen::pair(rc::gen::inRange<uint8_t>(0, 20), rc::gen::inRange<uint16_t>(0, 500)));
  for (const auto& [key, count] : steps) {
    told.Store({key, key}, Ids(key, count), kNow);
    RC_ASSERT(told.stats().bytes <= 4000u);
    if (const auto found = told.Find({key, key}, kNow)) RC_ASSERT(found->ids.size() == count);
  }
}

TEST(ToldTokens, FromManyThreads) {
  ToldTokens told(10'000);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&told] {
      for (uint64_t i = 0; i < 2000; ++i) {
        told.Store({i % 50, 0}, Ids(static_cast<uint32_t>(i % 50), 20), kNow);
        if (const auto found = told.Find({(i + 7) % 50, 0}, kNow)) {
          EXPECT_EQ(found->ids.front(), (i + 7) % 50);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(told.stats().bytes, 10'000u);
}

}  // namespace
}  // namespace penstock::tokens
