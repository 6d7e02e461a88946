// Prefers the endpoint where the request costs the least time, its own and the others': waiting for
// prompts before it, its own prefill, decoding in that company, room in the cache, and how much
// longer those take that run there already.
//
// All costs are in tokens of prefill, the time that one uncached token takes, so that no number
// here is a speed; what differs between engines is only how dear decoding is beside prefill:
//
//   prefill   Q + u: uncached tokens in flight there, and this request's
//   eviction  e u: what its new blocks push out of the cache is computed again some day
//   decode    O (c K + r R): O steps, each longer by the K tokens of context and R requests there
//   memory    where K + Q + u + O do not fit the KV cache: the time until enough of it is free
//   others    R (u + O (c (T + O / 2) + r)): each request there stands while this one is
//             prefilled, and its steps are longer by this one's T tokens of prompt and its answer
//
// SOURCE: ours; docs/policies.md has the evidence, and what else was tried.
#include <algorithm>

#include "plugins/builtin_types.h"
#include "plugins/snapshot_memo.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

// Cost at which the score is a half: only the order matters, and a float resolves it best there.
constexpr float kHalf = 16384;

class LeastCostScorer : public sched::Scorer {
 public:
  struct Params {
    double expected_output_tokens = 256;
    double context_cost = 0.001;
    double request_cost = 10;  // more than measured: docs/policies.md, "Company"
    double step_cost = 300;
    double eviction = 20;
    double others = 1;
    template <class V>
    void Describe(V& v) {
      v.Field("expectedOutputTokens", expected_output_tokens,
              {.text = "Length of an answer, unless the client asks for a shorter one.",
               .unit = "tokens",
               .min = 0,
               .max = 1e6});
      v.Field("contextCost", context_cost,
              {.text = "How much longer a decode step takes for one more token of context.",
               .unit = "tokens of prefill",
               .min = 0,
               .max = 1000});
      v.Field("requestCost", request_cost,
              {.text = "How much longer a decode step takes for one more request.",
               .unit = "tokens of prefill",
               .min = 0,
               .max = 1e6});
      v.Field("stepCost", step_cost,
              {.text = "A decode step of few requests.",
               .unit = "tokens of prefill",
               .min = 0,
               .max = 1e6});
      v.Field("eviction", eviction,
              {.text = "How often what a new block pushes out of a cache is computed again.",
               .min = 0,
               .max = 100});
      v.Field(
          "others", others,
          {.text = "What a second of the requests that run there counts beside a second of this "
                   "one.",
           .min = 0,
           .max = 100});
    }
  };
  explicit LeastCostScorer(const Params& params)
      : output_(static_cast<float>(params.expected_output_tokens)),
        context_cost_(static_cast<float>(params.context_cost)),
        request_cost_(static_cast<float>(params.request_cost)),
        step_cost_(static_cast<float>(params.step_cost)),
        uncached_cost_(1 + static_cast<float>(params.eviction)),
        others_(static_cast<float>(params.others)) {}

  std::vector<sched::Need> Needs() override {
    // Without a prefix producer no token would count as cached.
    return {
        {DataKey::kPrefixMatch, ""}, {DataKey::kInFlightLoad, ""}, {DataKey::kKvUsage, "", false}};
  }

  void Score(const sched::RequestContext& context, const model::EndpointColumns& columns,
             const Mask&, std::span<float> scores) const override {
    const uint32_t asked = context.request.max_output_tokens;
    const float output = asked > 0 ? std::min(output_, static_cast<float>(asked)) : output_;
    const std::vector<float>& capacity = memo_.Get(*columns.pool, "", [&](auto* tokens) {
      tokens->clear();
      for (const model::EndpointInfo& endpoint : columns.pool->endpoints) {
        tokens->push_back(static_cast<float>(endpoint.gpu_blocks) *
                          static_cast<float>(endpoint.block_size_tokens));
      }
    });
    const bool knows_usage = !columns.kv_usage.empty();
    const float tokens = static_cast<float>(context.input_tokens);
    const float adds = output * (context_cost_ * (tokens + output / 2) + request_cost_);
    for (size_t i = 0; i < scores.size(); ++i) {
      const float ahead = columns.in_flight_tokens[i];
      const float uncached = columns.uncached_tokens[i];
      const float held = knows_usage ? columns.kv_usage[i] * capacity[i] : 0;
      const float company = columns.in_flight_requests[i];
      const float slower = context_cost_ * held + request_cost_ * company;
      float cost = ahead + uncached_cost_ * uncached + output * slower;
      cost += others_ * company * (uncached + adds);
      const float missing = held + ahead + uncached + output - capacity[i];
      // What runs there gives its memory back in about the time of one answer.
      if (held > 0 && missing > 0) cost += missing / held * output * (step_cost_ + slower);
      scores[i] = kHalf / (kHalf + cost);
    }
  }

 private:
  const float output_, context_cost_, request_cost_, step_cost_, uncached_cost_, others_;
  SnapshotMemo<std::vector<float>> memo_;  // tokens of KV cache; 0: not told
};

}  // namespace

sched::PluginType LeastCostScorerType() {
  auto type = sched::MakeType<LeastCostScorer>(
      "least-cost-scorer", sched::Kind::kScorer,
      "Prefers the endpoint where the request costs itself and the others there the least time: "
      "prefill, decoding, memory.");
  type.formula =
      "cost in tokens of prefill: Q + (1 + e) u + O d, and where memory is short (K + Q + u + O - "
      "capacity) / K x O (s + d); d = c K + r R; for the others o R (u + O (c (T + O / 2) + r)); "
      "score 16384 / (16384 + cost). Q in-flight uncached tokens, u this request's, T its prompt, "
      "R requests in flight, K tokens in the KV cache, O answer, e eviction, o others, c "
      "contextCost, r requestCost, s stepCost";
  return type;
}

}  // namespace penstock::plugins
