#include "plugins/filters/label_selector.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/text.h"
#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

bool Holds(const LabelRequirement& requirement, const std::string* value) {
  if (requirement.op == "In") return value != nullptr && Contains(requirement.values, *value);
  if (requirement.op == "NotIn") return value == nullptr || !Contains(requirement.values, *value);
  return (requirement.op == "Exists") == (value != nullptr);
}

// Up to the next comma that stands outside of brackets; takes it from `text`.
std::string_view TakeCondition(std::string_view& text) {
  size_t end = 0;
  for (bool is_inside = false; end < text.size() && (is_inside || text[end] != ','); ++end) {
    if (text[end] == '(') is_inside = true;
    if (text[end] == ')') is_inside = false;
  }
  const std::string_view condition = TrimSpace(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return condition;
}

std::optional<LabelRequirement> Requirement(std::string_view key, std::string_view op,
                                            std::vector<std::string> values) {
  key = TrimSpace(key);
  const bool is_name = !key.empty() && key.find_first_of(" \t=!(),") == std::string_view::npos;
  if (!is_name) return std::nullopt;
  return LabelRequirement{std::string(key), std::string(op), std::move(values)};
}

std::optional<LabelRequirement> ParseCondition(std::string_view text) {
  if (text.ends_with(')')) {
    const size_t open = text.find('(');
    if (open == std::string_view::npos) return std::nullopt;
    std::vector<std::string> values;
    std::string_view list = text.substr(open + 1, text.size() - open - 2);
    while (!list.empty()) values.emplace_back(TakeCondition(list));
    const std::string_view left = TrimSpace(text.substr(0, open));
    const size_t space = left.find_first_of(" \t");
    if (values.empty() || space == std::string_view::npos) return std::nullopt;
    const std::string_view word = TrimSpace(left.substr(space));
    if (word != "in" && word != "notin") return std::nullopt;
    return Requirement(left.substr(0, space), word == "in" ? "In" : "NotIn", std::move(values));
  }
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    const bool is_absent = text.starts_with('!');
    return Requirement(text.substr(is_absent), is_absent ? "DoesNotExist" : "Exists", {});
  }
  const bool is_not = equals > 0 && text[equals - 1] == '!';
  const bool is_double = !is_not && equals + 1 < text.size() && text[equals + 1] == '=';
  return Requirement(text.substr(0, equals - is_not), is_not ? "NotIn" : "In",
                     {std::string(TrimSpace(text.substr(equals + 1 + is_double)))});
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

Result<LabelSelector> ParseLabelSelector(std::string_view text) {
  text = TrimSpace(text);
  LabelSelector selector;
  while (!text.empty()) {
    const std::string_view condition = TakeCondition(text);
    auto parsed = ParseCondition(condition);
    if (!parsed) {
      return Fail(Code::kInvalidArgument,
                  "'" + std::string(condition) +
                      "' is no condition on labels; write a=b, a!=b, a in (b,c), a notin (b), a "
                      "or !a");
    }
    selector.match_expressions.push_back(std::move(*parsed));
  }
  return selector;
}

}  // namespace penstock::plugins
