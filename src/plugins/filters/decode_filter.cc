// Keeps the endpoints that can decode, by their role label.
#include <array>

#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

constexpr std::array<std::string_view, 4> kRoles = {"decode", "prefill-decode", "both",
                                                    "encode-prefill-decode"};

class DecodeFilter : public RoleFilter {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit DecodeFilter(const Params&) : RoleFilter(kRoles, Unlabelled::kMatch) {}
};

}  // namespace

sched::PluginType DecodeFilterType() {
  auto type = sched::MakeType<DecodeFilter>("decode-filter", sched::Kind::kFilter,
                                            "Keeps endpoints whose role includes decoding.");
  type.formula =
      "label llm-d.ai/role is decode, prefill-decode, both or encode-prefill-decode, or absent";
  return type;
}

}  // namespace penstock::plugins
