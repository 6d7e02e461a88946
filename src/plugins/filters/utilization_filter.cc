// Keeps the endpoints that are below some bounds.
#include <algorithm>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

struct Condition {
  std::string metric;
  double max_value = 0;
  template <class V>
  void Describe(V& v) {
    v.Field("metric", metric,
            {.text = "What is bounded.",
             .required = true,
             .one_of = {"active-requests", "running-requests", "waiting-queue",
                        "kv-cache-utilization"}});
    v.Field("maxValue", max_value,
            {.text = "Largest value that passes; 0 to 1 for kv-cache-utilization.",
             .min = 0,
             .required = true});
  }
};

using Column = std::vector<float> model::EndpointColumns::*;

struct Metric {
  std::string_view name;
  DataKey key;
  Column column;
};

constexpr Metric kMetrics[] = {
    {"active-requests", DataKey::kInFlightLoad, &model::EndpointColumns::in_flight_requests},
    {"running-requests", DataKey::kRunning, &model::EndpointColumns::running},
    {"waiting-queue", DataKey::kWaiting, &model::EndpointColumns::waiting},
    {"kv-cache-utilization", DataKey::kKvUsage, &model::EndpointColumns::kv_usage},
};

class UtilizationFilter : public sched::Filter {
 public:
  struct Params {
    std::vector<Condition> conditions;
    bool fallback_on_empty = false;
    template <class V>
    void Describe(V& v) {
      v.Field("conditions", conditions, {.text = "Bounds, all of which must hold."});
      v.Field("fallbackOnEmpty", fallback_on_empty,
              {.text = "Keep all endpoints when none passes."});
    }
    std::string Problem() const {
      return conditions.empty() ? "conditions: at least one is needed" : "";
    }
  };

  explicit UtilizationFilter(const Params& params) : fallback_on_empty_(params.fallback_on_empty) {
    for (const Condition& condition : params.conditions) {
      for (const Metric& metric : kMetrics) {
        if (metric.name != condition.metric) continue;
        bounds_.push_back({metric, static_cast<float>(condition.max_value)});
      }
    }
  }

  std::vector<sched::Need> Needs() override {
    std::vector<sched::Need> needs;
    for (const Bound& bound : bounds_) needs.push_back({bound.metric.key, ""});
    return needs;
  }

  void Apply(const sched::RequestContext&, const model::EndpointColumns& columns, Mask& candidates,
             Random&) const override {
    const auto passes = [&](size_t i) { return Passes(columns, i); };
    if (fallback_on_empty_) {
      bool any = false;
      candidates.ForEach([&](size_t i) { any = any || passes(i); });
      if (!any) return;
    }
    candidates.Keep(passes);
  }

  std::string_view WhyAllPass(const sched::RequestContext&, const model::EndpointColumns& columns,
                              const Mask& candidates) const override {
    bool any = false;
    candidates.ForEach([&](size_t i) { any = any || Passes(columns, i); });
    return any ? "" : "nobody is within the bounds";
  }

 private:
  struct Bound {
    Metric metric;
    float max;
  };
  bool Passes(const model::EndpointColumns& columns, size_t i) const {
    return std::all_of(bounds_.begin(), bounds_.end(), [&](const Bound& bound) {
      return (columns.*bound.metric.column)[i] <= bound.max;
    });
  }

  std::vector<Bound> bounds_;
  const bool fallback_on_empty_;
};

}  // namespace

sched::PluginType UtilizationFilterType() {
  auto type = sched::MakeType<UtilizationFilter>(
      "utilization-filter", sched::Kind::kFilter,
      "Keeps endpoints whose requests, queue or cache use are within bounds.");
  type.stability = sched::Stability::kAlpha;
  type.formula = "value <= maxValue for every condition";
  type.example =
      "{conditions: [{metric: waiting-queue, maxValue: 8}, "
      "{metric: kv-cache-utilization, maxValue: 0.9}], fallbackOnEmpty: true}";
  return type;
}

}  // namespace penstock::plugins
