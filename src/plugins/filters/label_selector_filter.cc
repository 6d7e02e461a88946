// Keeps the endpoints whose labels match a selector.
#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"
#include "plugins/filters/label_selector.h"

namespace penstock::plugins {
namespace {

class LabelSelectorFilter : public LabelFilter {
 public:
  using Params = LabelSelector;
  explicit LabelSelectorFilter(Params selector) : selector_(std::move(selector)) {}

 private:
  bool Matches(const model::Labels& labels) const override { return selector_.Matches(labels); }

  const LabelSelector selector_;
};

}  // namespace

sched::PluginType LabelSelectorFilterType() {
  auto type =
      sched::MakeType<LabelSelectorFilter>("label-selector-filter", sched::Kind::kFilter,
                                           "Keeps endpoints whose labels match a selector.");
  type.example =
      "{matchLabels: {zone: eu}, matchExpressions: [{key: gpu, operator: In, values: [h100]}]}";
  return type;
}

}  // namespace penstock::plugins
