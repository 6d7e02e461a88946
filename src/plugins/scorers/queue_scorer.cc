// Prefers short queues, relative to the longest and the shortest.
#include "plugins/builtin_types.h"
#include "plugins/scorers/min_max.h"

namespace penstock::plugins {
namespace {

class QueueScorer : public sched::Scorer {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit QueueScorer(const Params&) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kWaiting, ""}}; }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns,
             const Mask& candidates, std::span<float> scores) const override {
    ScoreLowestAsOne(columns.waiting, candidates, scores);
  }
};

}  // namespace

sched::PluginType QueueScorerType() {
  auto type = sched::MakeType<QueueScorer>("queue-scorer", sched::Kind::kScorer,
                                           "Prefers endpoints with fewer waiting requests.");
  type.formula = "(max - n) / (max - min) over the candidates; all equal: 1";
  return type;
}

}  // namespace penstock::plugins
