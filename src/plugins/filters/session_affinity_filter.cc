// Keeps the endpoint that the session is bound to, or all when there is none.
#include <algorithm>

#include "plugins/builtin_types.h"
#include "plugins/session_affinity.h"

namespace penstock::plugins {
namespace {

class SessionAffinityFilter : public sched::Filter {
 public:
  using Params = SessionAffinityParams;
  explicit SessionAffinityFilter(Params params) : affinity_(std::move(params)) {}

  std::vector<sched::Need> Needs() override { return affinity_.Needs(); }

  void Apply(const sched::RequestContext& context, const model::EndpointColumns& columns,
             Mask& candidates, Random&) const override {
    const std::optional<uint32_t> bound = affinity_.Bound(context, columns);
    if (!bound || !candidates.Test(*bound)) return;
    candidates.Reset(candidates.size());
    candidates.Set(*bound);
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

sched::PluginType SessionAffinityFilterType() {
  auto type = sched::MakeType<SessionAffinityFilter>(
      "session-affinity-filter", sched::Kind::kFilter,
      "Keeps only the endpoint that the request's session is bound to, or all when there is none.");
  type.stability = sched::Stability::kAlpha;
  return type;
}

}  // namespace penstock::plugins
