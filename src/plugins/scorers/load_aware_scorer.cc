// Prefers empty queues, and counts for half as much as other scorers at most.
#include <algorithm>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class LoadAwareScorer : public sched::Scorer {
 public:
  struct Params {
    uint32_t threshold = 128;
    template <class V>
    void Describe(V& v) {
      v.Field("threshold", threshold,
              {.text = "Queue length at which the score reaches 0.", .unit = "requests", .min = 1});
    }
  };
  explicit LoadAwareScorer(const Params& params)
      : threshold_(static_cast<float>(params.threshold)) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kWaiting, ""}}; }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns, const Mask&,
             std::span<float> scores) const override {
    for (size_t i = 0; i < scores.size(); ++i) {
      scores[i] = 0.5F * (1.0F - std::min(columns.waiting[i], threshold_) / threshold_);
    }
  }

 private:
  const float threshold_;
};

}  // namespace

sched::PluginType LoadAwareScorerType() {
  auto type = sched::MakeType<LoadAwareScorer>("load-aware-scorer", sched::Kind::kScorer,
                                               "Prefers endpoints with shorter queues.");
  type.formula = "0.5 x (1 - min(q, threshold) / threshold)";
  return type;
}

}  // namespace penstock::plugins
