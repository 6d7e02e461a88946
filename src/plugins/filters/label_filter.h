// What filters over labels share: the verdict on every endpoint is worked out once per snapshot.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "plugins/snapshot_memo.h"
#include "sched/plugin.h"

namespace penstock::plugins {

// The label's value, or nullptr.
inline const std::string* FindLabel(const model::Labels& labels, std::string_view key) {
  const auto it = std::lower_bound(labels.begin(), labels.end(), key,
                                   [](const auto& label, auto k) { return label.first < k; });
  return it != labels.end() && it->first == key ? &it->second : nullptr;
}

inline bool Contains(const std::vector<std::string>& values, std::string_view value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

class LabelFilter : public sched::Filter {
 public:
  void Apply(const sched::RequestContext&, const model::EndpointColumns& columns, Mask& candidates,
             Random&) const final {
    const model::PoolSnapshot& pool = *columns.pool;
    const Mask& verdict = verdicts_.Get(pool, "", [&](Mask* matching) {
      matching->Reset(pool.endpoints.size());
      for (size_t i = 0; i < pool.endpoints.size(); ++i) {
        if (Matches(pool.endpoints[i].spec.labels)) matching->Set(i);
      }
    });
    candidates.Keep([&](size_t i) { return verdict.Test(i); });
  }

 private:
  virtual bool Matches(const model::Labels& labels) const = 0;

  const SnapshotMemo<Mask> verdicts_;
};

}  // namespace penstock::plugins
