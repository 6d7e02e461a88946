#include "sched/explain.h"

#include <algorithm>
#include <cmath>

#include "sched/spec_yaml.h"
#include "sched/wiring.h"

namespace penstock::sched {
namespace {

class Explainer {
 public:
  Explainer(const SchedulingSpec& spec, const Registry& registry, const Wiring& wiring)
      : spec_(spec), registry_(registry), wiring_(wiring) {}

  Explanation Run() {
    out_.handler = PartOf(*wiring_.handler);
    for (const ProfileSpec& profile : spec_.profiles) AddProfile(profile);
    for (const Producer* producer : wiring_.producers) {
      Explanation::Part part = PartOf(*producer);
      for (const DataKey key : producer->Produces()) {
        part.produces += (part.produces.empty() ? "" : ", ") + std::string(DataKeyName(key));
      }
      out_.producers.push_back(std::move(part));
    }
    static constexpr std::pair<DataKey, std::string_view> kScraped[] = {
        {DataKey::kWaiting, "waiting requests"},
        {DataKey::kRunning, "running requests"},
        {DataKey::kKvUsage, "KV cache use"},
        {DataKey::kLora, "LoRA adapters"},
    };
    for (const auto& [key, name] : kScraped) {
      if (wiring_.Needs(key)) out_.metrics.emplace_back(name);
    }
    for (const std::string& name : wiring_.attributes) out_.metrics.push_back(name);
    out_.reads_prompts = wiring_.Needs(DataKey::kTokens) || wiring_.Needs(DataKey::kPrefixMatch);
    AddHeaders();
    AddUnused();
    return std::move(out_);
  }

 private:
  const PluginSpec* Declared(std::string_view name) const {
    for (const PluginSpec& plugin : spec_.plugins) {
      if (plugin.name == name) return &plugin;
    }
    return nullptr;
  }

  const Plugin& Instance(std::string_view name) const {
    return **std::find_if(wiring_.instances.begin(), wiring_.instances.end(),
                          [&](const auto& instance) { return instance->name() == name; });
  }

  Explanation::Part PartOf(const Plugin& plugin) const {
    Explanation::Part part;
    part.name = plugin.name();
    part.type = plugin.type();
    const PluginType& type = *registry_.Find(plugin.type());
    part.text = type.text;
    part.formula = type.formula;
    const PluginSpec* declared = Declared(plugin.name());
    part.is_implied = declared == nullptr || declared->line == 0;
    if (declared == nullptr) return part;
    const std::vector<config::FieldRow> rows = type.parameters();
    for (const auto& [key, value] : declared->parameters.entries) {
      const auto row = std::find_if(rows.begin(), rows.end(),
                                    [&](const auto& r) { return r.path == key.scalar; });
      part.settings.push_back(
          {key.scalar, ToYaml(value), row == rows.end() ? "" : row->default_value});
    }
    return part;
  }

  void AddProfile(const ProfileSpec& spec) {
    Explanation::Profile profile;
    profile.name = spec.name;
    double sum = 0;
    for (const ProfileEntry& entry : spec.plugins) {
      const Plugin& plugin = Instance(entry.plugin);
      if (dynamic_cast<const Filter*>(&plugin) != nullptr) {
        profile.filters.push_back(PartOf(plugin));
      }
      if (dynamic_cast<const Scorer*>(&plugin) != nullptr) {
        profile.scorers.push_back(PartOf(plugin));
        profile.scorers.back().weight = entry.weight;
        sum += std::abs(entry.weight);
      }
      if (dynamic_cast<const Picker*>(&plugin) != nullptr) profile.picker = PartOf(plugin);
    }
    for (Explanation::Part& scorer : profile.scorers) {
      scorer.share = sum > 0 ? scorer.weight / sum : 0;
    }
    out_.profiles.push_back(std::move(profile));
  }

  void AddHeaders() {
    for (const Plugin* plugin : wiring_.active) {
      for (HeaderUse& use : plugin->HeadersRead()) {
        out_.headers.push_back({std::move(use.name), plugin->name(), use.effect});
      }
    }
  }

  void AddUnused() {
    for (const PluginSpec& plugin : spec_.plugins) {
      const auto& active = wiring_.active;
      if (std::none_of(active.begin(), active.end(),
                       [&](const Plugin* p) { return p->name() == plugin.name; })) {
        out_.unused.push_back(plugin.name);
      }
    }
  }

  const SchedulingSpec& spec_;
  const Registry& registry_;
  const Wiring& wiring_;
  Explanation out_;
};

}  // namespace

std::optional<Explanation> Explain(const SchedulingSpec& spec, const Registry& registry,
                                   config::Diagnostics* diagnostics) {
  Wiring wiring;
  if (!Wire(spec, registry, diagnostics, &wiring)) return std::nullopt;
  return Explainer(spec, registry, wiring).Run();
}

void CheckParameters(const SchedulingSpec& spec, const Registry& registry,
                     config::Diagnostics* diagnostics) {
  for (const PluginSpec& plugin : spec.plugins) {
    const PluginType* type = registry.Find(plugin.type);
    if (type != nullptr) type->make(plugin.parameters, plugin.name, diagnostics);
  }
}

}  // namespace penstock::sched
