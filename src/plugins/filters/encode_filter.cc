// Keeps the endpoints that can encode images, audio and video, by their role label.
#include <array>

#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

constexpr std::array<std::string_view, 3> kRoles = {"encode", "encode-prefill",
                                                    "encode-prefill-decode"};

class EncodeFilter : public RoleFilter {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit EncodeFilter(const Params&) : RoleFilter(kRoles, Unlabelled::kNoMatch) {}
};

}  // namespace

sched::PluginType EncodeFilterType() {
  auto type = sched::MakeType<EncodeFilter>(
      "encode-filter", sched::Kind::kFilter,
      "Keeps endpoints whose role includes encoding images, audio and video.");
  type.formula = "label llm-d.ai/role is encode, encode-prefill or encode-prefill-decode";
  return type;
}

}  // namespace penstock::plugins
