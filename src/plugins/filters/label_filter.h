// What filters over labels share: the verdict on every endpoint is worked out once per snapshot.
#pragma once

#include <algorithm>
#include <span>
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

// By the role that an endpoint's label names. SOURCE: llm-d's role filters; unlabelled endpoints
// can decode and nothing else.
class RoleFilter : public LabelFilter {
 public:
  enum class Unlabelled { kMatch, kNoMatch };
  // `roles` must be static.
  RoleFilter(std::span<const std::string_view> roles, Unlabelled unlabelled)
      : roles_(roles), unlabelled_(unlabelled) {}

 private:
  bool Matches(const model::Labels& labels) const final {
    const std::string* role = FindLabel(labels, model::kRoleLabel);
    if (role == nullptr) return unlabelled_ == Unlabelled::kMatch;
    return std::find(roles_.begin(), roles_.end(), *role) != roles_.end();
  }

  const std::span<const std::string_view> roles_;
  const Unlabelled unlabelled_;
};

}  // namespace penstock::plugins
