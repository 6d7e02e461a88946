// The one profile of the configuration decides.
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class SingleProfileHandler : public sched::ProfileHandler {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit SingleProfileHandler(const Params&) {}

  int Next(const sched::RequestContext&, std::span<const std::string>,
           std::span<const sched::ProfileResult> results) const override {
    return results.empty() ? 0 : -1;
  }
  size_t Primary(std::span<const sched::ProfileResult>) const override { return 0; }
  std::string CheckProfiles(std::span<const std::string> profile_names) const override {
    if (profile_names.size() == 1) return "";
    return "single-profile-handler works with exactly one profile, and there are " +
           std::to_string(profile_names.size());
  }
};

}  // namespace

sched::PluginType SingleProfileHandlerType() {
  return sched::MakeType<SingleProfileHandler>(
      "single-profile-handler", sched::Kind::kProfileHandler,
      "Runs the only profile; its first pick serves the request.");
}

}  // namespace penstock::plugins
