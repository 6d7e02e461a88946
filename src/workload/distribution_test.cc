#include "workload/distribution.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "wire/yaml.h"

namespace penstock::workload {
namespace {

using Kind = Distribution::Kind;

struct Moments {
  double mean;
  double std_dev;
};

Moments Measure(const Distribution& distribution) {
  Random random(3);
  constexpr int kDraws = 200'000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = distribution.Draw(random);
    sum += value;
    squares += value * value;
  }
  const double mean = sum / kDraws;
  return {mean, std::sqrt(squares / kDraws - mean * mean)};
}

TEST(Distribution, HasTheMomentsItsFileSays) {
  struct Case {
    const char* name;
    Distribution distribution;
    double mean;
    double std_dev;
  };
  const Case cases[] = {
      {"fixed", Distribution::Fixed(42), 42, 0},
      {"uniform", Distribution::Of(Kind::kUniform, 0, 0, 100, 400), 250, 300 / std::sqrt(12.0)},
      {"normal", Distribution::Of(Kind::kNormal, 1000, 100), 1000, 100},
      {"lognormal", Distribution::Of(Kind::kLogNormal, 1500, 1200), 1500, 1200},
      {"exponential", Distribution::Of(Kind::kExponential, 800, 0), 800, 800},
  };
  for (const Case& c : cases) {
    const Moments moments = Measure(c.distribution);
    EXPECT_NEAR(moments.mean, c.mean, c.mean * 0.01) << c.name;
    EXPECT_NEAR(moments.std_dev, c.std_dev, c.std_dev * 0.03) << c.name;
  }
}

RC_GTEST_PROP(Distribution, StaysWithinItsBounds, (uint64_t seed)) {
  const auto kind = static_cast<Kind>(*rc::gen::inRange(0, 5));
  const double min = *rc::gen::inRange(0, 1000);
  const double max = min + *rc::gen::inRange(0, 1000);
  const double mean = kind == Kind::kFixed ? min : *rc::gen::inRange(1, 5000);
  const auto distribution = Distribution::Of(kind, mean, *rc::gen::inRange(0, 100'000), min, max);
  Random random(seed);
  for (int i = 0; i < 100; ++i) {
    const double value = distribution.Draw(random);
    RC_ASSERT(value >= min && value <= max);
    const uint32_t count = distribution.DrawCount(random, 1);
    RC_ASSERT(count >= 1 && count <= std::max(max, 1.0));
  }
}

TEST(Distribution, EveryKindTakesOneNumber) {
  for (int kind = 0; kind < 5; ++kind) {
    Random one(9);
    Random other(9);
    Distribution::Of(static_cast<Kind>(kind), 10, 5).Draw(one);
    other.Next();
    EXPECT_EQ(one.Next(), other.Next()) << kind;
  }
}

std::string ErrorOf(std::string_view yaml) {
  const auto tree = wire::ParseYaml(yaml, "f");
  config::Diagnostics diagnostics{.file = "f"};
  const config::FieldDoc doc;
  Distribution out;
  if (ReadInto({"len", doc, &diagnostics}, *tree, &out)) return "";
  return diagnostics.errors.empty() ? "?" : diagnostics.errors[0];
}

TEST(Distribution, SaysWhatIsWrong) {
  EXPECT_EQ(ErrorOf("120"), "");
  EXPECT_EQ(ErrorOf("{type: uniform, min: 1, max: 9, mean: 5, std_dev: 2}"),
            "f:1:42: unknown field 'std_dev' in len, did you mean 'stdDev'?");
  EXPECT_EQ(ErrorOf("-3"), "f:1:1: len: '-3' is below the minimum 0");
  EXPECT_EQ(ErrorOf("{type: normal}"), "f:1:1: len: normal needs a mean");
  EXPECT_EQ(ErrorOf("{type: uniform, min: 4}"), "f:1:1: len: uniform needs min and max");
  EXPECT_EQ(ErrorOf("{mean: 4, min: 9, max: 3}"), "f:1:1: len: min is above max");
  EXPECT_EQ(ErrorOf("{type: lognormal, mean: 0}"),
            "f:1:1: len: the mean of lognormal must be above 0");
  EXPECT_EQ(ErrorOf("{mean: 4, std: 1, stdDev: 1}"), "f:1:1: len: stdDev and std say the same");
  EXPECT_NE(ErrorOf("{type: pareto, mean: 1}"), "");
  EXPECT_NE(ErrorOf("[1, 2]"), "");
  EXPECT_NE(ErrorOf("1e300"), "");
}

}  // namespace
}  // namespace penstock::workload
