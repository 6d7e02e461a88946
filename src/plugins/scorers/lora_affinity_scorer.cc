// Prefers endpoints that have the request's LoRA adapter loaded, or room for it.
#include <algorithm>

#include "plugins/builtin_types.h"
#include "plugins/snapshot_memo.h"

namespace penstock::plugins {
namespace {

bool Has(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

float Score(const model::LoraState& lora, std::string_view adapter) {
  if (Has(lora.running, adapter)) return 1.0F;
  if (lora.running.size() + lora.waiting.size() < lora.max_adapters) return 0.8F;
  return Has(lora.waiting, adapter) ? 0.6F : 0.0F;
}

class LoraAffinityScorer : public sched::Scorer {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit LoraAffinityScorer(const Params&) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kLora, ""}}; }

  void Score(const sched::RequestContext& context, const model::EndpointColumns& columns,
             const Mask&, std::span<float> scores) const override {
    const std::string& adapter = context.request.target_model;
    const model::PoolSnapshot& pool = *columns.pool;
    const std::vector<float>& known =
        memo_.Get(pool, adapter, [&](std::vector<float>* of_endpoints) {
          of_endpoints->clear();
          for (const model::EndpointInfo& endpoint : pool.endpoints) {
            of_endpoints->push_back(plugins::Score(endpoint.lora, adapter));
          }
        });
    std::copy(known.begin(), known.end(), scores.begin());
  }

 private:
  const SnapshotMemo<std::vector<float>> memo_;
};

}  // namespace

sched::PluginType LoraAffinityScorerType() {
  auto type = sched::MakeType<LoraAffinityScorer>(
      "lora-affinity-scorer", sched::Kind::kScorer,
      "Prefers endpoints that have the request's LoRA adapter loaded, or room for it.");
  type.formula = "adapter running: 1; room for another: 0.8; adapter waiting: 0.6; else 0";
  return type;
}

}  // namespace penstock::plugins
