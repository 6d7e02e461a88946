#include "plugins/filters/label_selector.h"

#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

bool Holds(const LabelRequirement& requirement, const std::string* value) {
  if (requirement.op == "In") return value != nullptr && Contains(requirement.values, *value);
  if (requirement.op == "NotIn") return value == nullptr || !Contains(requirement.values, *value);
  return (requirement.op == "Exists") == (value != nullptr);
}

}  // namespace

std::string LabelSelector::Problem() const {
  for (const LabelRequirement& requirement : match_expressions) {
    const bool takes_values = requirement.op == "In" || requirement.op == "NotIn";
    if (takes_values && requirement.values.empty()) {
      return "matchExpressions: " + requirement.op + " of '" + requirement.key + "' needs values";
    }
    if (!takes_values && !requirement.values.empty()) {
      return "matchExpressions: " + requirement.op + " of '" + requirement.key +
             "' takes no values";
    }
  }
  return "";
}

bool LabelSelector::Matches(const model::Labels& labels) const {
  for (const auto& [key, wanted] : match_labels) {
    const std::string* value = FindLabel(labels, key);
    if (value == nullptr || *value != wanted) return false;
  }
  for (const LabelRequirement& requirement : match_expressions) {
    if (!Holds(requirement, FindLabel(labels, requirement.key))) return false;
  }
  return true;
}

}  // namespace penstock::plugins
