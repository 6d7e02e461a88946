// Prefers endpoints with fewer requests of ours in flight.
#include <algorithm>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class ActiveRequestScorer : public sched::Scorer {
 public:
  struct Params {
    int64_t idle_threshold = 0;
    double max_busy_score = 1.0;
    std::string request_timeout;
    std::string producer;
    template <class V>
    void Describe(V& v) {
      v.Field("idleThreshold", idle_threshold,
              {.text = "An endpoint with at most this many counts as idle.",
               .unit = "requests",
               .min = 0});
      v.Field("maxBusyScore", max_busy_score,
              {.text = "Best score of an endpoint that is not idle.", .min = 0, .max = 1});
      v.Field("requestTimeout", request_timeout,
              {.text = "Without effect: every end of a request is seen.",
               .deprecated = "leave it out."});
      v.Field("inFlightLoadProducerName", producer,
              {.text = "Producer of the load; the default one when empty."});
    }
  };
  explicit ActiveRequestScorer(const Params& params)
      : idle_(static_cast<float>(params.idle_threshold)),
        busy_(static_cast<float>(params.max_busy_score)),
        producer_(params.producer) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kInFlightLoad, producer_}}; }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns,
             const Mask& candidates, std::span<float> scores) const override {
    const std::vector<float>& active = columns.in_flight_requests;
    float most = 0.0F;
    candidates.ForEach([&](size_t i) { most = std::max(most, active[i]); });
    const float scale = most > 0.0F ? busy_ / most : 0.0F;
    for (size_t i = 0; i < scores.size(); ++i) {
      scores[i] = active[i] <= idle_ ? 1.0F : (most - active[i]) * scale;
    }
  }

 private:
  const float idle_;
  const float busy_;
  const std::string producer_;
};

}  // namespace

sched::PluginType ActiveRequestScorerType() {
  auto type = sched::MakeType<ActiveRequestScorer>(
      "active-request-scorer", sched::Kind::kScorer,
      "Prefers endpoints with fewer requests in flight, as counted here.");
  type.formula = "n <= idleThreshold: 1; else (max - n) / max x maxBusyScore";
  return type;
}

}  // namespace penstock::plugins
