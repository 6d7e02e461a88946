#include "sched/wiring.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/text.h"

namespace penstock::sched {
namespace {

constexpr std::string_view kExtractor = "core-metrics-extractor";

bool IsScraped(DataKey key) {
  return key == DataKey::kWaiting || key == DataKey::kRunning || key == DataKey::kKvUsage ||
         key == DataKey::kLora || key == DataKey::kAttribute;
}

class Wirer {
 public:
  Wirer(const SchedulingSpec& spec, const Registry& registry, config::Diagnostics* diagnostics,
        Wiring* out)
      : spec_(spec), registry_(registry), diagnostics_(diagnostics), out_(*out) {}

  bool Run() {
    const size_t errors_before = diagnostics_->errors.size();
    MakeInstances();
    if (diagnostics_->errors.size() > errors_before) return false;
    WireProfiles();
    FindHandler();
    FindChargeRule();
    if (diagnostics_->errors.size() > errors_before) return false;
    ActivateAll();
    if (diagnostics_->errors.size() > errors_before) return false;
    WarnOfUnusedAttributes();
    OrderProducers();
    return diagnostics_->errors.size() == errors_before;
  }

 private:
  // What one active plugin asked for, and who supplies it.
  struct Bound {
    Need need;
    Producer* producer;
  };

  void AddError(const wire::YamlNode& node, std::string_view sentence) {
    diagnostics_->errors.push_back(wire::At(diagnostics_->file, node, sentence));
  }
  const wire::YamlNode& NodeOf(const Plugin& plugin) const {
    static const wire::YamlNode kNowhere;
    for (const PluginSpec& spec : spec_.plugins) {
      if (spec.name == plugin.name()) return spec.parameters;
    }
    return kNowhere;
  }

  void MakeInstances();
  Plugin* MakeInstance(const PluginType& type, const std::string& name,
                       const wire::YamlNode& parameters);
  Plugin* Find(std::string_view name) const;
  void WireProfiles();
  void AddToProfile(const ProfileEntry& entry, WiredProfile* profile);
  void FindHandler();
  void FindChargeRule();
  void ActivateAll();
  void Activate(Plugin* plugin);
  void Bind(Plugin* plugin, const Need& need);
  void BindScraped(const Plugin& plugin, const Need& need);
  void BindAttribute(const Plugin& plugin, const Need& need);
  void WarnOfUnusedAttributes();
  Producer* NamedSupplier(const Plugin& plugin, const Need& need);
  Producer* DefaultSupplier(const Plugin& plugin, const Need& need);
  const PluginType* DefaultType(DataKey key) const;
  std::vector<Producer*> ProducersOf(DataKey key) const;
  void OrderProducers();
  void Order(Plugin* plugin);

  const SchedulingSpec& spec_;
  const Registry& registry_;
  config::Diagnostics* const diagnostics_;
  Wiring& out_;
  std::map<const Plugin*, std::vector<Bound>> bound_;
  std::vector<std::pair<Plugin*, Need>> optional_;  // without a name, not yet bound
  enum class Mark { kOpen, kDone };
  std::map<const Plugin*, Mark> marks_;
  std::map<const Producer*, uint32_t> prefix_index_;
};

void Wirer::MakeInstances() {
  for (const PluginSpec& plugin : spec_.plugins) {
    const PluginType* type = registry_.Find(plugin.type);
    if (type == nullptr) {
      AddError(plugin.parameters, fmt::format("unknown plugin type '{}'{}", plugin.type,
                                              DidYouMean(plugin.type, registry_.Names())));
    } else {
      MakeInstance(*type, plugin.name, plugin.parameters);
    }
  }
}

Plugin* Wirer::MakeInstance(const PluginType& type, const std::string& name,
                            const wire::YamlNode& parameters) {
  if (Find(name) != nullptr) {
    AddError(parameters, fmt::format("the plugin name '{}' is taken twice", name));
    return nullptr;
  }
  std::unique_ptr<Plugin> plugin = type.make(parameters, name, diagnostics_);
  if (plugin == nullptr) return nullptr;
  plugin->SetIdentity(name, std::string(type.type));
  out_.instances.push_back(std::move(plugin));
  return out_.instances.back().get();
}

Plugin* Wirer::Find(std::string_view name) const {
  for (const auto& instance : out_.instances) {
    if (instance->name() == name) return instance.get();
  }
  return nullptr;
}

void Wirer::WireProfiles() {
  for (const ProfileSpec& spec : spec_.profiles) {
    WiredProfile profile;
    profile.name = spec.name;
    for (const ProfileEntry& entry : spec.plugins) AddToProfile(entry, &profile);
    if (profile.picker == nullptr) {
      AddError({}, fmt::format("profile '{}' has no picker", spec.name));
    }
    out_.profile_names.push_back(profile.name);
    out_.profiles.push_back(std::move(profile));
  }
  if (out_.profiles.empty()) AddError({}, "there is no scheduling profile");
}

void Wirer::AddToProfile(const ProfileEntry& entry, WiredProfile* profile) {
  Plugin* plugin = Find(entry.plugin);
  const auto* filter = dynamic_cast<const Filter*>(plugin);
  const auto* scorer = dynamic_cast<const Scorer*>(plugin);
  if (filter != nullptr) profile->filters.push_back(filter);
  if (scorer != nullptr) {
    profile->scorers.push_back({scorer, static_cast<float>(entry.weight)});
  }
  if (filter != nullptr || scorer != nullptr) return;
  if (plugin == nullptr) {
    std::vector<std::string_view> names;
    for (const auto& instance : out_.instances) names.push_back(instance->name());
    AddError({}, fmt::format("profile '{}': no plugin is named '{}'{}", profile->name, entry.plugin,
                             DidYouMean(entry.plugin, names)));
  } else if (const auto* picker = dynamic_cast<const Picker*>(plugin)) {
    if (profile->picker != nullptr) {
      AddError(NodeOf(*plugin), fmt::format("profile '{}' has more than one picker: '{}' and '{}'",
                                            profile->name, profile->picker->name(), entry.plugin));
    }
    profile->picker = picker;
  } else {
    AddError(NodeOf(*plugin), fmt::format("profile '{}': '{}' is no filter, scorer or picker",
                                          profile->name, entry.plugin));
  }
}

void Wirer::FindHandler() {
  for (const auto& instance : out_.instances) {
    const auto* handler = dynamic_cast<const ProfileHandler*>(instance.get());
    if (handler == nullptr) continue;
    if (out_.handler != nullptr) {
      AddError(NodeOf(*instance),
               fmt::format("'{}' and '{}' are both profile handlers; one decides",
                           out_.handler->name(), instance->name()));
      return;
    }
    out_.handler = handler;
  }
  if (out_.handler == nullptr) {
    AddError({}, "no profile handler is declared");
    return;
  }
  const std::string problem = out_.handler->CheckProfiles(out_.profile_names);
  if (!problem.empty()) AddError(NodeOf(*out_.handler), problem);
}

void Wirer::FindChargeRule() {
  for (const auto& instance : out_.instances) {
    const auto* rule = dynamic_cast<const ChargeRule*>(instance.get());
    if (rule == nullptr) continue;
    if (out_.charge != nullptr) {
      AddError(NodeOf(*instance),
               fmt::format("'{}' and '{}' both say what a request is charged; keep one",
                           out_.charge->name(), instance->name()));
      return;
    }
    out_.charge = rule;
  }
}

void Wirer::ActivateAll() {
  std::vector<Plugin*> roots;
  for (const auto& instance : out_.instances) {
    Plugin* plugin = instance.get();
    const auto in_profile = [&](const WiredProfile& profile) {
      const auto& filters = profile.filters;
      const auto& scorers = profile.scorers;
      return profile.picker == plugin ||
             std::any_of(filters.begin(), filters.end(), [&](auto* f) { return f == plugin; }) ||
             std::any_of(scorers.begin(), scorers.end(),
                         [&](const auto& s) { return s.scorer == plugin; });
    };
    const auto* const producer = dynamic_cast<const Producer*>(plugin);
    const bool is_root = out_.handler == plugin || out_.charge == plugin ||
                         (producer != nullptr && producer->Produces().empty()) ||
                         std::any_of(out_.profiles.begin(), out_.profiles.end(), in_profile);
    if (is_root) roots.push_back(plugin);
  }
  for (Plugin* root : roots) Activate(root);
  // Last, so that they find the producers that others asked for. May grow on the way.
  for (size_t i = 0; i < optional_.size(); ++i) {
    const auto [plugin, need] = optional_[i];
    Bind(plugin, need);
  }
}

void Wirer::Activate(Plugin* plugin) {
  if (bound_.contains(plugin)) return;
  bound_[plugin];
  out_.active.push_back(plugin);
  if (const auto* rule = dynamic_cast<const ChargeRule*>(plugin)) out_.charge = rule;
  for (const Need& need : plugin->Needs()) {
    if (IsScraped(need.key)) {
      BindScraped(*plugin, need);
    } else if (!need.required && need.producer.empty()) {
      optional_.emplace_back(plugin, need);
    } else {
      Bind(plugin, need);
    }
  }
}

void Wirer::BindScraped(const Plugin& plugin, const Need& need) {
  out_.keys.set(static_cast<size_t>(need.key));
  if (!need.producer.empty() && need.producer != kExtractor && need.producer != spec_.extractor) {
    return AddError(NodeOf(plugin), fmt::format("plugin '{}' wants {} from '{}', which does not "
                                                "produce it: name {}, or nobody",
                                                plugin.name(),
                                                need.key == DataKey::kAttribute
                                                    ? "'" + need.attribute + "'"
                                                    : std::string(DataKeyName(need.key)),
                                                need.producer, kExtractor));
  }
  if (need.key == DataKey::kAttribute) BindAttribute(plugin, need);
}

void Wirer::BindAttribute(const Plugin& plugin, const Need& need) {
  const auto known = std::ranges::find(spec_.attributes, need.attribute);
  if (known == spec_.attributes.end()) {
    std::vector<std::string_view> names = {"KVCacheUsagePercent", "RunningRequestsSize",
                                           "WaitingQueueSize"};
    names.insert(names.end(), spec_.attributes.begin(), spec_.attributes.end());
    std::string hint = DidYouMean(need.attribute, names);
    if (hint.empty()) hint = fmt::format("; there are {}", fmt::join(names, ", "));
    return AddError(
        NodeOf(plugin),
        fmt::format("plugin '{}' wants the attribute '{}', which no customMetrics of {} "
                    "describe{}",
                    plugin.name(), need.attribute, kExtractor, hint));
  }
  auto at = std::ranges::find(out_.attributes, need.attribute);
  *need.index = static_cast<uint32_t>(at - out_.attributes.begin());
  if (at == out_.attributes.end()) out_.attributes.push_back(need.attribute);
}

void Wirer::WarnOfUnusedAttributes() {
  for (const std::string& name : spec_.attributes) {
    if (std::ranges::find(out_.attributes, name) != out_.attributes.end()) continue;
    diagnostics_->warnings.push_back(wire::At(
        diagnostics_->file, {},
        fmt::format("attribute '{}' is read and shown by /debug/endpoints, but no plugin uses it",
                    name)));
  }
}

void Wirer::Bind(Plugin* plugin, const Need& need) {
  Producer* producer =
      need.producer.empty() ? DefaultSupplier(*plugin, need) : NamedSupplier(*plugin, need);
  if (producer == nullptr) return;
  out_.keys.set(static_cast<size_t>(need.key));
  bound_[plugin].push_back({need, producer});
  Activate(producer);
}

Producer* Wirer::NamedSupplier(const Plugin& plugin, const Need& need) {
  Plugin* named = Find(need.producer);
  if (named == nullptr) {
    const PluginType* default_type = DefaultType(need.key);
    if (default_type != nullptr && default_type->type == need.producer) {
      named = MakeInstance(*default_type, need.producer, {});
    }
  }
  const std::vector<Producer*> producers = ProducersOf(need.key);
  for (Producer* producer : producers) {
    if (producer == named) return producer;
  }
  std::vector<std::string_view> names;
  for (const Producer* producer : producers) names.push_back(producer->name());
  AddError(NodeOf(plugin), fmt::format("plugin '{}' wants {} from '{}', which {}{}", plugin.name(),
                                       DataKeyName(need.key), need.producer,
                                       named == nullptr ? "is not declared" : "does not produce it",
                                       DidYouMean(need.producer, names)));
  return nullptr;
}

Producer* Wirer::DefaultSupplier(const Plugin& plugin, const Need& need) {
  const std::vector<Producer*> producers = ProducersOf(need.key);
  if (producers.size() == 1) return producers.front();
  const PluginType* default_type = DefaultType(need.key);
  for (Producer* producer : producers) {
    if (default_type != nullptr && producer->name() == default_type->type) return producer;
  }
  if (!producers.empty()) {
    AddError(NodeOf(plugin),
             fmt::format(
                 "plugin '{}' needs {}, and both '{}' and '{}' produce it: name one of them",
                 plugin.name(), DataKeyName(need.key), producers[0]->name(), producers[1]->name()));
    return nullptr;
  }
  if (!need.required) return nullptr;
  if (default_type != nullptr) {
    return dynamic_cast<Producer*>(
        MakeInstance(*default_type, std::string(default_type->type), {}));
  }
  if (need.key == DataKey::kSessionId) {
    AddError(NodeOf(plugin), fmt::format("plugin '{}' needs a session-id-producer, which must be "
                                         "declared with the header or cookie that it reads",
                                         plugin.name()));
  } else {
    AddError(NodeOf(plugin), fmt::format("plugin '{}' needs {}, which nothing produces",
                                         plugin.name(), DataKeyName(need.key)));
  }
  return nullptr;
}

const PluginType* Wirer::DefaultType(DataKey key) const {
  for (const PluginType& type : registry_.types()) {
    const auto& keys = type.default_producer_of;
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) return &type;
  }
  return nullptr;
}

std::vector<Producer*> Wirer::ProducersOf(DataKey key) const {
  std::vector<Producer*> producers;
  for (const auto& instance : out_.instances) {
    auto* producer = dynamic_cast<Producer*>(instance.get());
    if (producer == nullptr) continue;
    const std::vector<DataKey> keys = producer->Produces();
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) producers.push_back(producer);
  }
  return producers;
}

// Producers in the order in which they must run, and the columns of those that have their own.
void Wirer::OrderProducers() {
  for (Plugin* plugin : out_.active) Order(plugin);
  for (Producer* producer : out_.producers) {
    const std::vector<DataKey> keys = producer->Produces();
    if (std::find(keys.begin(), keys.end(), DataKey::kPrefixMatch) == keys.end()) continue;
    prefix_index_[producer] = out_.prefix_columns;
    producer->SetIndex(DataKey::kPrefixMatch, out_.prefix_columns);
    ++out_.prefix_columns;
  }
  for (const auto& [plugin, needs] : bound_) {
    for (const Bound& bound : needs) {
      if (bound.need.host_blocks) bound.producer->WantHostBlocks();
      if (bound.need.index == nullptr) continue;
      const auto it = prefix_index_.find(bound.producer);
      *bound.need.index = it == prefix_index_.end() ? 0 : it->second;
    }
  }
}

void Wirer::Order(Plugin* plugin) {
  const auto [it, is_new] = marks_.try_emplace(plugin, Mark::kOpen);
  if (!is_new) {
    if (it->second == Mark::kOpen) {
      AddError(NodeOf(*plugin),
               fmt::format("plugin '{}' needs data that is made from its own", plugin->name()));
    }
    return;
  }
  for (const Bound& bound : bound_[plugin]) {
    Order(bound.producer);
  }
  marks_[plugin] = Mark::kDone;
  if (auto* producer = dynamic_cast<Producer*>(plugin)) {
    out_.producers.push_back(producer);
  }
}

}  // namespace

bool Wire(const SchedulingSpec& spec, const Registry& registry, config::Diagnostics* diagnostics,
          Wiring* out) {
  return Wirer(spec, registry, diagnostics, out).Run();
}

}  // namespace penstock::sched
