// As a filter: keeps the endpoints with less in flight than they may have.
//
// SOURCE: llm-d-router's concurrency-detector.
#include <cmath>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class ConcurrencyDetector : public sched::Filter {
 public:
  struct Params {
    int64_t max_concurrency = 100;
    int64_t max_token_concurrency = 1000000;
    std::string mode = "requests";
    double headroom = 0;
    template <class V>
    void Describe(V& v) {
      v.Field("maxConcurrency", max_concurrency,
              {.text = "Requests in flight at which an endpoint is full.", .min = 1});
      v.Field("maxTokenConcurrency", max_token_concurrency,
              {.text = "Tokens in flight at which it is.", .unit = "tokens", .min = 1});
      v.Field("concurrencyMode", mode,
              {.text = "What counts; hybrid: both.", .one_of = {"requests", "tokens", "hybrid"}});
      v.Field("headroom", headroom,
              {.text = "Share by which the filter's limits are above the maxima.", .min = 0});
    }
  };
  explicit ConcurrencyDetector(const Params& params)
      : counts_requests_(params.mode != "tokens"),
        counts_tokens_(params.mode != "requests"),
        max_requests_(Limit(params.max_concurrency, params.headroom)),
        max_tokens_(Limit(params.max_token_concurrency, params.headroom)) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kInFlightLoad, ""}}; }

  void Apply(const sched::RequestContext&, const model::EndpointColumns& columns, Mask& candidates,
             Random&) const override {
    candidates.Keep([&](size_t i) {
      return (!counts_requests_ || columns.in_flight_requests[i] < max_requests_) &&
             (!counts_tokens_ || columns.in_flight_tokens[i] < max_tokens_);
    });
  }

 private:
  // A whole number, as what it is compared with.
  static float Limit(int64_t max, double headroom) {
    return static_cast<float>(std::floor(static_cast<double>(max) * (1 + headroom) + 1e-9));
  }

  const bool counts_requests_;
  const bool counts_tokens_;
  const float max_requests_;
  const float max_tokens_;
};

}  // namespace

sched::PluginType ConcurrencyDetectorType() {
  auto type = sched::MakeType<ConcurrencyDetector>(
      "concurrency-detector", sched::Kind::kFilter,
      "Keeps endpoints with fewer requests or tokens in flight than they may have.");
  type.formula =
      "in flight < floor(max * (1 + headroom)), of requests, tokens or both by concurrencyMode";
  type.detects_saturation = true;
  return type;
}

}  // namespace penstock::plugins
