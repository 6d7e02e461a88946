// precise-prefix-cache-producer and prefix-cache-scorer in one, as older configurations have it.
#include "plugins/builtin_types.h"
#include "plugins/producers/precise_prefix_cache_producer.h"

namespace penstock::plugins {
namespace {

class PrecisePrefixCacheScorer : public PrecisePrefixCacheProducer, public sched::Scorer {
 public:
  using PrecisePrefixCacheProducer::PrecisePrefixCacheProducer;

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns, const Mask&,
             std::span<float> scores) const override {
    const model::PrefixColumn& prefix = columns.prefix[column()];
    if (prefix.total_blocks == 0) return;
    const float share = 1.0F / static_cast<float>(prefix.total_blocks);
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = share * prefix.matched_blocks[i];
  }
};

}  // namespace

sched::PluginType PrecisePrefixCacheScorerType() {
  auto type = sched::MakeType<PrecisePrefixCacheScorer>(
      "precise-prefix-cache-scorer", sched::Kind::kScorer,
      "precise-prefix-cache-producer and prefix-cache-scorer in one.");
  type.stability = sched::Stability::kDeprecated;
  type.formula = "match / total";
  return type;
}

}  // namespace penstock::plugins
