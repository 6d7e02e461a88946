// A header of the request names the profile that serves it.
#include <algorithm>

#include "core/text.h"
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class HeaderProfileHandler : public sched::ProfileHandler {
 public:
  struct Params {
    std::string header_name = "EPP-Profile";
    std::string default_profile = "decode";
    template <class V>
    void Describe(V& v) {
      v.Field("headerName", header_name, {.text = "Header that names a profile."});
      v.Field("defaultProfile", default_profile, {.text = "Profile of requests without it."});
    }
    std::string Problem() const { return header_name.empty() ? "headerName: it is empty" : ""; }
  };
  explicit HeaderProfileHandler(Params params) : params_(std::move(params)) {}

  // An unknown name runs nothing, which ends in 429.
  int Next(const sched::RequestContext& context, std::span<const std::string> profile_names,
           std::span<const sched::ProfileResult> results) const override {
    if (!results.empty()) return -1;
    std::string_view wanted = TrimSpace(context.request.Header(params_.header_name));
    if (wanted.empty()) wanted = params_.default_profile;
    const auto it = std::find(profile_names.begin(), profile_names.end(), wanted);
    return it == profile_names.end() ? -1 : static_cast<int>(it - profile_names.begin());
  }
  size_t Primary(std::span<const sched::ProfileResult>) const override { return 0; }
  std::string CheckProfiles(std::span<const std::string>) const override { return ""; }

  std::vector<sched::HeaderUse> HeadersRead() const override {
    return {{params_.header_name, false, "names the profile that serves the request"}};
  }

 private:
  const Params params_;
};

}  // namespace

sched::PluginType HeaderProfileHandlerType() {
  auto type = sched::MakeType<HeaderProfileHandler>(
      "header-profile-handler", sched::Kind::kProfileHandler,
      "Runs the profile that a header of the request names; for a name that is none the answer is "
      "429.");
  type.stability = sched::Stability::kAlpha;
  return type;
}

}  // namespace penstock::plugins
