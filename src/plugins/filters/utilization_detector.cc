// As a filter: keeps the endpoints whose queue and cache are below their limits.
//
// SOURCE: llm-d-router's utilization-detector.
#include <algorithm>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

class UtilizationDetector : public sched::Filter {
 public:
  struct Params {
    double queue_depth_threshold = 5;
    double kv_cache_util_threshold = 0.8;
    Duration metrics_staleness_threshold = milliseconds(200);
    double headroom = 0;
    template <class V>
    void Describe(V& v) {
      v.Field("queueDepthThreshold", queue_depth_threshold,
              {.text = "Waiting requests at which an endpoint is full.", .min = 0});
      v.Field("kvCacheUtilThreshold", kv_cache_util_threshold,
              {.text = "KV cache use at which an endpoint is full.", .min = 0, .max = 1});
      v.Field("metricsStalenessThreshold", metrics_staleness_threshold,
              {.text = "Age at which metrics do not count any more.", .min = 0});
      v.Field("headroom", headroom,
              {.text = "Share by which the filter's limits are above the thresholds.", .min = 0});
    }
    std::string Problem() const {
      if (queue_depth_threshold <= 0) return "queueDepthThreshold: must be above 0";
      return kv_cache_util_threshold <= 0 ? "kvCacheUtilThreshold: must be above 0" : "";
    }
  };
  explicit UtilizationDetector(const Params& params)
      : max_waiting_(static_cast<float>(params.queue_depth_threshold * (1 + params.headroom))),
        max_kv_usage_(static_cast<float>(params.kv_cache_util_threshold * (1 + params.headroom))),
        max_age_s_(static_cast<float>(ToSeconds(params.metrics_staleness_threshold))) {}

  std::vector<sched::Need> Needs() override {
    return {{DataKey::kWaiting, ""}, {DataKey::kKvUsage, ""}};
  }

  void Apply(const sched::RequestContext&, const model::EndpointColumns& columns, Mask& candidates,
             Random&) const override {
    bool any = false;
    candidates.ForEach([&](size_t i) { any = any || HasRoom(columns, i); });
    if (any) candidates.Keep([&](size_t i) { return HasRoom(columns, i); });
  }

  std::string_view WhyAllPass(const sched::RequestContext&, const model::EndpointColumns& columns,
                              const Mask& candidates) const override {
    bool any = false;
    candidates.ForEach([&](size_t i) { any = any || HasRoom(columns, i); });
    return any ? "" : "nobody is below the limits with fresh metrics";
  }

 private:
  bool HasRoom(const model::EndpointColumns& columns, size_t i) const {
    return columns.metrics_age_s[i] <= max_age_s_ && columns.waiting[i] < max_waiting_ &&
           columns.kv_usage[i] < max_kv_usage_;
  }

  const float max_waiting_;
  const float max_kv_usage_;
  const float max_age_s_;
};

}  // namespace

sched::PluginType UtilizationDetectorType() {
  auto type = sched::MakeType<UtilizationDetector>(
      "utilization-detector", sched::Kind::kFilter,
      "Keeps endpoints whose queue and KV cache are below their limits; all when none is.");
  type.formula =
      "waiting < queueDepthThreshold * (1 + headroom) and kv usage < kvCacheUtilThreshold * (1 + "
      "headroom), from metrics that are fresh";
  type.detects_saturation = true;
  return type;
}

}  // namespace penstock::plugins
