// Keeps the endpoints of which an attribute is on the right side of a threshold.
//
// SOURCE: llm-d-router's endpoint-attribute-filter.
#include <cmath>

#include "plugins/builtin_types.h"
#include "plugins/endpoint_attribute.h"

namespace penstock::plugins {
namespace {

enum class Operator { kLess, kLessEqual, kGreater, kGreaterEqual, kEqual, kNotEqual };

Operator ParseOperator(std::string_view name) {
  if (name == "LessThan") return Operator::kLess;
  if (name == "LessThanOrEqual") return Operator::kLessEqual;
  if (name == "GreaterThan") return Operator::kGreater;
  if (name == "GreaterThanOrEqual") return Operator::kGreaterEqual;
  return name == "Equal" ? Operator::kEqual : Operator::kNotEqual;
}

bool Holds(Operator op, float value, float threshold) {
  switch (op) {
    case Operator::kLess:
      return value < threshold;
    case Operator::kLessEqual:
      return value <= threshold;
    case Operator::kGreater:
      return value > threshold;
    case Operator::kGreaterEqual:
      return value >= threshold;
    case Operator::kEqual:
      return value == threshold;
    case Operator::kNotEqual:
      return value != threshold;
  }
  return false;
}

class EndpointAttributeFilter : public sched::Filter {
 public:
  struct Threshold {
    std::string op;
    double value = 0;
    template <class V>
    void Describe(V& v) {
      v.Field("operator", op,
              {.text = "How the attribute is compared.",
               .required = true,
               .one_of = {"LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual",
                          "Equal", "NotEqual"}});
      v.Field("value", value, {.text = "With what.", .required = true});
    }
  };
  struct Algorithm {
    std::string type;
    Threshold threshold;
    template <class V>
    void Describe(V& v) {
      v.Field("type", type,
              {.text = "How endpoints are judged.", .required = true, .one_of = {"threshold"}});
      v.Field("threshold", threshold, {.text = "Who passes.", .required = true});
    }
  };
  struct Params {
    std::string attribute;
    std::string producer;
    std::string on_missing = "Pass";
    bool fallback_on_empty = false;
    Algorithm algorithm;
    template <class V>
    void Describe(V& v) {
      v.Field("attribute", attribute,
              {.text = "KVCacheUsagePercent (0 to 1), RunningRequestsSize, WaitingQueueSize, or an "
                       "attributeKey of customMetrics.",
               .required = true});
      v.Field("producer", producer,
              {.text = "Who supplies it; core-metrics-extractor when empty."});
      v.Field("onMissing", on_missing,
              {.text = "What becomes of an endpoint that does not tell it.",
               .one_of = {"Pass", "Fail"}});
      v.Field("fallbackOnEmpty", fallback_on_empty,
              {.text = "Keep all endpoints when none passes."});
      v.Field("algorithm", algorithm, {.text = "The condition.", .required = true});
    }
  };

  explicit EndpointAttributeFilter(const Params& params)
      : attribute_(params.attribute, params.producer),
        missing_passes_(params.on_missing == "Pass"),
        fallback_on_empty_(params.fallback_on_empty),
        op_(ParseOperator(params.algorithm.threshold.op)),
        threshold_(static_cast<float>(params.algorithm.threshold.value)) {}

  std::vector<sched::Need> Needs() override { return {attribute_.Need()}; }

  void Apply(const sched::RequestContext&, const model::EndpointColumns& columns, Mask& candidates,
             Random&) const override {
    if (fallback_on_empty_ && !AnyPasses(columns, candidates)) return;
    candidates.Keep([&](size_t i) { return Passes(columns, i); });
  }

  std::string_view WhyAllPass(const sched::RequestContext&, const model::EndpointColumns& columns,
                              const Mask& candidates) const override {
    return AnyPasses(columns, candidates) ? "" : "nobody is within the bound";
  }

 private:
  bool Passes(const model::EndpointColumns& columns, size_t i) const {
    const float value = attribute_.Value(columns, i);
    return std::isnan(value) ? missing_passes_ : Holds(op_, value, threshold_);
  }
  bool AnyPasses(const model::EndpointColumns& columns, const Mask& candidates) const {
    bool any = false;
    candidates.ForEach([&](size_t i) { any = any || Passes(columns, i); });
    return any;
  }

  EndpointAttribute attribute_;
  const bool missing_passes_;
  const bool fallback_on_empty_;
  const Operator op_;
  const float threshold_;
};

}  // namespace

sched::PluginType EndpointAttributeFilterType() {
  auto type = sched::MakeType<EndpointAttributeFilter>(
      "endpoint-attribute-filter", sched::Kind::kFilter,
      "Keeps endpoints of which a scraped attribute is on the right side of a threshold.");
  type.stability = sched::Stability::kAlpha;
  type.example =
      "{attribute: KVCacheUsagePercent, fallbackOnEmpty: true, algorithm: {type: threshold, "
      "threshold: {operator: LessThan, value: 0.9}}}";
  return type;
}

}  // namespace penstock::plugins
