// The load that each endpoint has from requests sent by us, and what this request would add.
//
// The ledgers themselves are the director's; it charges what TokensToCharge says at the pick and
// releases it at the first chunk, or at the end when it stands for the answer too.
#include <algorithm>
#include <cmath>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

constexpr uint32_t kNoPrefix = ~uint32_t{0};

class InflightLoadProducer : public sched::Producer, public sched::ChargeRule {
 public:
  struct Params {
    bool add_estimated_output_tokens = false;
    double output_ratio = 1.5;
    std::optional<int64_t> max_estimated_output_tokens;
    std::string prefix_producer;
    bool sync_cross_replica_state = true;
    template <class V>
    void Describe(V& v) {
      v.Field(
          "addEstimatedOutputTokens", add_estimated_output_tokens,
          {.text = "Charge an estimate of the answer's tokens too, all until the request ends."});
      v.Field("outputRatio", output_ratio,
              {.text = "Estimated output tokens per input token.", .min = 0, .max = 1000});
      v.Field("maxEstimatedOutputTokens", max_estimated_output_tokens,
              {.text = "Bound of that estimate.", .unit = "tokens", .min = 0});
      v.Field("prefixMatchInfoProducerName", prefix_producer,
              {.text = "Producer of the prefix match; the default one when empty. Without any, "
                       "every token counts as uncached."});
      v.Field("syncCrossReplicaState", sync_cross_replica_state,
              {.text = "Share the load among replicas; without effect in a single process."});
    }
  };
  explicit InflightLoadProducer(Params params) : params_(std::move(params)) {}

  std::vector<sched::Need> Needs() override {
    return {{DataKey::kTokens, ""},
            {DataKey::kPrefixMatch, params_.prefix_producer, false, &prefix_}};
  }
  std::vector<DataKey> Produces() const override { return {DataKey::kInFlightLoad}; }

  void Produce(const sched::RequestContext& context,
               model::EndpointColumns& columns) const override {
    const float tokens = static_cast<float>(context.input_tokens);
    const float answer = static_cast<float>(OutputTokens(context));
    const size_t size = columns.size();
    const model::PrefixColumn* prefix = Prefix(columns);
    if (prefix == nullptr) {
      columns.uncached_tokens.assign(size, tokens + answer);
      return;
    }
    columns.uncached_tokens.resize(size);
    const float block = static_cast<float>(prefix->block_size_tokens);
    const float* const matched = prefix->matched_blocks.data();
    float* const uncached = columns.uncached_tokens.data();
    // The last block of a prompt may be shorter than the others: never below zero.
    for (size_t i = 0; i < size; ++i) {
      uncached[i] = std::max(0.0F, tokens - matched[i] * block) + answer;
    }
  }

  int64_t TokensToCharge(const sched::RequestContext& context,
                         const model::EndpointColumns& columns, uint32_t column) const override {
    int64_t tokens = static_cast<int64_t>(context.input_tokens);
    if (const model::PrefixColumn* prefix = Prefix(columns)) {
      const double matched = static_cast<double>(prefix->matched_blocks[column]);
      tokens -= static_cast<int64_t>(matched) * static_cast<int64_t>(prefix->block_size_tokens);
    }
    return std::max<int64_t>(0, tokens) + OutputTokens(context);
  }
  bool ChargesTheAnswer() const override { return params_.add_estimated_output_tokens; }

 private:
  const model::PrefixColumn* Prefix(const model::EndpointColumns& columns) const {
    return prefix_ == kNoPrefix ? nullptr : &columns.prefix[prefix_];
  }

  int64_t OutputTokens(const sched::RequestContext& context) const {
    if (!params_.add_estimated_output_tokens) return 0;
    int64_t tokens = std::llround(static_cast<double>(context.input_tokens) * params_.output_ratio);
    if (params_.max_estimated_output_tokens) {
      tokens = std::min(tokens, *params_.max_estimated_output_tokens);
    }
    if (context.request.max_output_tokens != 0) {
      tokens = std::min<int64_t>(tokens, context.request.max_output_tokens);
    }
    return tokens;
  }

  const Params params_;
  uint32_t prefix_ = kNoPrefix;
};

}  // namespace

sched::PluginType InflightLoadProducerType() {
  auto type = sched::MakeType<InflightLoadProducer>(
      "inflight-load-producer", sched::Kind::kProducer,
      "Requests and uncached prompt tokens in flight on each endpoint, and the uncached tokens "
      "that this request would add.");
  type.formula =
      "uncached = max(0, input tokens - matched blocks x block size); charged at the pick, "
      "released at the first chunk; with addEstimatedOutputTokens + min(round(input x "
      "outputRatio), "
      "bounds), released at the end";
  type.default_producer_of = {DataKey::kInFlightLoad};
  return type;
}

}  // namespace penstock::plugins
