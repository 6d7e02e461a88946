// Which endpoints are likely to hold how much of the prompt, judged from what was sent to them.
#include "plugins/builtin_types.h"
#include "plugins/producers/approx_prefix.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

class ApproxPrefixCacheProducer : public sched::Producer {
 public:
  struct Params {
    bool auto_tune = true;
    uint32_t block_size_tokens = ApproxPrefix::kDefaultBlockSizeTokens;
    std::optional<uint32_t> block_size;
    // The older name counts only where the newer one stands at its default.
    uint32_t ConfiguredBlockSize() const {
      return block_size_tokens == ApproxPrefix::kDefaultBlockSizeTokens
                 ? block_size.value_or(block_size_tokens)
                 : block_size_tokens;
    }
    ApproxPrefix::Options Options() const {
      return {.auto_tune = auto_tune,
              .block_size_tokens = ConfiguredBlockSize(),
              .max_prefix_tokens = max_prefix_tokens_to_match,
              .max_prefix_blocks = max_prefix_blocks_to_match,
              .default_capacity_blocks = lru_capacity_per_server};
    }
    uint64_t max_prefix_tokens_to_match = 131072;
    uint64_t max_prefix_blocks_to_match = 2048;
    uint32_t lru_capacity_per_server = 31250;
    template <class V>
    void Describe(V& v) {
      v.Field("autoTune", auto_tune,
              {.text = "Take block size and cache size from the engines' metrics."});
      v.Field("blockSizeTokens", block_size_tokens,
              {.text = "Block size where engines do not say; 64 at least is used.",
               .unit = "tokens",
               .min = 1,
               .max = ApproxPrefix::kMostBlockSizeTokens});
      v.Field("blockSize", block_size,
              {.text = "The same.",
               .min = 1,
               .max = ApproxPrefix::kMostBlockSizeTokens,
               .deprecated = "use blockSizeTokens."});
      v.Field("maxPrefixTokensToMatch", max_prefix_tokens_to_match,
              {.text = "Longest prefix that is looked at; 0 leaves it to maxPrefixBlocksToMatch.",
               .unit = "tokens"});
      v.Field("maxPrefixBlocksToMatch", max_prefix_blocks_to_match,
              {.text = "The same in blocks; 0 for no limit.",
               .unit = "blocks",
               .deprecated = "use maxPrefixTokensToMatch."});
      v.Field("lruCapacityPerServer", lru_capacity_per_server,
              {.text = "Blocks remembered per endpoint where its cache size is not known.",
               .unit = "blocks",
               .min = 1,
               .max = ApproxPrefix::kMostBlocksPerEndpoint});
    }
  };

  explicit ApproxPrefixCacheProducer(const Params& params) : prefix_(params.Options()) {}

  std::vector<sched::Need> Needs() override { return {{DataKey::kTokens, ""}}; }
  std::vector<DataKey> Produces() const override { return {DataKey::kPrefixMatch}; }
  void SetIndex(DataKey, uint32_t index) override { column_ = index; }

  void Prepare(sched::RequestContext& context, Time) const override {
    prefix_.Prepare(context.request, context.prefix_keys[column_]);
  }
  void Produce(const sched::RequestContext& context,
               model::EndpointColumns& columns) const override {
    prefix_.Match(context.prefix_keys[column_], *columns.pool, columns.prefix[column_]);
  }
  void OnPicked(sched::RequestContext& context, const model::EndpointColumns&,
                const sched::Picked& picked) override {
    prefix_.Insert(picked.slot, context.prefix_keys[column_]);
  }
  void OnEndpointRemoved(uint32_t slot) override { prefix_.OnEndpointRemoved(slot); }
  void OnEndpointRestarted(uint32_t slot) override { prefix_.OnEndpointRestarted(slot); }
  void OnEndpointChanged(const model::EndpointInfo& endpoint) override {
    prefix_.OnEndpointChanged(endpoint);
  }
  uint64_t MaxBytes() const override { return prefix_.MaxBytes(); }
  std::vector<sched::PluginStat> Stats() const override { return prefix_.Stats(); }

 private:
  uint32_t column_ = 0;
  ApproxPrefix prefix_;
};

}  // namespace

sched::PluginType ApproxPrefixCacheProducerType() {
  auto type = sched::MakeType<ApproxPrefixCacheProducer>(
      "approx-prefix-cache-producer", sched::Kind::kProducer,
      "Remembers which blocks of which prompts were sent where, and matches the prompt against "
      "that.");
  type.formula =
      "blocks of max(64, engine's or configured size) tokens, each keyed by its bytes and the key "
      "before; an endpoint's match is the number of blocks it has, up to the first that nobody "
      "has";
  type.default_producer_of = {DataKey::kPrefixMatch};
  return type;
}

}  // namespace penstock::plugins
