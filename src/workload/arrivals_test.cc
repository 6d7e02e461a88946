#include "workload/arrivals.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <vector>

namespace penstock::workload {
namespace {

Stage Of(double rate, double duration_s, std::optional<double> rate_to = {}) {
  Stage stage;
  stage.rate = rate;
  stage.rate_to = rate_to;
  stage.duration = FromSeconds(duration_s);
  return stage;
}

std::vector<double> All(Arrivals arrivals) {
  std::vector<double> times;
  while (const auto at = arrivals.Next()) times.push_back(ToSeconds(*at));
  EXPECT_EQ(times.size(), arrivals.count());
  return times;
}

double CountWithin(const std::vector<double>& times, double from, double to) {
  double count = 0;
  for (const double t : times) count += t >= from && t < to;
  return count;
}

TEST(Arrivals, ConstantOnesAreEven) {
  const auto times = All({Of(4, 10), {}, 1, ArrivalKind::kConstant, 1});
  ASSERT_EQ(times.size(), 40u);
  for (size_t i = 0; i < times.size(); ++i) {
    EXPECT_NEAR(times[i], static_cast<double>(i) * 0.25, 1e-8);
  }
}

TEST(Arrivals, PoissonOnesHaveExponentialGapsAndTheStagesCount) {
  const auto times = All({Of(50, 2000), {}, 1, ArrivalKind::kPoisson, 1});
  ASSERT_EQ(times.size(), 100'000u);
  double squares = 0;
  double short_gaps = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    const double gap = times[i] - times[i - 1];
    squares += gap * gap;
    short_gaps += gap < 0.02;
  }
  EXPECT_NEAR(squares / 1e5, 2 * 0.02 * 0.02, 0.02 * 0.02 * 0.05);
  EXPECT_NEAR(short_gaps / 1e5, 1 - std::exp(-1.0), 0.01);
  EXPECT_NEAR(CountWithin(times, 0, 1000), 50'000, 500);
}

TEST(Arrivals, ARampIsAStraightLine) {
  for (const auto kind : {ArrivalKind::kConstant, ArrivalKind::kPoisson}) {
    const auto up = All({Of(0, 100, 100), {}, 1, kind, 1});
    ASSERT_EQ(up.size(), 5000u);
    EXPECT_NEAR(CountWithin(up, 0, 50), 1250, 120);
    const auto down = All({Of(100, 100, 0), {}, 1, kind, 1});
    EXPECT_NEAR(CountWithin(down, 0, 50), 3750, 120);
    EXPECT_LE(down.back(), 100);
  }
}

TEST(Arrivals, BurstsKeepTheMean) {
  const Bursts bursts{.period = seconds(10), .on = seconds(2), .factor = 4};
  const auto times = All({Of(2000, 100), bursts, 1, ArrivalKind::kPoisson, 5});
  ASSERT_EQ(times.size(), 200'000u);
  double on = 0;
  for (const double t : times) on += std::fmod(t, 10) < 2;
  EXPECT_NEAR(on, 160'000, 600);
  // All of it in the bursts.
  const Bursts silent{.period = seconds(10), .on = seconds(2), .factor = 5};
  for (const double t : All({Of(20, 100), silent, 1, ArrivalKind::kConstant, 5})) {
    EXPECT_LE(std::fmod(t, 10), 2 + 1e-6) << t;
  }
}

TEST(Arrivals, TheScaleMultipliesTheRate) {
  EXPECT_EQ(All({Of(4, 10), {}, 2.5, ArrivalKind::kPoisson, 1}).size(), 100u);
  EXPECT_EQ(All({Of(0, 10), {}, 1, ArrivalKind::kPoisson, 1}).size(), 0u);
}

RC_GTEST_PROP(Arrivals, NeverGoBackAndStayWithinTheStage, (uint64_t seed)) {
  const double duration = *rc::gen::inRange(1, 200);
  const Stage stage = Of(*rc::gen::inRange(0, 50), duration, *rc::gen::inRange(0, 50));
  std::optional<Bursts> bursts;
  if (*rc::gen::arbitrary<bool>()) {
    const int period = *rc::gen::inRange(2, 60);
    const int on = *rc::gen::inRange(1, period);
    bursts = Bursts{seconds(period), seconds(on), 1 + (1.0 * period / on - 1) / 2};
  }
  const auto kind = *rc::gen::element(ArrivalKind::kConstant, ArrivalKind::kPoisson);
  double before = 0;
  for (const double t : All({stage, bursts, 1, kind, seed})) {
    RC_ASSERT(t >= before && t <= duration);
    before = t;
  }
}

}  // namespace
}  // namespace penstock::workload
