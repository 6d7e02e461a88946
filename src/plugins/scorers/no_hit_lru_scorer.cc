// Spreads prompts that no candidate has cached over those that took such a prompt longest ago.
// Neutral for prompts that some candidate has, and the less decided the shorter a prompt is when
// fullTokens says so: how evenly short ones are dealt out matters less than who has time for them.
//
// THREADS: lock-free: one atomic stamp per slot.
#include <algorithm>
#include <atomic>

#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

constexpr size_t kMaxSlots = 65536;

class NoHitLruScorer : public sched::Scorer {
 public:
  struct Params {
    uint32_t lru_size = 1024;
    uint32_t full_tokens = 0;
    std::string producer;
    template <class V>
    void Describe(V& v) {
      v.Field("lruSize", lru_size,
              {.text = "How many endpoints are remembered; others count as never used.",
               .unit = "endpoints",
               .min = 1});
      v.Field("fullTokens", full_tokens,
              {.text = "Shorter prompts move the scores from 0.5 in proportion to their length; 0: "
                       "all of them fully.",
               .unit = "tokens"});
      v.Field("prefixMatchInfoProducerName", producer,
              {.text = "Producer of the prefix match; the default one when empty."});
    }
  };
  explicit NoHitLruScorer(Params params)
      : lru_size_(params.lru_size),
        full_tokens_(static_cast<float>(params.full_tokens)),
        producer_(std::move(params.producer)),
        used_at_(new std::atomic<uint64_t>[kMaxSlots]()) {}

  std::vector<sched::Need> Needs() override {
    std::vector<sched::Need> needs = {{sched::DataKey::kPrefixMatch, producer_, true, &prefix_}};
    if (full_tokens_ > 0) needs.push_back({sched::DataKey::kTokens, ""});
    return needs;
  }

  void Score(const sched::RequestContext&, const model::EndpointColumns& columns,
             const Mask& candidates, std::span<float> scores) const override;

  void OnPicked(sched::RequestContext&, const model::EndpointColumns& columns,
                const sched::Picked& picked) override {
    if (picked.slot >= kMaxSlots || IsHit(columns, picked.scored)) return;
    used_at_[picked.slot].store(clock_.fetch_add(1, std::memory_order_relaxed) + 1,
                                std::memory_order_relaxed);
  }
  void OnEndpointRemoved(uint32_t slot) override {
    if (slot < kMaxSlots) used_at_[slot].store(0, std::memory_order_relaxed);
  }
  uint64_t MaxBytes() const override { return kMaxSlots * sizeof(uint64_t); }

 private:
  // Whether one of the candidates, or anybody, has a block.
  bool IsHit(const model::EndpointColumns& columns, const Mask* candidates) const {
    const std::vector<float>& matched = columns.prefix[prefix_].matched_blocks;
    bool is_hit = false;
    if (candidates == nullptr) {
      for (const float n : matched) is_hit |= n > 0.0F;
    } else {
      candidates->ForEach([&](size_t i) { is_hit |= matched[i] > 0.0F; });
    }
    return is_hit;
  }

  const size_t lru_size_;
  const float full_tokens_;
  const std::string producer_;
  const std::unique_ptr<std::atomic<uint64_t>[]> used_at_;  // by slot; 0: never
  std::atomic<uint64_t> clock_{0};                          // counts cold requests
  uint32_t prefix_ = 0;
};

void NoHitLruScorer::Score(const sched::RequestContext& context,
                           const model::EndpointColumns& columns, const Mask& candidates,
                           std::span<float> scores) const {
  if (IsHit(columns, &candidates)) {
    std::fill(scores.begin(), scores.end(), 0.5F);
    return;
  }
  // Oldest first; never used is oldest of all, in the order of the pool.
  thread_local std::vector<std::pair<uint64_t, uint32_t>> order;
  order.clear();
  candidates.ForEach([&](size_t i) {
    const uint32_t slot = columns.pool->slots[i];
    const uint64_t used_at = slot < kMaxSlots ? used_at_[slot].load(std::memory_order_relaxed) : 0;
    order.emplace_back(used_at, static_cast<uint32_t>(i));
  });
  std::sort(order.begin(), order.end());
  if (order.size() > lru_size_) {
    const auto remembered = order.end() - static_cast<ptrdiff_t>(lru_size_);
    for (auto it = order.begin(); it != remembered; ++it) it->first = 0;
    std::sort(order.begin(), remembered);
  }
  const float last = static_cast<float>(std::max<size_t>(2, order.size()) - 1);
  const float tokens = static_cast<float>(context.input_tokens);
  const float share = tokens < full_tokens_ ? tokens / full_tokens_ : 1.0F;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const float score = 1.0F - static_cast<float>(rank) / last;
    scores[order[rank].second] = share * score + (1.0F - share) * 0.5F;
  }
}

}  // namespace

sched::PluginType NoHitLruScorerType() {
  auto type = sched::MakeType<NoHitLruScorer>(
      "no-hit-lru-scorer", sched::Kind::kScorer,
      "Spreads prompts that nobody has cached over the endpoints that took one longest ago.");
  type.formula =
      "a candidate has a block: 0.5 for all; else s = 1 - rank / (n - 1), oldest first; for a "
      "prompt of T tokens below fullTokens F 0.5 + T / F (s - 0.5)";
  return type;
}

}  // namespace penstock::plugins
