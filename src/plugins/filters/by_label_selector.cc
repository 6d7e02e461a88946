// The older name of label-selector-filter, with the same parameters.
#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"
#include "plugins/filters/label_selector.h"

namespace penstock::plugins {
namespace {

class ByLabelSelector : public LabelFilter {
 public:
  using Params = LabelSelector;
  explicit ByLabelSelector(Params selector) : selector_(std::move(selector)) {}

 private:
  bool Matches(const model::Labels& labels) const override { return selector_.Matches(labels); }

  const LabelSelector selector_;
};

}  // namespace

sched::PluginType ByLabelSelectorType() {
  auto type = sched::MakeType<ByLabelSelector>(
      "by-label-selector", sched::Kind::kFilter,
      "Keeps endpoints whose labels match a selector; use label-selector-filter.");
  type.stability = sched::Stability::kDeprecated;
  type.example = "{matchLabels: {zone: eu}}";
  return type;
}

}  // namespace penstock::plugins
