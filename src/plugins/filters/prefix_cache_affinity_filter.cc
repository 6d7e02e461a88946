// Sticky until saturated: keeps the endpoints that hold most of the prompt, unless waiting there
// would cost more than computing it elsewhere.
//
// SOURCE: llm-d-router prefix-cache-affinity-filter and its throughput gate.
#include <algorithm>
#include <cmath>
#include <limits>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

class PrefixCacheAffinityFilter : public sched::Filter {
 public:
  struct Params {
    double affinity_threshold = 0.80;
    double exploration_probability = 0;
    double max_ttft_penalty_ms = 18000;
    std::string ttft_source = "prefillThroughput";
    double peak_prefill_throughput = 15928;
    std::string prefix_producer;
    std::string latency_producer;
    std::string load_producer;
    template <class V>
    void Describe(V& v) {
      v.Field("affinityThreshold", affinity_threshold,
              {.text = "Least matched share of the prompt that makes an endpoint sticky; 0 or less "
                       "turns the filter off.",
               .max = 1});
      v.Field("explorationProbability", exploration_probability,
              {.text = "Share of requests that ignore stickiness.", .min = 0, .max = 1});
      v.Field("maxTTFTPenaltyMs", max_ttft_penalty_ms,
              {.text = "How much longer the first token may take on the best sticky endpoint than "
                       "on the best other one; 0 for no limit.",
               .unit = "ms",
               .min = 0});
      v.Field("ttftSource", ttft_source,
              {.text = "Where the estimate of the time to the first token comes from.",
               .one_of = {"prefillThroughput", "latencyPredictor"}});
      v.Field("peakPrefillThroughput", peak_prefill_throughput,
              {.text = "What an endpoint prefills at best.", .unit = "tokens/s", .min = 0});
      v.Field("prefixMatchInfoProducerName", prefix_producer,
              {.text = "Producer of the prefix match; the default one when empty."});
      v.Field("latencyPredictionInfoProducerName", latency_producer,
              {.text = "Producer of predictions, for ttftSource latencyPredictor."});
      v.Field("inFlightLoadProducerName", load_producer,
              {.text = "Producer of the load; the default one when empty."});
    }
    std::string Problem() const {
      if (max_ttft_penalty_ms <= 0) return "";  // nothing is estimated
      if (ttft_source != "latencyPredictor") {
        return peak_prefill_throughput > 0 ? "" : "peakPrefillThroughput: must be above 0";
      }
      return "ttftSource latencyPredictor: latency prediction is not available in this build; use "
             "prefillThroughput";
    }
  };

  explicit PrefixCacheAffinityFilter(Params params)
      : params_(std::move(params)),
        max_penalty_tokens_(static_cast<float>(params_.max_ttft_penalty_ms / 1000.0 *
                                               params_.peak_prefill_throughput)) {}

  std::vector<sched::Need> Needs() override {
    std::vector<sched::Need> needs;
    if (params_.affinity_threshold <= 0) return needs;
    needs.push_back({DataKey::kPrefixMatch, params_.prefix_producer, true, &prefix_});
    if (has_gate()) needs.push_back({DataKey::kInFlightLoad, params_.load_producer});
    return needs;
  }

  void Apply(const sched::RequestContext&, const model::EndpointColumns& columns, Mask& candidates,
             Random& random) const override {
    if (params_.affinity_threshold <= 0) return;
    if (params_.exploration_probability > 0 && random.Uniform() < params_.exploration_probability) {
      return;
    }
    const model::PrefixColumn& prefix = columns.prefix[prefix_];
    if (prefix.total_blocks == 0) return;
    const float least_matched = LeastMatched(prefix);
    const Verdict verdict = Judge(columns, candidates, least_matched);
    if (!verdict.any_sticky || verdict.too_busy) return;
    const float* const matched = prefix.matched_blocks.data();
    candidates.Keep([&](size_t i) { return matched[i] >= least_matched; });
  }

  std::string_view WhyAllPass(const sched::RequestContext&, const model::EndpointColumns& columns,
                              const Mask& candidates) const override {
    if (params_.affinity_threshold <= 0) return "it is turned off";
    const model::PrefixColumn& prefix = columns.prefix[prefix_];
    if (prefix.total_blocks == 0) return "there is no prompt to hold";
    const Verdict verdict = Judge(columns, candidates, LeastMatched(prefix));
    if (!verdict.any_sticky) return "nobody holds enough of the prompt";
    if (verdict.too_busy) return "who holds the prompt is too busy";
    return verdict.any_other ? "exploring, whoever holds the prompt" : "all hold the prompt";
  }

 private:
  struct Verdict {
    bool any_sticky = false;
    bool any_other = false;
    bool too_busy = false;  // the sticky ones
  };

  // Blocks are whole: compared as such, without a division per endpoint. What the product is off by
  // must not ask for one block more.
  float LeastMatched(const model::PrefixColumn& prefix) const {
    return static_cast<float>(
        std::max(1.0, std::ceil(params_.affinity_threshold * prefix.total_blocks - 1e-6)));
  }

  // In-flight tokens stand for the time they take: both sides of the comparison are divided by the
  // same throughput.
  Verdict Judge(const model::EndpointColumns& columns, const Mask& candidates,
                float least_matched) const {
    constexpr float kNobody = std::numeric_limits<float>::infinity();
    const float* const matched = columns.prefix[prefix_].matched_blocks.data();
    float least_sticky = kNobody;
    float least_other = kNobody;
    Verdict verdict;
    candidates.ForEach([&](size_t i) {
      const bool sticky = matched[i] >= least_matched;
      verdict.any_sticky |= sticky;
      verdict.any_other |= !sticky;
      if (!has_gate()) return;
      float& least = sticky ? least_sticky : least_other;
      least = std::min(least, columns.in_flight_tokens[i]);
    });
    verdict.too_busy = verdict.any_sticky && least_sticky - least_other > max_penalty();
    return verdict;
  }

  bool has_gate() const { return params_.max_ttft_penalty_ms > 0; }
  float max_penalty() const {
    return has_gate() ? max_penalty_tokens_ : std::numeric_limits<float>::infinity();
  }

  const Params params_;
  const float max_penalty_tokens_;
  uint32_t prefix_ = 0;
};

}  // namespace

sched::PluginType PrefixCacheAffinityFilterType() {
  auto type = sched::MakeType<PrefixCacheAffinityFilter>(
      "prefix-cache-affinity-filter", sched::Kind::kFilter,
      "Keeps the endpoints that hold most of the prompt, unless the first token would come too "
      "late there.");
  type.formula =
      "sticky = matched / total >= affinityThreshold; ttft = in-flight tokens / "
      "peakPrefillThroughput; all are kept when min ttft(sticky) - min ttft(other) > "
      "maxTTFTPenaltyMs";
  return type;
}

}  // namespace penstock::plugins
