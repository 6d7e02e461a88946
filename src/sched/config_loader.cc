#include "sched/config_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/text.h"
#include "sched/known_types.h"
#include "sched/loader_context.h"
#include "sched/picker_document.h"
#include "sched/picker_reader.h"

namespace penstock::sched {
namespace {

using wire::YamlNode;

constexpr std::string_view kSingleProfileHandler = "single-profile-handler";
constexpr std::string_view kMaxScorePicker = "max-score-picker";

bool IsInProfile(Kind kind) {
  return kind == Kind::kFilter || kind == Kind::kScorer || kind == Kind::kPicker;
}

class Loader {
 public:
  Loader(const YamlNode& plugin_list, const YamlNode& profile_list, const Registry& registry,
         const Abilities& abilities, SchedulingSpec* out, PickerSettings* settings,
         config::Diagnostics* diagnostics)
      : plugin_list_(plugin_list),
        profile_list_(profile_list),
        registry_(registry),
        out_(out),
        complaints_(diagnostics),
        instances_(&complaints_),
        settings_(*settings),
        picker_(abilities, instances_, settings, &complaints_) {
    out_->file = diagnostics->file;
  }

  void LoadPlugins(const std::vector<PluginDocument>& plugins);
  void LoadProfiles(const std::vector<ProfileDocument>& profiles);
  void LoadDocument(const YamlNode& document, const PickerDocument& parsed) {
    picker_.ReadDocument(document, parsed);
  }
  // True when nothing was wrong.
  bool Finish() {
    picker_.SettleFlowPolicies();
    SettleAttributes();
    complaints_.Finish();
    return complaints_.diagnostics()->errors.empty();
  }

 private:
  void SettleAttributes();
  void LoadPlugin(const PluginDocument& plugin, const YamlNode& node);
  void AddInstance(const std::string& name, const PluginDocument& plugin, const PluginType& type,
                   const YamlNode& node);
  void UnknownType(std::string_view type, const YamlNode& node);
  void LoadProfile(const ProfileDocument& profile, const YamlNode& node);
  void AddEntry(const ProfilePluginDocument& entry, const YamlNode& node, ProfileSpec* profile,
                size_t* pickers);
  void AddDefaultProfile();
  void AddDefaultPicker(ProfileSpec* profile);
  void AddProfileHandler();
  void AddDefaultPlugin(std::string_view type);

  const YamlNode& plugin_list_;
  const YamlNode& profile_list_;
  const Registry& registry_;
  SchedulingSpec* out_;
  Complaints complaints_;
  Instances instances_;
  const PickerSettings& settings_;
  PickerReader picker_;
};

void Loader::LoadPlugins(const std::vector<PluginDocument>& plugins) {
  for (size_t i = 0; i < plugins.size(); ++i) {
    if (!plugins[i].type.empty()) LoadPlugin(plugins[i], Item(plugin_list_, i));
  }
}

void Loader::SettleAttributes() {
  std::set<std::string> names;
  for (const EngineMetrics& engine : settings_.extractor.engines) {
    for (const CustomMetric& metric : engine.custom) names.insert(metric.attribute_key);
  }
  out_->attributes.assign(names.begin(), names.end());
  out_->extractor = settings_.extractor_name;
}

void Loader::LoadPlugin(const PluginDocument& plugin, const YamlNode& node) {
  const std::string& name = plugin.name.empty() ? plugin.type : plugin.name;
  const PluginType* type = registry_.Find(plugin.type);
  const KnownType* known = type == nullptr ? FindKnownType(plugin.type) : nullptr;
  if (!instances_.Add(name, {type, known})) {
    complaints_.Error(
        Place(node, {plugin.name.empty() ? "type" : "name"}),
        fmt::format("plugin '{}' is declared twice; give each a name of its own", name));
    return;
  }
  if (type != nullptr) {
    AddInstance(name, plugin, *type, node);
  } else if (known != nullptr) {
    picker_.ReadPlugin(*known, name, plugin, node);
  } else {
    UnknownType(plugin.type, Place(node, {"type"}));
  }
}

void Loader::AddInstance(const std::string& name, const PluginDocument& plugin,
                         const PluginType& type, const YamlNode& node) {
  if (plugin.type != type.type) {
    complaints_.Warning(
        Place(node, {"type"}),
        fmt::format("plugin type '{}' is deprecated: use '{}'", plugin.type, type.type));
  } else if (type.stability == Stability::kDeprecated) {
    complaints_.Warning(Place(node, {"type"}),
                        fmt::format("plugin type '{}' is deprecated", plugin.type));
  }
  const YamlNode& place = Place(node, {"type"});
  out_->plugins.push_back(
      PluginSpec{name, std::string(type.type), plugin.parameters, place.line, place.column});
}

void Loader::UnknownType(std::string_view type, const YamlNode& node) {
  std::vector<std::string_view> names = registry_.Names();
  for (const KnownType& known : KnownTypes()) names.push_back(known.type);
  complaints_.Error(node, fmt::format("unknown plugin type '{}'{}", type, DidYouMean(type, names)));
}

void Loader::LoadProfiles(const std::vector<ProfileDocument>& profiles) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < profiles.size(); ++i) {
    if (profiles[i].name.empty()) continue;
    const YamlNode& node = Item(profile_list_, i);
    if (!names.insert(profiles[i].name).second) {
      complaints_.Error(Place(node, {"name"}),
                        fmt::format("profile '{}' is declared twice", profiles[i].name));
      continue;
    }
    LoadProfile(profiles[i], node);
  }
  if (profiles.empty()) AddDefaultProfile();
  for (ProfileSpec& profile : out_->profiles) AddDefaultPicker(&profile);
  AddProfileHandler();
}

void Loader::LoadProfile(const ProfileDocument& profile, const YamlNode& node) {
  ProfileSpec spec;
  spec.name = profile.name;
  size_t pickers = 0;
  const YamlNode& list = Place(node, {"plugins"});
  for (size_t i = 0; i < profile.plugins.size(); ++i) {
    if (profile.plugins[i].plugin_ref.empty()) continue;
    AddEntry(profile.plugins[i], Item(list, i), &spec, &pickers);
  }
  out_->profiles.push_back(std::move(spec));
}

void Loader::AddEntry(const ProfilePluginDocument& entry, const YamlNode& node,
                      ProfileSpec* profile, size_t* pickers) {
  const Instance* instance = instances_.Resolve(entry.plugin_ref, node);
  if (instance == nullptr || instance->IsMissing()) return;  // said where it is declared
  if (instance->type == nullptr || !IsInProfile(instance->type->kind)) {
    complaints_.Warning(
        Place(node, {"pluginRef"}),
        fmt::format("'{}' is no filter, scorer or picker and takes no part in profile '{}'",
                    entry.plugin_ref, profile->name));
    return;
  }
  if (entry.weight && instance->type->kind != Kind::kScorer) {
    complaints_.Warning(
        Place(node, {"weight"}),
        fmt::format("the weight of '{}' is ignored: only scorers have one", entry.plugin_ref));
  }
  if (instance->type->kind == Kind::kPicker && ++*pickers == 2) {
    complaints_.Error(Place(node, {"pluginRef"}),
                      fmt::format("profile '{}' has more than one picker", profile->name));
  }
  const YamlNode& place = Place(node, {"pluginRef"});
  profile->plugins.push_back(
      ProfileEntry{entry.plugin_ref, entry.weight.value_or(1.0), place.line, place.column});
}

// No profiles at all: one with everything that can stand in a profile, in the order of declaration.
void Loader::AddDefaultProfile() {
  ProfileSpec profile;
  profile.name = "default";
  size_t pickers = 0;
  for (const PluginSpec& plugin : out_->plugins) {
    const PluginType* type = registry_.Find(plugin.type);
    if (!IsInProfile(type->kind)) continue;
    if (type->kind == Kind::kPicker && ++pickers == 2) {
      complaints_.Error(
          plugin_list_,
          "more than one picker is declared and no schedulingProfiles say which to use");
    }
    profile.plugins.push_back(ProfileEntry{plugin.name, 1.0, plugin.line, plugin.column});
  }
  out_->profiles.push_back(std::move(profile));
}

// A profile without a picker uses the first one that is declared, else max-score-picker.
void Loader::AddDefaultPicker(ProfileSpec* profile) {
  const auto is_picker = [&](std::string_view name) {
    const Instance* instance = instances_.Find(name);
    return instance->type != nullptr && instance->type->kind == Kind::kPicker;
  };
  for (const ProfileEntry& entry : profile->plugins) {
    if (is_picker(entry.plugin)) return;
  }
  for (const PluginSpec& plugin : out_->plugins) {
    if (!is_picker(plugin.name)) continue;
    profile->plugins.push_back(ProfileEntry{plugin.name, 1.0});
    return;
  }
  AddDefaultPlugin(kMaxScorePicker);
  profile->plugins.push_back(ProfileEntry{std::string(kMaxScorePicker), 1.0});
}

void Loader::AddProfileHandler() {
  size_t handlers = 0;
  bool has_missing = false;  // a handler that is not available was already complained about
  std::string_view type;
  for (const auto& [name, instance] : instances_.all()) {
    if (instance.type == nullptr) {
      has_missing |= instance.IsMissing();
    } else if (instance.type->kind == Kind::kProfileHandler) {
      ++handlers;
      type = instance.type->type;
    }
  }
  const size_t profiles = out_->profiles.size();
  if (handlers > 1) complaints_.Error(plugin_list_, "more than one profile handler is declared");
  if (handlers == 1 && type == kSingleProfileHandler && profiles > 1) {
    complaints_.Error(
        profile_list_,
        fmt::format("single-profile-handler works with one profile, not {}", profiles));
  }
  if (handlers != 0 || has_missing) return;
  if (profiles == 1) {
    AddDefaultPlugin(kSingleProfileHandler);
  } else {
    complaints_.Error(profile_list_, fmt::format("{} profiles need a profile handler", profiles));
  }
}

void Loader::AddDefaultPlugin(std::string_view type) {
  const PluginType* found = registry_.Find(type);
  if (found == nullptr) {
    complaints_.Error(plugin_list_,
                      fmt::format("plugin type '{}', needed by default, is not built in", type));
    return;
  }
  if (!instances_.Add(type, {found, nullptr})) {
    complaints_.Error(
        plugin_list_,
        fmt::format("the name '{}' is needed for the default plugin of that type", type));
    return;
  }
  out_->plugins.push_back(PluginSpec{std::string(type), std::string(type), YamlNode()});
}

}  // namespace

bool LoadEndpointPickerConfig(const YamlNode& document, const Registry& registry,
                              const Abilities& abilities, SchedulingSpec* out,
                              PickerSettings* settings, config::Diagnostics* diagnostics) {
  PickerDocument parsed;
  config::ParseInto(document, "", &parsed, diagnostics);
  *out = SchedulingSpec();
  *settings = PickerSettings();
  Loader loader(Place(document, {"plugins"}), Place(document, {"schedulingProfiles"}), registry,
                abilities, out, settings, diagnostics);
  loader.LoadPlugins(parsed.plugins);
  if (parsed.plugins.empty() && parsed.profiles.empty()) {
    const std::string file = out->file;
    *out = *BuiltinPolicy("weighted");  // the picker's own default
    out->file = file;
  } else {
    loader.LoadProfiles(parsed.profiles);
  }
  loader.LoadDocument(document, parsed);
  return loader.Finish();
}

bool LoadEndpointPickerConfig(const YamlNode& document, const Registry& registry,
                              SchedulingSpec* out, config::Diagnostics* diagnostics) {
  PickerSettings settings;
  return LoadEndpointPickerConfig(document, registry, kGatewayAbilities, out, &settings,
                                  diagnostics);
}

bool LoadInlineScheduling(const YamlNode& plugins, const YamlNode& scheduling_profiles,
                          const Registry& registry, SchedulingSpec* out,
                          config::Diagnostics* diagnostics) {
  struct Lists {
    std::vector<PluginDocument> plugins;
    std::vector<ProfileDocument> profiles;
  } parsed;
  const config::FieldDoc no_doc;
  *out = SchedulingSpec();
  if (plugins.kind != YamlNode::Kind::kNull) {
    config::ReadInto(config::ReadContext{"scheduling.plugins", no_doc, diagnostics}, plugins,
                     &parsed.plugins);
  }
  if (scheduling_profiles.kind != YamlNode::Kind::kNull) {
    config::ReadInto(config::ReadContext{"scheduling.schedulingProfiles", no_doc, diagnostics},
                     scheduling_profiles, &parsed.profiles);
  }
  PickerSettings settings;
  Loader loader(plugins, scheduling_profiles, registry, kGatewayAbilities, out, &settings,
                diagnostics);
  loader.LoadPlugins(parsed.plugins);
  loader.LoadProfiles(parsed.profiles);
  return loader.Finish();
}

}  // namespace penstock::sched
