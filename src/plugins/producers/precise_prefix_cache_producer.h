// Which endpoints hold how much of the prompt: exactly, where an engine tells its KV events and the
// prompt's tokens are known; elsewhere, judged from what was sent there.
//
// A request of several prompts is judged from what was sent alone: engines say of all its prompts
// together how much was cached. So is one with media of which nobody told where they are.
//
// THREADS: a Producer's; the parts lock internally. Adapters' names are looked up under a mutex,
// once per request, where there are any.
// COST: Produce takes 11 us for 256 endpoints and a prompt of 1,024 blocks (BM_PreciseMatch).
// SOURCE: docs/design/0005-exact-caches.md; llm-d-router precise-prefix-cache-producer.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/mutex.h"
#include "kvcache/claims.h"
#include "kvcache/exact_caches.h"
#include "plugins/producers/approx_prefix.h"
#include "plugins/producers/cache_drift.h"
#include "plugins/producers/precise_prefix_parameters.h"
#include "sched/plugin.h"

namespace penstock::plugins {

class PrecisePrefixCacheProducer : public sched::Producer, public sched::KnowsCaches {
 public:
  using Params = PrecisePrefixParameters;
  explicit PrecisePrefixCacheProducer(const Params& params);

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kTokens, ""}}; }
  std::vector<sched::DataKey> Produces() const override { return {sched::DataKey::kPrefixMatch}; }
  void SetIndex(sched::DataKey, uint32_t index) override { column_ = index; }
  void WantHostBlocks() override { wants_host_blocks_ = true; }
  void Prepare(sched::RequestContext& context, Time) const override;
  void Produce(const sched::RequestContext& context,
               model::EndpointColumns& columns) const override;

  void OnPicked(sched::RequestContext& context, const model::EndpointColumns& columns,
                const sched::Picked& picked) override;
  void OnFirstChunk(sched::RequestContext& context, uint32_t slot, Time now) override;
  void OnEnded(sched::RequestContext& context, const sched::Ended& ended) override;
  void OnEndpointRemoved(uint32_t slot) override;
  void OnEndpointRestarted(uint32_t slot) override;
  void OnEndpointChanged(const model::EndpointInfo& endpoint) override;
  void OnTick(Time now) override { claims_.Tick(now); }
  uint64_t MaxBytes() const override {
    return approximate_.MaxBytes() + caches_.index().max_bytes();
  }
  std::vector<sched::PluginStat> Stats() const override;

  sched::KnowsCaches* knows_caches() override { return this; }
  kvcache::ExactCaches& caches() override { return caches_; }
  const sched::KvEventSettings& kv_events() const override { return kv_events_; }
  bool HearsAnybody() const override;
  std::vector<sched::DriftView> drift() const override { return drift_.Views(); }

 protected:
  uint32_t column() const { return column_; }

 private:
  static constexpr size_t kMaxAdapters = 10'000;  // names that are kept
  // What an engine uses of a prompt that it holds all of: not the last token, which it computes in
  // any case, nor the block that it is in.
  struct Prompt {
    uint32_t tokens;
    uint32_t block_tokens;
    float MostBlocks(uint32_t engine_block) const {
      const uint32_t most = (tokens - 1) / engine_block * engine_block;
      return static_cast<float>(most) / static_cast<float>(block_tokens);
    }
  };

  uint32_t EngineBlock(const model::EndpointInfo& endpoint) const {
    return endpoint.block_size_tokens != 0 ? endpoint.block_size_tokens
                                           : caches_.keys().block_tokens();
  }
  // What a block of these is worth, on the average.
  float WorthOf(const kvcache::PrefixHold& hold) const;
  std::string_view AdapterOf(const model::Request& request) const;
  void Forget(uint32_t slot);

  const std::array<float, kvcache::kTiers> tier_worth_;
  const float doubtful_worth_;
  const bool is_speculative_;
  const size_t max_blocks_;
  const sched::KvEventSettings kv_events_;
  uint32_t column_ = 0;
  bool wants_host_blocks_ = false;
  ApproxPrefix approximate_;
  kvcache::ExactCaches caches_;
  kvcache::Claims claims_;
  CacheDrift drift_;

  std::atomic<uint32_t> largest_engine_block_{0};
  std::atomic<bool> has_adapters_{false};
  // Taken when endpoints change, and by requests where there are adapters.
  mutable Mutex mutex_;
  std::set<std::string, std::less<>> adapters_ GUARDED_BY(mutex_);
  std::vector<std::string> addresses_ GUARDED_BY(mutex_);  // by slot; "": nobody

  struct Counts {
    std::atomic<uint64_t> lookups{0}, exact{0}, approximate{0};
    std::atomic<uint64_t> predicted_tokens{0}, reported_tokens{0};
  };
  mutable Counts counts_;
};

}  // namespace penstock::plugins
