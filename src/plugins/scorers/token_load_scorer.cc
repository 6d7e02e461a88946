// Prefers endpoints with less prompt work ahead: tokens already sent there and not yet prefilled,
// plus those of this request that its cache does not hold.
#include <algorithm>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

class TokenLoadScorer : public sched::Scorer {
 public:
  struct Params {
    int64_t queue_threshold_tokens = 4194304;
    std::string producer;
    template <class V>
    void Describe(V& v) {
      v.Field("queueThresholdTokens", queue_threshold_tokens,
              {.text = "Load at which the score reaches 0.", .unit = "tokens", .min = 1});
      v.Field("inFlightLoadProducerName", producer,
              {.text = "Producer of the load; the default one when empty."});
    }
  };
  explicit TokenLoadScorer(Params params)
      : threshold_(static_cast<float>(params.queue_threshold_tokens)),
        producer_(std::move(params.producer)) {}

  std::vector<sched::Need> Needs() override { return {{DataKey::kInFlightLoad, producer_}}; }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns, const Mask&,
             std::span<float> scores) const override {
    const float* const in_flight = columns.in_flight_tokens.data();
    const float* const uncached = columns.uncached_tokens.data();
    for (size_t i = 0; i < scores.size(); ++i) {
      const float load = in_flight[i] + uncached[i];
      scores[i] = 1.0F - std::min(load, threshold_) / threshold_;
    }
  }

 private:
  const float threshold_;
  const std::string producer_;
};

}  // namespace

sched::PluginType TokenLoadScorerType() {
  auto type = sched::MakeType<TokenLoadScorer>(
      "token-load-scorer", sched::Kind::kScorer,
      "Prefers endpoints with fewer uncached prompt tokens in flight, this request's included.");
  type.formula =
      "load = in-flight tokens + uncached tokens of this request; 1 - min(load, T) / T, T = "
      "queueThresholdTokens";
  return type;
}

}  // namespace penstock::plugins
