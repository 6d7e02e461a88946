// What the parts of the configuration loader share: the declared plugin instances, and complaints
// with places. Private to the loader.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/parse.h"
#include "sched/known_types.h"
#include "sched/registry.h"
#include "wire/yaml.h"

namespace penstock::sched {

// The node under `path` of keys, or the last one on the way that exists: where to point.
const wire::YamlNode& Place(const wire::YamlNode& node,
                            std::initializer_list<std::string_view> path);
// The i-th element, or the list itself when it is shorter.
const wire::YamlNode& Item(const wire::YamlNode& list, size_t i);

class Complaints {
 public:
  explicit Complaints(config::Diagnostics* diagnostics) : diagnostics_(*diagnostics) {}
  Complaints(const Complaints&) = delete;
  Complaints& operator=(const Complaints&) = delete;

  void Error(const wire::YamlNode& node, std::string_view sentence);
  void Warning(const wire::YamlNode& node, std::string_view sentence);
  // `what` cannot work, because `capability` is not there. Whatever lacks the same capability is
  // told in one sentence, at the place of the first; Finish writes it. `program`: who lacks it, ""
  // for every command. `instead`: what to do, or "".
  void Missing(const wire::YamlNode& node, std::string what, std::string_view capability,
               std::string_view program, std::string_view instead);
  void Finish();

  config::Diagnostics* diagnostics() { return &diagnostics_; }

 private:
  struct Lack {
    std::string capability;
    std::string program;
    std::string instead;
    wire::YamlNode place;  // of the first
    std::vector<std::string> whats;
  };

  config::Diagnostics& diagnostics_;
  std::vector<Lack> lacks_;
};

// A declared plugin: of a type that the scheduler has (`type` is set), or of one that is built in
// or missing (`known` is set), or of none that exists (neither is).
struct Instance {
  const PluginType* type = nullptr;
  const KnownType* known = nullptr;

  bool IsMissing() const {
    return type == nullptr && (known == nullptr || known->role == KnownRole::kMissing);
  }
  bool Has(KnownRole role) const {
    return type == nullptr && known != nullptr && known->role == role;
  }
};

class Instances {
 public:
  explicit Instances(Complaints* complaints) : complaints_(*complaints) {}

  // False when the name is taken.
  bool Add(std::string_view name, const Instance& instance) {
    return instances_.try_emplace(std::string(name), instance).second;
  }
  // nullptr when no plugin has the name.
  const Instance* Find(std::string_view name) const;
  // The same, with an error that has the nearest name; `node` is the map that has the `pluginRef`.
  const Instance* Resolve(std::string_view name, const wire::YamlNode& node) const;
  const std::map<std::string, Instance, std::less<>>& all() const { return instances_; }

 private:
  Complaints& complaints_;
  std::map<std::string, Instance, std::less<>> instances_;
};

}  // namespace penstock::sched
