#include "lab/sketch.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace penstock::lab {
namespace {

constexpr int kBits = 7;  // of the mantissa
constexpr int kLeastExponent = -20;
constexpr int kMostExponent = 16;
constexpr uint64_t kFirst = static_cast<uint64_t>(kLeastExponent + 1023) << kBits;
constexpr size_t kBuckets = static_cast<size_t>(kMostExponent - kLeastExponent) << kBits;

}  // namespace

void Sketch::Add(double value) {
  if (!(value >= 0)) value = 0;
  if (buckets_.empty()) buckets_.resize(kBuckets);
  const uint64_t key = std::bit_cast<uint64_t>(value) >> (52 - kBits);
  const uint64_t bucket = key < kFirst ? 0 : std::min<uint64_t>(key - kFirst, kBuckets - 1);
  ++buckets_[bucket];
  ++count_;
  sum_ += value;
  max_ = std::max(max_, value);
}

double Sketch::Quantile(double q) const {
  if (count_ == 0) return 0;
  const auto rank = static_cast<uint64_t>(
      std::clamp(std::ceil(q * static_cast<double>(count_)), 1.0, static_cast<double>(count_)));
  uint64_t below = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    below += buckets_[i];
    if (below < rank) continue;
    const double low = std::bit_cast<double>((kFirst + i) << (52 - kBits));
    const double high = std::bit_cast<double>((kFirst + i + 1) << (52 - kBits));
    return std::min((low + high) / 2, max_);
  }
  return max_;
}

}  // namespace penstock::lab
