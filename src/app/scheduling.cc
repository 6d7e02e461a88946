#include "app/scheduling.h"

#include <fmt/format.h>

#include <utility>

#include "core/file.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "sched/spec_yaml.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

using wire::YamlNode;

constexpr size_t kMaxPlugins = 256;  // of a recording, which nobody need trust

bool IsGiven(const YamlNode& node) { return node.kind != YamlNode::Kind::kNull; }

Result<> Check(const config::Diagnostics& diagnostics) {
  if (diagnostics.errors.empty()) return {};
  return Fail(Code::kInvalidArgument, fmt::format("{}", fmt::join(diagnostics.errors, "\n")));
}

}  // namespace

Result<ChosenScheduler> WireScheduler(const sched::SchedulingSpec& spec, std::string policy,
                                      config::Diagnostics diagnostics) {
  ChosenScheduler chosen;
  chosen.policy = std::move(policy);
  chosen.scheduling = sched::ToYaml(spec);
  if (diagnostics.errors.empty()) {
    chosen.scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  }
  if (auto checked = Check(diagnostics); !checked) return std::unexpected(checked.error());
  chosen.warnings = std::move(diagnostics.warnings);
  return chosen;
}

Result<sched::SchedulingSpec> ReadPolicyFile(const std::string& path,
                                             config::Diagnostics* diagnostics) {
  const Result<std::string> text = ReadFile(path, wire::kMaxYamlBytes);
  if (!text) return std::unexpected(text.error());
  const Result<YamlNode> tree = wire::ParseYaml(*text, path);
  if (!tree) return std::unexpected(tree.error());
  diagnostics->file = path;
  sched::SchedulingSpec spec;
  spec.file = path;
  sched::LoadEndpointPickerConfig(*tree, plugins::Builtins(), &spec, diagnostics);
  if (auto checked = Check(*diagnostics); !checked) return std::unexpected(checked.error());
  return spec;
}

Result<std::unique_ptr<sched::Scheduler>> SchedulerOfYaml(const std::string& scheduling) {
  const Result<YamlNode> tree = wire::ParseYaml(scheduling, "scheduling");
  if (!tree) return std::unexpected(tree.error());
  const YamlNode* const plugins = tree->Find("plugins");
  const YamlNode* const profiles = tree->Find("schedulingProfiles");
  if (plugins == nullptr || profiles == nullptr) {
    return Fail(Code::kInvalidArgument, "scheduling: plugins and schedulingProfiles are needed");
  }
  if (plugins->items.size() > kMaxPlugins) {
    return Fail(Code::kOutOfRange, fmt::format("scheduling: {} plugins are more than {}",
                                               plugins->items.size(), kMaxPlugins));
  }
  config::Diagnostics diagnostics{.file = "scheduling"};
  sched::SchedulingSpec spec;
  sched::LoadInlineScheduling(*plugins, *profiles, plugins::Builtins(), &spec, &diagnostics);
  // What it counted is in the recording; its tokenizer's files may be another machine's.
  for (sched::PluginSpec& plugin : spec.plugins) {
    const sched::PluginType* const type = plugins::Builtins().Find(plugin.type);
    if (type != nullptr && type->type == "token-producer") plugin.parameters = {};
  }
  if (const YamlNode* const attributes = tree->Find("attributes")) {
    for (const YamlNode& name : attributes->items) spec.attributes.push_back(name.scalar);
    if (spec.attributes.size() > sched::kMaxAttributes) {
      return Fail(Code::kOutOfRange, fmt::format("scheduling: {} attributes are more than {}",
                                                 spec.attributes.size(), sched::kMaxAttributes));
    }
  }
  if (const YamlNode* const extractor = tree->Find("extractor")) spec.extractor = extractor->scalar;
  auto chosen = WireScheduler(spec, "", std::move(diagnostics));
  if (!chosen) return std::unexpected(chosen.error());
  return std::move(chosen->scheduler);
}

Result<ChosenScheduler> MakeScheduler(const config::SchedulingConfig& config) {
  if (IsGiven(config.plugins) || IsGiven(config.scheduling_profiles)) {
    config::Diagnostics diagnostics{.file = "penstock.yaml"};
    sched::SchedulingSpec spec;
    sched::LoadInlineScheduling(config.plugins, config.scheduling_profiles, plugins::Builtins(),
                                &spec, &diagnostics);
    return WireScheduler(spec, "the configuration's own plugins", std::move(diagnostics));
  }
  if (!config.file.empty()) {
    config::Diagnostics diagnostics;
    const auto spec = ReadPolicyFile(config.file, &diagnostics);
    if (!spec) return std::unexpected(spec.error());
    return WireScheduler(*spec, config.file, std::move(diagnostics));
  }
  const Result<sched::SchedulingSpec> spec = sched::BuiltinPolicy(config.policy);
  if (!spec) return std::unexpected(spec.error());
  return WireScheduler(*spec, config.policy, {.file = spec->file});
}

}  // namespace penstock::app
