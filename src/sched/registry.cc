#include "sched/registry.h"

#include <algorithm>

namespace penstock::sched {

std::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kFilter:
      return "filter";
    case Kind::kScorer:
      return "scorer";
    case Kind::kPicker:
      return "picker";
    case Kind::kProfileHandler:
      return "profile handler";
    case Kind::kProducer:
      return "producer";
  }
  return "plugin";
}

const PluginType* Registry::Find(std::string_view type) const {
  for (const PluginType& candidate : types_) {
    if (candidate.type == type) return &candidate;
    const auto& aliases = candidate.aliases;
    if (std::find(aliases.begin(), aliases.end(), type) != aliases.end()) return &candidate;
  }
  return nullptr;
}

std::vector<std::string_view> Registry::Names() const {
  std::vector<std::string_view> names;
  for (const PluginType& type : types_) {
    names.push_back(type.type);
    names.insert(names.end(), type.aliases.begin(), type.aliases.end());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace penstock::sched
