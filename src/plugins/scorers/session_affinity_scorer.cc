// Prefers the endpoint that the session is bound to.
#include <algorithm>

#include "plugins/builtin_types.h"
#include "plugins/session_affinity.h"

namespace penstock::plugins {
namespace {

class SessionAffinityScorer : public sched::Scorer {
 public:
  using Params = SessionAffinityParams;
  explicit SessionAffinityScorer(Params params) : affinity_(std::move(params)) {}

  std::vector<sched::Need> Needs() override { return affinity_.Needs(); }

  void Score(const sched::RequestContext& context, const model::EndpointColumns& columns,
             const Mask&, std::span<float> scores) const override {
    if (const std::optional<uint32_t> bound = affinity_.Bound(context, columns)) {
      scores[*bound] = 1.0F;
    }
  }

  void OnPicked(sched::RequestContext& context, const model::EndpointColumns& columns,
                const sched::Picked& picked) override {
    affinity_.Learn(context, columns, picked);
  }
  std::vector<sched::HeaderUse> HeadersRead() const override { return affinity_.HeadersRead(); }
  void OnEndpointRemoved(uint32_t slot) override { affinity_.OnEndpointRemoved(slot); }
  void OnTick(Time now) override { affinity_.OnTick(now); }
  uint64_t MaxBytes() const override { return affinity_.MaxBytes(); }

 private:
  SessionAffinity affinity_;
};

}  // namespace

sched::PluginType SessionAffinityScorerType() {
  auto type = sched::MakeType<SessionAffinityScorer>(
      "session-affinity-scorer", sched::Kind::kScorer,
      "The endpoint that the request's session is bound to scores 1, the others 0.");
  type.stability = sched::Stability::kAlpha;
  return type;
}

}  // namespace penstock::plugins
