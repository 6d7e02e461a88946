// Names an endpoint from which the picked one can fetch cached blocks of the prompt, in a header
// for the engine's side.
//
// Peers whose cached length is within one block of the best share the work: each is drawn in
// proportion to 1 / (1 + waiting), by a hash of the request's id, so that a retry of the same
// request asks the same peer.
//
// A peer's cached length is what can be fetched from it. Engines serve each other from the host's
// memory: where an engine tells of tiers, it is the blocks from the prompt's start that lie there,
// whether in the GPU's memory as well or not. Elsewhere (its engine told of the GPU's memory alone,
// or of nothing) it is the match, as nobody knows better. The picked endpoint's own length is all
// that it has in any tier, and what requests on their way there will leave.
// SOURCE: llm-d-router p2p-source-producer.
#include <algorithm>
#include <atomic>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;

constexpr std::string_view kSourceHeader = "x-kv-cache-source-host-port";

// FNV-1a of 32 bits as a fraction in [0, 1).
double Draw(std::string_view text) {
  uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return static_cast<double>(hash) / 4294967296.0;
}

class P2pSourceProducer : public sched::Producer {
 public:
  struct Params {
    uint32_t min_delta = 1;
    std::string prefill_profile = "prefill";
    std::string producer;
    template <class V>
    void Describe(V& v) {
      v.Field("minCachedTokenDelta", min_delta,
              {.text = "How much more of the prompt than the picked endpoint a peer must have.",
               .unit = "tokens"});
      v.Field(
          "prefillProfileName", prefill_profile,
          {.text = "Profile whose pick computes the prompt; without effect as long as there is no "
                   "prefill/decode disaggregation."});
      v.Field("prefixMatchInfoProducerName", producer,
              {.text = "Producer of the prefix match; the default one when empty."});
    }
  };
  explicit P2pSourceProducer(Params params) : params_(std::move(params)) {}

  std::vector<DataKey> Produces() const override { return {}; }
  std::vector<sched::Need> Needs() override {
    return {{.key = DataKey::kPrefixMatch,
             .producer = params_.producer,
             .index = &prefix_,
             .host_blocks = true},
            {DataKey::kWaiting, ""}};
  }

  void OnPicked(sched::RequestContext& context, const model::EndpointColumns& columns,
                const sched::Picked& picked) override;

  std::vector<sched::PluginStat> Stats() const override {
    return {
        {"p2p_sources_named_total", static_cast<double>(named_.load(std::memory_order_relaxed))}};
  }

 private:
  const Params params_;
  uint32_t prefix_ = 0;
  std::atomic<uint64_t> named_{0};
};

void P2pSourceProducer::OnPicked(sched::RequestContext& context,
                                 const model::EndpointColumns& columns,
                                 const sched::Picked& picked) {
  const model::PrefixColumn& prefix = columns.prefix[prefix_];
  const auto fetchable = [&](size_t i) {
    const bool has_tiers =
        !prefix.host_blocks.empty() && prefix.host_blocks[i] != model::PrefixColumn::kNoTiers;
    return has_tiers ? prefix.host_blocks[i] : prefix.matched_blocks[i];
  };
  // A match makes less of slower tiers; there is no need to fetch what lies in them.
  const float told = prefix.told_blocks.empty() ? 0 : prefix.told_blocks[picked.column];
  const float own = std::max(prefix.matched_blocks[picked.column], told);
  const Mask& healthy = columns.pool->healthy;
  float best = 0;
  healthy.ForEach([&](size_t i) {
    if (i != picked.column) best = std::max(best, fetchable(i));
  });
  const auto block = static_cast<float>(prefix.block_size_tokens);
  const float least = std::max(1.0F, static_cast<float>(params_.min_delta));
  const auto helps = [&](size_t i) {
    return i != picked.column && fetchable(i) >= best - 1 && (fetchable(i) - own) * block >= least;
  };
  double total = 0;
  const auto weight = [&](size_t i) {
    return 1.0 / (1.0 + static_cast<double>(std::max(0.0F, columns.waiting[i])));
  };
  healthy.ForEach([&](size_t i) {
    if (helps(i)) total += weight(i);
  });
  if (total <= 0) return;
  double left = Draw(context.request.id) * total;
  size_t chosen = columns.size();
  healthy.ForEach([&](size_t i) {
    if (!helps(i) || (chosen < columns.size() && left < 0)) return;
    chosen = i;
    left -= weight(i);
  });
  context.request_headers.emplace_back(kSourceHeader, columns.pool->endpoints[chosen].address);
  named_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

sched::PluginType P2pSourceProducerType() {
  auto type = sched::MakeType<P2pSourceProducer>("p2p-source-producer", sched::Kind::kProducer,
                                                 "Names a peer that has more of the prompt cached "
                                                 "than the picked endpoint, so that its blocks "
                                                 "can be fetched.");
  type.formula =
      "of the healthy peers within one block of the best cached length that have "
      "minCachedTokenDelta more than the picked endpoint, one in proportion to 1 / (1 + waiting); "
      "a peer's cached length is the prompt's first blocks that its engine says lie in the host's "
      "memory, or where the engine tells of no tiers, the match";
  return type;
}

}  // namespace penstock::plugins
