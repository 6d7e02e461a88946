// How a length or a pause is distributed, as workload files say it: a plain number, or
//
//   {type: lognormal, mean: 1500, stdDev: 1200, min: 100, max: 10000}
//
// What falls beyond min or max is moved there, as inference-perf does; mean and stdDev are those of
// the distribution before that, for lognormal too. `uniform` needs min and max only.
//
// THREADS: immutable. COST: one draw is one number of the generator, whatever the type, so that a
// change of one distribution leaves what others draw as it is; 5 to 40 ns.
// SOURCE: inference-perf's `Distribution` (its `skew_normal` and `poisson` are not there).
#pragma once

#include <cstdint>
#include <limits>

#include "config/parse.h"
#include "core/random.h"

namespace penstock::workload {

class Distribution {
 public:
  enum class Kind : uint8_t { kFixed, kUniform, kNormal, kLogNormal, kExponential };
  // No draw is above: 100 million tokens, or three years of seconds.
  static constexpr double kMost = 1e8;

  Distribution() = default;
  // Always `value`. Explicit in that a plain number in a file means it too.
  static Distribution Fixed(double value);
  // REQUIRES: 0 <= min <= max <= kMost, mean and std_dev finite and not negative, the mean above 0
  // for kLogNormal and kExponential. The first two of what a kind does not use are ignored.
  static Distribution Of(Kind kind, double mean, double std_dev, double min = 0,
                         double max = kMost);

  // Within [min(), max()].
  double Draw(Random& random) const;
  // To the nearest whole number, `least` at least.
  uint32_t DrawCount(Random& random, uint32_t least) const;

  double min() const { return min_; }
  double max() const { return max_; }
  bool operator==(const Distribution&) const = default;

 private:
  Kind kind_ = Kind::kFixed;
  double center_ = 0;  // mean; for kLogNormal that of the logarithm
  double spread_ = 0;
  double min_ = 0;
  double max_ = 0;
};

// Found by config/parse.h for fields of this type.
bool ReadInto(const config::ReadContext& context, const wire::YamlNode& node, Distribution* out);

}  // namespace penstock::workload
