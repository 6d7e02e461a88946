// Prefers endpoints that hold more of the prompt.
#include <algorithm>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class PrefixCacheScorer : public sched::Scorer {
 public:
  struct Params {
    double match_length_weight = 0;
    double match_length_scale_tokens = 8192;
    std::string producer;
    template <class V>
    void Describe(V& v) {
      v.Field("prefixMatchInfoProducerName", producer,
              {.text = "Producer of the prefix match; the default one when empty."});
      v.Field("matchLengthWeight", match_length_weight,
              {.text = "How much the length of the match counts against its share of the prompt.",
               .min = 0,
               .max = 1});
      v.Field("matchLengthScaleTokens", match_length_scale_tokens,
              {.text = "Length of a match that counts in full.", .unit = "tokens", .min = 1});
    }
  };
  explicit PrefixCacheScorer(Params params)
      : weight_(static_cast<float>(params.match_length_weight)),
        scale_(static_cast<float>(params.match_length_scale_tokens)),
        producer_(std::move(params.producer)) {}

  std::vector<sched::Need> Needs() override {
    return {{sched::DataKey::kPrefixMatch, producer_, true, &prefix_}};
  }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns, const Mask&,
             std::span<float> scores) const override {
    const model::PrefixColumn& prefix = columns.prefix[prefix_];
    if (prefix.total_blocks == 0) return;
    const float share = (1.0F - weight_) / static_cast<float>(prefix.total_blocks);
    const float length = static_cast<float>(prefix.block_size_tokens) / scale_;
    for (size_t i = 0; i < scores.size(); ++i) {
      const float matched = prefix.matched_blocks[i];
      const float reach = std::min(1.0F, matched * length);
      scores[i] = weight_ * reach * reach + share * matched;
    }
  }

 private:
  const float weight_;
  const float scale_;
  const std::string producer_;
  uint32_t prefix_ = 0;
};

}  // namespace

sched::PluginType PrefixCacheScorerType() {
  auto type = sched::MakeType<PrefixCacheScorer>("prefix-cache-scorer", sched::Kind::kScorer,
                                                 "Prefers endpoints that hold more of the prompt.");
  type.formula =
      "w x min(1, match x block size / scale)^2 + (1 - w) x match / total, w = matchLengthWeight";
  return type;
}

}  // namespace penstock::plugins
