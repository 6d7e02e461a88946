#include "core/exact_math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/random.h"

namespace penstock {
namespace {

TEST(ExactMath, IsCloseToTheLibrary) {
  Random random(1);
  for (int i = 0; i < 100'000; ++i) {
    const double x = (random.Uniform() - 0.5) * 1400;
    EXPECT_NEAR(ExactExp(x) / std::exp(x), 1, 2e-13) << x;
    const double y = std::exp((random.Uniform() - 0.5) * 1400);
    EXPECT_NEAR(ExactLog(y), std::log(y), 1e-13 * std::max(1.0, std::abs(std::log(y)))) << y;
    const double near_one = 1 + (random.Uniform() - 0.5) * 1e-3;
    EXPECT_NEAR(ExactLog(near_one), std::log(near_one), 1e-16) << near_one;
  }
  EXPECT_NEAR(ExactPow(10, 0.5), std::sqrt(10), 1e-12);
}

TEST(ExactMath, EndsOfTheRange) {
  EXPECT_EQ(ExactExp(0), 1);
  EXPECT_EQ(ExactExp(1000), INFINITY);
  EXPECT_EQ(ExactExp(-1000), 0);
  EXPECT_NEAR(ExactExp(-744) / std::exp(-744.0), 1, 0.1);  // subnormal: few bits
  EXPECT_TRUE(std::isnan(ExactExp(NAN)));
  EXPECT_EQ(ExactLog(1), 0);
  EXPECT_EQ(ExactLog(0), -INFINITY);
  EXPECT_EQ(ExactLog(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(ExactLog(-1)));
  EXPECT_NEAR(ExactLog(5e-324), std::log(5e-324), 1e-10);
}

TEST(ExactMath, NormalQuantileInvertsTheDistribution) {
  for (double p = 1e-6; p < 1; p += 1e-3) {
    const double x = ExactNormalQuantile(p);
    EXPECT_NEAR(0.5 * std::erfc(-x / std::sqrt(2.0)), p, 2e-9) << p;
  }
  EXPECT_NEAR(ExactNormalQuantile(0.975), 1.959963984540054, 3e-9);
}

// Any machine and compiler must give these bits.
TEST(ExactMath, BitsAreTheSameEverywhere) {
  uint64_t sum = 0;
  Random random(7);
  for (int i = 0; i < 1000; ++i) {
    sum = sum * 31 + std::bit_cast<uint64_t>(ExactExp((random.Uniform() - 0.5) * 50));
    sum = sum * 31 + std::bit_cast<uint64_t>(ExactLog(random.Uniform()));
    sum = sum * 31 + std::bit_cast<uint64_t>(ExactNormalQuantile(random.Uniform()));
  }
  EXPECT_EQ(sum, 9963733182625324715ULL);
}

}  // namespace
}  // namespace penstock
