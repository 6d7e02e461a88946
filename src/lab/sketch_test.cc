#include "lab/sketch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/random.h"

namespace penstock::lab {
namespace {

TEST(Sketch, QuantilesAreWithinHalfAPercent) {
  Random random(3);
  Sketch sketch;
  std::vector<double> all;
  double sum = 0;
  for (int i = 0; i < 20'000; ++i) {
    all.push_back(std::exp((random.Uniform() - 0.5) * 16));
    sketch.Add(all.back());
    sum += all.back();
  }
  std::sort(all.begin(), all.end());
  for (const double q : {0.0, 0.01, 0.5, 0.9, 0.99, 1.0}) {
    const size_t rank = std::max<size_t>(1, static_cast<size_t>(std::ceil(q * 20'000)));
    EXPECT_NEAR(sketch.Quantile(q) / all[rank - 1], 1, 0.005) << q;
  }
  EXPECT_DOUBLE_EQ(sketch.mean(), sum / 20'000);
  EXPECT_EQ(sketch.max(), all.back());
}

TEST(Sketch, TakesWhatIsOutOfItsRange) {
  Sketch sketch;
  EXPECT_EQ(sketch.Quantile(0.5), 0);
  for (const double odd : {0.0, -1.0, std::nan(""), 1e-30}) sketch.Add(odd);
  EXPECT_LT(sketch.Quantile(0.5), 1e-5);
  sketch.Add(1e300);
  EXPECT_EQ(sketch.count(), 5u);
  EXPECT_NEAR(sketch.Quantile(1), 65536, 600);
}

}  // namespace
}  // namespace penstock::lab
