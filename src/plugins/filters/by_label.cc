// Keeps the endpoints that have one of some values in one label.
#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

class ByLabel : public LabelFilter {
 public:
  struct Params {
    std::string label;
    std::vector<std::string> valid_values;
    bool allows_no_label = false;
    template <class V>
    void Describe(V& v) {
      v.Field("label", label, {.text = "Name of the label.", .required = true});
      v.Field("validValues", valid_values, {.text = "Values that match."});
      v.Field("allowsNoLabel", allows_no_label,
              {.text = "Whether endpoints without the label match."});
    }
    std::string Problem() const {
      if (!valid_values.empty() || allows_no_label) return "";
      return "no endpoint could match: validValues is empty and allowsNoLabel is false";
    }
  };
  explicit ByLabel(Params params) : params_(std::move(params)) {}

 private:
  bool Matches(const model::Labels& labels) const override {
    const std::string* value = FindLabel(labels, params_.label);
    return value == nullptr ? params_.allows_no_label : Contains(params_.valid_values, *value);
  }

  const Params params_;
};

}  // namespace

sched::PluginType ByLabelType() {
  auto type = sched::MakeType<ByLabel>(
      "by-label", sched::Kind::kFilter,
      "Keeps endpoints that have one of some values in a label; use label-selector-filter.");
  type.stability = sched::Stability::kDeprecated;
  type.example = "{label: llm-d.ai/role, validValues: [decode, both], allowsNoLabel: true}";
  return type;
}

}  // namespace penstock::plugins
