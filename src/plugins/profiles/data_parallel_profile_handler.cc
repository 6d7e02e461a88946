// Ranks of a data-parallel engine are endpoints of their own, but requests reach them through one
// port of their pod, where a side-car passes them on.
//
// SOURCE: llm-d-router's data-parallel-profile-handler.
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class DataParallelProfileHandler : public sched::ProfileHandler {
 public:
  struct Params {
    uint32_t primary_port = 8000;
    template <class V>
    void Describe(V& v) {
      v.Field(
          "primaryPort", primary_port,
          {.text = "Port of the pick's host that requests are sent to.", .min = 1, .max = 65535});
    }
  };
  explicit DataParallelProfileHandler(const Params& params)
      : detour_{static_cast<uint16_t>(params.primary_port), "x-data-parallel-host-port"} {}

  int Next(const sched::RequestContext&, std::span<const std::string>,
           std::span<const sched::ProfileResult> results) const override {
    return results.empty() ? 0 : -1;
  }
  size_t Primary(std::span<const sched::ProfileResult>) const override { return 0; }
  std::string CheckProfiles(std::span<const std::string> profile_names) const override {
    if (profile_names.size() == 1) return "";
    return "data-parallel-profile-handler works with exactly one profile, and there are " +
           std::to_string(profile_names.size());
  }
  std::optional<sched::Detour> detour() const override { return detour_; }

 private:
  const sched::Detour detour_;
};

}  // namespace

sched::PluginType DataParallelProfileHandlerType() {
  auto type = sched::MakeType<DataParallelProfileHandler>(
      "data-parallel-profile-handler", sched::Kind::kProfileHandler,
      "Runs the only profile; the request goes to one port of the pick's host, and "
      "x-data-parallel-host-port names the rank that was picked.");
  type.stability = sched::Stability::kDeprecated;
  return type;
}

}  // namespace penstock::plugins
