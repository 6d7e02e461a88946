#include "telemetry/label_limiter.h"

#include <mutex>

#include "core/text.h"
#include "telemetry/metrics.h"

namespace penstock::telemetry {

std::string_view LabelLimiter::Limit(std::string_view value) {
  value = Utf8Prefix(value, kMaxLabelBytes);
  if (value.empty()) return value;
  {
    std::shared_lock lock(mutex_);
    if (values_.contains(value)) return value;
    if (values_.size() >= limit_) return "other";
  }
  std::unique_lock lock(mutex_);
  if (values_.size() >= limit_) return values_.contains(value) ? value : "other";
  values_.emplace(value);
  return value;
}

size_t LabelLimiter::size() const {
  std::shared_lock lock(mutex_);
  return values_.size();
}

}  // namespace penstock::telemetry
