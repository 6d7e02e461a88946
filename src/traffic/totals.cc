#include "traffic/totals.h"

#include <algorithm>
#include <cmath>

namespace penstock::traffic {
namespace {

constexpr double kLeastSeconds = 1e-4;
constexpr double kGrowth = 1.05;

}  // namespace

void LatencyHistogram::Add(Duration time) {
  const double steps =
      std::log(std::max(ToSeconds(time), kLeastSeconds) / kLeastSeconds) / std::log(kGrowth);
  ++counts_[std::min(static_cast<size_t>(steps), kBuckets - 1)];
  ++count_;
}

double LatencyHistogram::Quantile(double q) const {
  if (count_ == 0) return 0;
  // The smallest value that at least this many are not above.
  const auto rank =
      std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(q * static_cast<double>(count_))));
  uint64_t seen = 0;
  size_t bucket = 0;
  while (bucket + 1 < kBuckets && (seen += counts_[bucket]) < rank) ++bucket;
  return kLeastSeconds * std::pow(kGrowth, static_cast<double>(bucket) + 0.5);
}

void Totals::Add(const TurnRecord& record) {
  if (!record.error.empty()) {
    ++failed;
    const bool is_known = errors.contains(record.error) || errors.size() + 1 < kMaxErrorKinds;
    ++errors[is_known ? record.error : "other"];
    if (first_error.empty()) first_error = record.error + ": " + record.detail;
    return;
  }
  ++answered;
  if (record.has_first_token) first_token.Add(record.first_token);
  if (record.per_token > Duration(0)) per_token.Add(record.per_token);
  whole.Add(record.whole);
  prompt_tokens += record.usage.prompt_tokens;
  output_tokens += record.usage.output_tokens;
  if (!record.usage.cached_known) return;
  hit_prompt_tokens += record.usage.prompt_tokens;
  hit_cached_tokens += record.usage.cached_tokens;
}

double Totals::HitRate() const {
  if (hit_prompt_tokens == 0) return -1;
  return static_cast<double>(hit_cached_tokens) / static_cast<double>(hit_prompt_tokens);
}

}  // namespace penstock::traffic
