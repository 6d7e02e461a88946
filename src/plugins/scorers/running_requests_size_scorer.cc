// Prefers small batches, relative to the largest and the smallest.
#include "plugins/builtin_types.h"
#include "plugins/scorers/min_max.h"

namespace penstock::plugins {
namespace {

class RunningRequestsSizeScorer : public sched::Scorer {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit RunningRequestsSizeScorer(const Params&) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kRunning, ""}}; }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns,
             const Mask& candidates, std::span<float> scores) const override {
    ScoreLowestAsOne(columns.running, candidates, scores);
  }
};

}  // namespace

sched::PluginType RunningRequestsSizeScorerType() {
  auto type = sched::MakeType<RunningRequestsSizeScorer>(
      "running-requests-size-scorer", sched::Kind::kScorer,
      "Prefers endpoints with fewer running requests.");
  type.formula = "(max - n) / (max - min) over the candidates; all equal: 1";
  return type;
}

}  // namespace penstock::plugins
