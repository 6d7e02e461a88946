// Prefers endpoints with more free KV cache.
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class KvCacheUtilizationScorer : public sched::Scorer {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit KvCacheUtilizationScorer(const Params&) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kKvUsage, ""}}; }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns, const Mask&,
             std::span<float> scores) const override {
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = 1.0F - columns.kv_usage[i];
  }
};

}  // namespace

sched::PluginType KvCacheUtilizationScorerType() {
  auto type =
      sched::MakeType<KvCacheUtilizationScorer>("kv-cache-utilization-scorer", sched::Kind::kScorer,
                                                "Prefers endpoints with more free KV cache.");
  type.formula = "1 - kv usage";
  return type;
}

}  // namespace penstock::plugins
