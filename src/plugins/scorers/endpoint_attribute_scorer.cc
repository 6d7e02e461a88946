// Prefers endpoints by an attribute, on a fixed scale or on that of the candidates.
//
// SOURCE: llm-d-router's endpoint-attribute-scorer.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "plugins/builtin_types.h"
#include "plugins/endpoint_attribute.h"

namespace penstock::plugins {
namespace {

class EndpointAttributeScorer : public sched::Scorer {
 public:
  struct FixedRange {
    double min = 0;
    double max = 0;
    template <class V>
    void Describe(V& v) {
      v.Field("min", min, {.text = "Value at one end of the scale.", .required = true});
      v.Field("max", max, {.text = "Value at the other.", .required = true});
    }
  };
  struct AdaptiveRange {
    template <class V>
    void Describe(V&) {}
  };
  struct Normalization {
    std::optional<FixedRange> fixed;
    std::optional<AdaptiveRange> adaptive;
    template <class V>
    void Describe(V& v) {
      v.Field("fixedRange", fixed, {.text = "A scale that is always the same."});
      v.Field("adaptiveRange", adaptive,
              {.text = "From the least to the greatest value of the candidates; the default."});
    }
  };
  struct Algorithm {
    std::string type;
    Normalization normalization;
    template <class V>
    void Describe(V& v) {
      v.Field("type", type,
              {.text = "Which end is better.",
               .required = true,
               .one_of = {"linear_lower_is_better", "linear_higher_is_better"}});
      v.Field("normalization", normalization, {.text = "The scale."});
    }
  };
  struct Params {
    std::string attribute_key;
    std::string producer;
    Algorithm algorithm;
    template <class V>
    void Describe(V& v) {
      v.Field("attributeKey", attribute_key,
              {.text = "KVCacheUsagePercent (0 to 1), RunningRequestsSize, WaitingQueueSize, or an "
                       "attributeKey of customMetrics.",
               .required = true});
      v.Field("producer", producer,
              {.text = "Who supplies it; core-metrics-extractor when empty."});
      v.Field("algorithm", algorithm, {.text = "How it is scored.", .required = true});
    }
    std::string Problem() const {
      const auto& [fixed, adaptive] = algorithm.normalization;
      if (fixed && adaptive) {
        return "algorithm.normalization: give one of fixedRange and adaptiveRange";
      }
      if (fixed && fixed->min >= fixed->max) {
        return "algorithm.normalization.fixedRange: min must be less than max";
      }
      return "";
    }
  };

  explicit EndpointAttributeScorer(const Params& params)
      : attribute_(params.attribute_key, params.producer),
        lower_is_better_(params.algorithm.type == "linear_lower_is_better"),
        fixed_(params.algorithm.normalization.fixed) {}

  std::vector<sched::Need> Needs() override { return {attribute_.Need()}; }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns,
             const Mask& candidates, std::span<float> scores) const override {
    float least = std::numeric_limits<float>::infinity();
    float most = -least;
    if (fixed_) {
      least = static_cast<float>(fixed_->min);
      most = static_cast<float>(fixed_->max);
    } else {
      candidates.ForEach([&](size_t i) {
        const float value = attribute_.Value(columns, i);
        if (std::isnan(value)) return;
        least = std::min(least, value);
        most = std::max(most, value);
      });
    }
    for (size_t i = 0; i < scores.size(); ++i) {
      const float value = attribute_.Value(columns, i);
      if (std::isnan(value)) {
        scores[i] = 0.0F;
      } else if (!(most > least)) {
        scores[i] = 1.0F;
      } else {
        const float share = std::clamp((value - least) / (most - least), 0.0F, 1.0F);
        scores[i] = lower_is_better_ ? 1.0F - share : share;
      }
    }
  }

 private:
  EndpointAttribute attribute_;
  const bool lower_is_better_;
  const std::optional<FixedRange> fixed_;
};

}  // namespace

sched::PluginType EndpointAttributeScorerType() {
  auto type =
      sched::MakeType<EndpointAttributeScorer>("endpoint-attribute-scorer", sched::Kind::kScorer,
                                               "Prefers endpoints by a scraped attribute.");
  type.stability = sched::Stability::kAlpha;
  type.formula = "(value - min) / (max - min), or 1 minus that; all equal: 1; not told: 0";
  type.example =
      "{attributeKey: KVCacheUsagePercent, algorithm: {type: linear_lower_is_better, "
      "normalization: {fixedRange: {min: 0, max: 1}}}}";
  return type;
}

}  // namespace penstock::plugins
