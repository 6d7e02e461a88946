#include "sched/loader_context.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/text.h"

namespace penstock::sched {

using wire::YamlNode;

const YamlNode& Place(const YamlNode& node, std::initializer_list<std::string_view> path) {
  const YamlNode* at = &node;
  for (const std::string_view key : path) {
    const YamlNode* next = at->Find(key);
    if (next == nullptr) return *at;
    at = next;
  }
  return *at;
}

const YamlNode& Item(const YamlNode& list, size_t i) {
  return i < list.items.size() ? list.items[i] : list;
}

void Complaints::Error(const YamlNode& node, std::string_view sentence) {
  diagnostics_.errors.push_back(wire::At(diagnostics_.file, node, sentence));
}

void Complaints::Warning(const YamlNode& node, std::string_view sentence) {
  diagnostics_.warnings.push_back(wire::At(diagnostics_.file, node, sentence));
}

void Complaints::Missing(const YamlNode& node, std::string what, std::string_view capability,
                         std::string_view program, std::string_view instead) {
  auto lack = std::find_if(lacks_.begin(), lacks_.end(), [&](const Lack& other) {
    return other.capability == capability && other.program == program;
  });
  if (lack == lacks_.end()) {
    lack = lacks_.insert(lack, {std::string(capability), std::string(program), "", {}, {}});
    lack->place.line = node.line;
    lack->place.column = node.column;
  } else if (node.line != 0) {
    what += fmt::format(" (line {})", node.line);
  }
  if (lack->instead.empty()) lack->instead = instead;
  lack->whats.push_back(std::move(what));
}

void Complaints::Finish() {
  for (const Lack& lack : lacks_) {
    std::string subject = lack.whats.front();
    for (size_t i = 1; i < lack.whats.size(); ++i) {
      subject += (i + 1 == lack.whats.size() ? " and " : ", ") + lack.whats[i];
    }
    Error(lack.place, fmt::format("{} need{} {}, which {} does not have{}{}", subject,
                                  lack.whats.size() == 1 ? "s" : "", lack.capability,
                                  lack.program.empty() ? "this version" : "'" + lack.program + "'",
                                  lack.instead.empty() ? "" : "; ", lack.instead));
  }
  lacks_.clear();
}

const Instance* Instances::Find(std::string_view name) const {
  const auto it = instances_.find(name);
  return it == instances_.end() ? nullptr : &it->second;
}

const Instance* Instances::Resolve(std::string_view name, const YamlNode& node) const {
  if (const Instance* found = Find(name)) return found;
  std::vector<std::string_view> names;
  for (const auto& [known, instance] : instances_) names.push_back(known);
  complaints_.Error(Place(node, {"pluginRef"}),
                    fmt::format("no plugin is named '{}'{}", name, DidYouMean(name, names)));
  return nullptr;
}

}  // namespace penstock::sched
