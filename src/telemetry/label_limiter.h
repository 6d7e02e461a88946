// Keeps a label that clients fill from growing without end: the first so many distinct values of
// the process's life stay what they are, later ones are shown as "other".
//
// THREADS: internally locked. COST: a shared lock and a look-up.
// SOURCE: llm-d-router docs/metrics.md.
#pragma once

#include <cstddef>
#include <functional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_set>

namespace penstock::telemetry {

class LabelLimiter {
 public:
  explicit LabelLimiter(size_t limit) : limit_(limit) {}
  // The value, cut at kMaxLabelBytes, or "other". "" is always itself. A view of `value` or of a
  // literal.
  std::string_view Limit(std::string_view value);
  // Values so far.
  size_t size() const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  const size_t limit_;
  mutable std::shared_mutex mutex_;  // shared by look-ups, exclusive for a new value only
  std::unordered_set<std::string, Hash, std::equal_to<>> values_;
};

}  // namespace penstock::telemetry
