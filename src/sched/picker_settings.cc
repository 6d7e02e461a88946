#include "sched/picker_settings.h"

#include <algorithm>

#include "core/text.h"

namespace penstock::sched {
namespace {

bool IsName(std::string_view text, bool allows_colon) {
  const auto is_letter = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (allows_colon && c == ':');
  };
  return !text.empty() && is_letter(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

// Takes a label's value off the front of `text`; nothing when a quote is left open.
std::optional<std::string> TakeValue(std::string_view* text) {
  std::string value;
  if (!text->starts_with('"')) {
    const size_t end = std::min(text->find(','), text->size());
    value = TrimSpace(text->substr(0, end));
    text->remove_prefix(end);
    return value;
  }
  for (size_t i = 1; i < text->size(); ++i) {
    char c = (*text)[i];
    if (c == '"') {
      *text = TrimSpace(text->substr(i + 1));
      return value;
    }
    if (c == '\\' && i + 1 < text->size()) {
      c = (*text)[++i];
      if (c == 'n') c = '\n';
    }
    value += c;
  }
  return std::nullopt;
}

}  // namespace

std::optional<MetricSpec> ParseMetricSpec(std::string_view text) {
  text = TrimSpace(text);
  MetricSpec spec;
  const size_t brace = text.find('{');
  spec.family = TrimSpace(text.substr(0, brace));
  if (!IsName(spec.family, true)) return std::nullopt;
  if (brace == std::string_view::npos) return spec;
  if (!text.ends_with('}')) return std::nullopt;
  text = TrimSpace(text.substr(brace + 1, text.size() - brace - 2));
  while (!text.empty()) {
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view name = TrimSpace(text.substr(0, equals));
    if (!IsName(name, false)) return std::nullopt;
    text = TrimSpace(text.substr(equals + 1));
    std::optional<std::string> value = TakeValue(&text);
    if (!value) return std::nullopt;
    spec.labels.emplace_back(name, std::move(*value));
    if (text.empty()) break;
    if (!text.starts_with(',')) return std::nullopt;
    text = TrimSpace(text.substr(1));
  }
  return spec;
}

}  // namespace penstock::sched
