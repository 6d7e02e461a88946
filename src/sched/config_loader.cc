#include "sched/config_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "core/text.h"
#include "sched/known_types.h"
#include "sched/picker_document.h"

namespace penstock::sched {
namespace {

using wire::YamlNode;

constexpr std::string_view kSingleProfileHandler = "single-profile-handler";
constexpr std::string_view kMaxScorePicker = "max-score-picker";

// The node under `path` of keys, or the last one on the way that exists: where to point.
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

std::string Lacking(std::string_view what, std::string_view needs, std::string_view instead = {}) {
  return fmt::format("{} needs {}, which this version does not have{}{}", what, needs,
                     instead.empty() ? "" : "; ", instead);
}

bool IsInProfile(Kind kind) {
  return kind == Kind::kFilter || kind == Kind::kScorer || kind == Kind::kPicker;
}

class Loader {
 public:
  Loader(const YamlNode& plugin_list, const YamlNode& profile_list, const Registry& registry,
         SchedulingSpec* out, config::Diagnostics* diagnostics)
      : plugin_list_(plugin_list),
        profile_list_(profile_list),
        registry_(registry),
        out_(out),
        diagnostics_(diagnostics) {
    out_->file = diagnostics->file;
  }

  void LoadPlugins(const std::vector<PluginDocument>& plugins);
  void LoadProfiles(const std::vector<ProfileDocument>& profiles);
  void CheckDocument(const YamlNode& document, const PickerDocument& parsed);

 private:
  // An instance by name: of a scheduler plugin (type set), of a part that is built in, or of one
  // that is missing (known set).
  struct Instance {
    const PluginType* type = nullptr;
    const KnownType* known = nullptr;
  };

  void AddError(const YamlNode& node, std::string_view sentence) {
    diagnostics_->errors.push_back(wire::At(diagnostics_->file, node, sentence));
  }
  void AddWarning(const YamlNode& node, std::string_view sentence) {
    diagnostics_->warnings.push_back(wire::At(diagnostics_->file, node, sentence));
  }

  void LoadPlugin(const PluginDocument& plugin, const YamlNode& node);
  void AddInstance(const std::string& name, const PluginDocument& plugin, const PluginType& type,
                   const YamlNode& node);
  void UnknownType(std::string_view type, const YamlNode& node);
  void CheckKnown(const KnownType& known, const PluginDocument& plugin, const YamlNode& node);
  void CheckSource(const KnownType& known, const PluginDocument& plugin, const YamlNode& node);
  void CheckExtractor(const PluginDocument& plugin, const YamlNode& node);
  // The instance, or nullptr with an error that has the nearest name.
  const Instance* Resolve(const std::string& name, const YamlNode& node);
  void LoadProfile(const ProfileDocument& profile, const YamlNode& node);
  void AddEntry(const ProfilePluginDocument& entry, const YamlNode& node, ProfileSpec* profile,
                size_t* pickers);
  void AddDefaultProfile();
  void AddDefaultPicker(ProfileSpec* profile);
  void AddProfileHandler();
  void AddDefaultPlugin(std::string_view type);
  void CheckFlowControl(const YamlNode& document, const PickerDocument& parsed);
  void CheckGates(const std::vector<std::string>& gates, const YamlNode& node, bool* flow_control);
  void CheckDataLayer(const DataLayerDocument& data_layer, const YamlNode& node);
  void CheckParser(const std::string& name, const YamlNode& node);

  const YamlNode& plugin_list_;
  const YamlNode& profile_list_;
  const Registry& registry_;
  SchedulingSpec* out_;
  config::Diagnostics* diagnostics_;
  std::map<std::string, Instance, std::less<>> instances_;
};

void Loader::LoadPlugins(const std::vector<PluginDocument>& plugins) {
  for (size_t i = 0; i < plugins.size(); ++i) {
    if (!plugins[i].type.empty()) LoadPlugin(plugins[i], Item(plugin_list_, i));
  }
}

void Loader::LoadPlugin(const PluginDocument& plugin, const YamlNode& node) {
  const std::string& name = plugin.name.empty() ? plugin.type : plugin.name;
  if (instances_.contains(name)) {
    AddError(Place(node, {plugin.name.empty() ? "type" : "name"}),
             fmt::format("plugin '{}' is declared twice; give each a name of its own", name));
    return;
  }
  const PluginType* type = registry_.Find(plugin.type);
  if (type != nullptr) {
    instances_[name] = Instance{type, nullptr};
    AddInstance(name, plugin, *type, node);
    return;
  }
  const KnownType* known = FindKnownType(plugin.type);
  instances_[name] = Instance{nullptr, known};
  if (known == nullptr) {
    UnknownType(plugin.type, Place(node, {"type"}));
  } else {
    CheckKnown(*known, plugin, node);
  }
}

void Loader::AddInstance(const std::string& name, const PluginDocument& plugin,
                         const PluginType& type, const YamlNode& node) {
  if (plugin.type != type.type) {
    AddWarning(Place(node, {"type"}),
               fmt::format("plugin type '{}' is deprecated: use '{}'", plugin.type, type.type));
  } else if (type.stability == Stability::kDeprecated) {
    AddWarning(Place(node, {"type"}), fmt::format("plugin type '{}' is deprecated", plugin.type));
  }
  out_->plugins.push_back(PluginSpec{name, std::string(type.type), plugin.parameters});
}

void Loader::UnknownType(std::string_view type, const YamlNode& node) {
  std::vector<std::string_view> names = registry_.Names();
  for (const KnownType& known : KnownTypes()) names.push_back(known.type);
  AddError(node, fmt::format("unknown plugin type '{}'{}", type, DidYouMean(type, names)));
}

void Loader::CheckKnown(const KnownType& known, const PluginDocument& plugin,
                        const YamlNode& node) {
  switch (known.role) {
    case KnownRole::kMissing:
      AddError(Place(node, {"type"}),
               Lacking(fmt::format("plugin type '{}'", plugin.type), known.needs, known.instead));
      return;
    case KnownRole::kSource:
      CheckSource(known, plugin, node);
      return;
    case KnownRole::kExtractor:
      CheckExtractor(plugin, node);
      return;
    case KnownRole::kParser: {
      NoParameters none;
      config::ParseInto(plugin.parameters, plugin.type, &none, diagnostics_);
      return;
    }
  }
}

void Loader::CheckSource(const KnownType& known, const PluginDocument& plugin,
                         const YamlNode& node) {
  if (known.type == "endpoint-notification-source") {
    NoParameters none;
    config::ParseInto(plugin.parameters, plugin.type, &none, diagnostics_);
    return;
  }
  SourceParameters parameters;
  parameters.path = known.type == "models-data-source" ? "/v1/models" : "/metrics";
  const std::string usual_path = parameters.path;
  if (!config::ParseInto(plugin.parameters, plugin.type, &parameters, diagnostics_)) return;
  const auto at = [&](std::string_view key) -> const YamlNode& {
    return Place(node, {"parameters", key});
  };
  if (parameters.scheme != "http" || !parameters.ca_cert_path.empty() ||
      !parameters.client_cert_path.empty() || !parameters.client_key_path.empty()) {
    AddError(at("scheme"), Lacking(plugin.type + " over https", "TLS to engines"));
  }
  if (parameters.path != usual_path) {
    AddError(at("path"), Lacking(fmt::format("{}.path '{}'", plugin.type, parameters.path),
                                 "metrics paths other than " + usual_path));
  }
  if (parameters.port != 0) {
    AddError(at("port"), Lacking(plugin.type + ".port", "a metrics port for all engines",
                                 "set metricsPort of each engine"));
  }
  if (parameters.interval) {
    AddWarning(at("interval"),
               fmt::format("{}.interval is ignored: scrape of penstock.yaml sets it", plugin.type));
  }
}

void Loader::CheckExtractor(const PluginDocument& plugin, const YamlNode& node) {
  if (plugin.type == "models-data-extractor") {
    NoParameters none;
    config::ParseInto(plugin.parameters, plugin.type, &none, diagnostics_);
    return;
  }
  ExtractorParameters parameters;
  if (!config::ParseInto(plugin.parameters, plugin.type, &parameters, diagnostics_)) return;
  if (parameters.engine_label_key != model::kEngineTypeLabel &&
      parameters.engine_label_key != "inference.networking.k8s.io/engine-type") {
    AddError(
        Place(node, {"parameters", "engineLabelKey"}),
        Lacking(fmt::format("{}.engineLabelKey '{}'", plugin.type, parameters.engine_label_key),
                "engine labels of other names"));
  }
  if (parameters.default_engine != "vllm" && parameters.default_engine != "sglang") {
    AddError(Place(node, {"parameters", "defaultEngine"}),
             Lacking(fmt::format("{}.defaultEngine '{}'", plugin.type, parameters.default_engine),
                     "metrics of engines other than vllm and sglang"));
  }
  if (parameters.engine_configs.kind != YamlNode::Kind::kNull) {
    AddError(Place(node, {"parameters", "engineConfigs"}),
             Lacking(plugin.type + ".engineConfigs", "metric names from the configuration"));
  }
}

const Loader::Instance* Loader::Resolve(const std::string& name, const YamlNode& node) {
  const auto it = instances_.find(name);
  if (it != instances_.end()) return &it->second;
  std::vector<std::string_view> names;
  for (const auto& [known, instance] : instances_) names.push_back(known);
  AddError(Place(node, {"pluginRef"}),
           fmt::format("no plugin is named '{}'{}", name, DidYouMean(name, names)));
  return nullptr;
}

void Loader::LoadProfiles(const std::vector<ProfileDocument>& profiles) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < profiles.size(); ++i) {
    if (profiles[i].name.empty()) continue;
    const YamlNode& node = Item(profile_list_, i);
    if (!names.insert(profiles[i].name).second) {
      AddError(Place(node, {"name"}),
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
  const Instance* instance = Resolve(entry.plugin_ref, node);
  if (instance == nullptr) return;
  const bool is_missing =
      instance->type == nullptr &&
      (instance->known == nullptr || instance->known->role == KnownRole::kMissing);
  if (is_missing) return;  // said where it is declared
  if (instance->type == nullptr || !IsInProfile(instance->type->kind)) {
    AddWarning(Place(node, {"pluginRef"}),
               fmt::format("'{}' is no filter, scorer or picker and takes no part in profile '{}'",
                           entry.plugin_ref, profile->name));
    return;
  }
  if (entry.weight && instance->type->kind != Kind::kScorer) {
    AddWarning(
        Place(node, {"weight"}),
        fmt::format("the weight of '{}' is ignored: only scorers have one", entry.plugin_ref));
  }
  if (instance->type->kind == Kind::kPicker && ++*pickers == 2) {
    AddError(Place(node, {"pluginRef"}),
             fmt::format("profile '{}' has more than one picker", profile->name));
  }
  profile->plugins.push_back(ProfileEntry{entry.plugin_ref, entry.weight.value_or(1.0)});
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
      AddError(plugin_list_,
               "more than one picker is declared and no schedulingProfiles say which to use");
    }
    profile.plugins.push_back(ProfileEntry{plugin.name, 1.0});
  }
  out_->profiles.push_back(std::move(profile));
}

// A profile without a picker uses the first one that is declared, else max-score-picker.
void Loader::AddDefaultPicker(ProfileSpec* profile) {
  const auto is_picker = [&](std::string_view name) {
    const Instance& instance = instances_.find(name)->second;
    return instance.type != nullptr && instance.type->kind == Kind::kPicker;
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
  for (const auto& [name, instance] : instances_) {
    if (instance.type == nullptr) {
      has_missing |= instance.known == nullptr || instance.known->role == KnownRole::kMissing;
    } else if (instance.type->kind == Kind::kProfileHandler) {
      ++handlers;
      type = instance.type->type;
    }
  }
  const size_t profiles = out_->profiles.size();
  if (handlers > 1) AddError(plugin_list_, "more than one profile handler is declared");
  if (handlers == 1 && type == kSingleProfileHandler && profiles > 1) {
    AddError(profile_list_,
             fmt::format("single-profile-handler works with one profile, not {}", profiles));
  }
  if (handlers != 0 || has_missing) return;
  if (profiles == 1) {
    AddDefaultPlugin(kSingleProfileHandler);
  } else {
    AddError(profile_list_, fmt::format("{} profiles need a profile handler", profiles));
  }
}

void Loader::AddDefaultPlugin(std::string_view type) {
  const PluginType* found = registry_.Find(type);
  if (found == nullptr) {
    AddError(plugin_list_,
             fmt::format("plugin type '{}', needed by default, is not built in", type));
    return;
  }
  if (instances_.contains(type)) {
    AddError(plugin_list_,
             fmt::format("the name '{}' is needed for the default plugin of that type", type));
    return;
  }
  instances_[std::string(type)] = Instance{found, nullptr};
  out_->plugins.push_back(PluginSpec{std::string(type), std::string(type), YamlNode()});
}

void Loader::CheckGates(const std::vector<std::string>& gates, const YamlNode& node,
                        bool* flow_control) {
  static constexpr std::array<std::string_view, 2> kGates = {"flowControl",
                                                             "haPopulateNonLeaderDatastore"};
  for (size_t i = 0; i < gates.size(); ++i) {
    const std::string_view gate = gates[i];
    const std::string_view name = gate.substr(0, gate.find('='));
    const std::string_view value =
        name.size() == gate.size() ? "true" : gate.substr(name.size() + 1);
    if (std::find(kGates.begin(), kGates.end(), name) == kGates.end()) {
      AddError(Item(node, i),
               fmt::format("unknown feature gate '{}'{}", name, DidYouMean(name, kGates)));
    } else if (value != "true" && value != "false") {
      AddError(Item(node, i), fmt::format("feature gate '{}' must be true or false", gate));
    } else if (name == "flowControl" && value == "true" && !*flow_control) {
      *flow_control = true;
      AddError(Item(node, i), Lacking("feature gate 'flowControl'", "flow control"));
    }
  }
}

void Loader::CheckDataLayer(const DataLayerDocument& data_layer, const YamlNode& node) {
  const auto refuse = [&](const YamlNode& value, std::string_view key, std::string_view needs,
                          std::string_view instead = {}) {
    if (value.kind == YamlNode::Kind::kNull) return;
    AddError(Place(node, {key}), Lacking(fmt::format("dataLayer.{}", key), needs, instead));
  };
  refuse(data_layer.discovery, "discovery", "discovery plugins",
         "use endpointsFile of penstock.yaml");
  refuse(data_layer.peer_discovery, "peerDiscovery", "replicas that know each other");
  refuse(data_layer.syncer, "crossReplicaSyncerPluginRef", "replicas that share state");
  if (!data_layer.inject_defaults) {
    AddWarning(Place(node, {"injectDefaults"}),
               "dataLayer.injectDefaults is ignored: engines are always scraped, to know their "
               "health");
  }
  const auto check_ref = [&](const std::string& name, const YamlNode& at, KnownRole role,
                             std::string_view what) {
    const Instance* instance = name.empty() ? nullptr : Resolve(name, at);
    if (instance == nullptr) return;
    const bool is_other =
        instance->type != nullptr || (instance->known != nullptr && instance->known->role != role &&
                                      instance->known->role != KnownRole::kMissing);
    if (is_other) AddError(Place(at, {"pluginRef"}), fmt::format("'{}' is no {}", name, what));
  };
  const YamlNode& sources = Place(node, {"sources"});
  for (size_t i = 0; i < data_layer.sources.size(); ++i) {
    const YamlNode& source = Item(sources, i);
    check_ref(data_layer.sources[i].plugin_ref, source, KnownRole::kSource, "data source");
    const YamlNode& extractors = Place(source, {"extractors"});
    for (size_t k = 0; k < data_layer.sources[i].extractors.size(); ++k) {
      check_ref(data_layer.sources[i].extractors[k].plugin_ref, Item(extractors, k),
                KnownRole::kExtractor, "extractor");
    }
  }
}

// Parsers may be referred to by their type without being declared: they have no settings.
void Loader::CheckParser(const std::string& name, const YamlNode& node) {
  if (name.empty()) return;
  const auto it = instances_.find(name);
  const KnownType* known = it == instances_.end() ? FindKnownType(name) : it->second.known;
  if (known == nullptr && it == instances_.end()) {
    Resolve(name, node);
  } else if (known == nullptr ||
             (known->role != KnownRole::kParser && known->role != KnownRole::kMissing)) {
    if (it == instances_.end() || it->second.type != nullptr || known != nullptr) {
      AddError(Place(node, {"pluginRef"}), fmt::format("'{}' is no request parser", name));
    }
  } else if (known->role == KnownRole::kMissing && it == instances_.end()) {
    AddError(Place(node, {"pluginRef"}),
             Lacking(fmt::format("plugin type '{}'", name), known->needs));
  }
}

// Without its gate flow control is off, and of its settings only the detector counts.
void Loader::CheckFlowControl(const YamlNode& document, const PickerDocument& parsed) {
  bool said = false;  // once, whatever mentions it
  CheckGates(parsed.feature_gates, Place(document, {"featureGates"}), &said);
  if (said) return;
  const YamlNode* detector = parsed.flow_control.Find("saturationDetector");
  if (detector != nullptr && detector->kind != YamlNode::Kind::kNull) {
    AddError(*detector, Lacking("flowControl.saturationDetector", "flow control"));
  } else if (parsed.saturation_detector.kind != YamlNode::Kind::kNull) {
    AddError(Place(document, {"saturationDetector"}),
             Lacking("saturationDetector", "flow control"));
  } else if (parsed.flow_control.kind != YamlNode::Kind::kNull) {
    AddWarning(Place(document, {"flowControl"}),
               "flowControl is ignored: the feature gate 'flowControl' is off");
  }
}

void Loader::CheckDocument(const YamlNode& document, const PickerDocument& parsed) {
  if (parsed.api_version.starts_with("inference.")) {
    AddWarning(
        Place(document, {"apiVersion"}),
        fmt::format("apiVersion {} is deprecated: use llm-d.ai/v1alpha1", parsed.api_version));
  }
  CheckFlowControl(document, parsed);
  CheckDataLayer(parsed.data_layer, Place(document, {"dataLayer"}));
  const YamlNode& parsers = Place(document, {"requestHandler", "parsers"});
  for (size_t i = 0; i < parsed.request_handler.parsers.size(); ++i) {
    CheckParser(parsed.request_handler.parsers[i].plugin_ref, Item(parsers, i));
  }
  if (parsed.parser) CheckParser(parsed.parser->plugin_ref, Place(document, {"parser"}));
}

}  // namespace

bool LoadEndpointPickerConfig(const YamlNode& document, const Registry& registry,
                              SchedulingSpec* out, config::Diagnostics* diagnostics) {
  PickerDocument parsed;
  config::ParseInto(document, "", &parsed, diagnostics);
  *out = SchedulingSpec();
  Loader loader(Place(document, {"plugins"}), Place(document, {"schedulingProfiles"}), registry,
                out, diagnostics);
  loader.LoadPlugins(parsed.plugins);
  if (parsed.plugins.empty() && parsed.profiles.empty()) {
    const std::string file = out->file;
    *out = *BuiltinPolicy("weighted");  // the picker's own default
    out->file = file;
  } else {
    loader.LoadProfiles(parsed.profiles);
  }
  loader.CheckDocument(document, parsed);
  return diagnostics->errors.empty();
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
  Loader loader(plugins, scheduling_profiles, registry, out, diagnostics);
  loader.LoadPlugins(parsed.plugins);
  loader.LoadProfiles(parsed.profiles);
  return diagnostics->errors.empty();
}

}  // namespace penstock::sched
