// Keeps the endpoints that can prefill, by their role label.
#include <array>

#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

constexpr std::array<std::string_view, 5> kRoles = {"prefill", "encode-prefill", "prefill-decode",
                                                    "both", "encode-prefill-decode"};

class PrefillFilter : public RoleFilter {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit PrefillFilter(const Params&) : RoleFilter(kRoles, Unlabelled::kNoMatch) {}
};

}  // namespace

sched::PluginType PrefillFilterType() {
  auto type = sched::MakeType<PrefillFilter>("prefill-filter", sched::Kind::kFilter,
                                             "Keeps endpoints whose role includes prefilling.");
  type.formula =
      "label llm-d.ai/role is prefill, encode-prefill, prefill-decode, both or "
      "encode-prefill-decode";
  return type;
}

}  // namespace penstock::plugins
