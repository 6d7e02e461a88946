#include "app/scheduling.h"

#include <fmt/format.h>

#include <utility>

#include "core/file.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

using wire::YamlNode;

bool IsGiven(const YamlNode& node) { return node.kind != YamlNode::Kind::kNull; }

Result<ChosenScheduler> Wire(const sched::SchedulingSpec& spec, std::string policy,
                             config::Diagnostics diagnostics) {
  ChosenScheduler chosen;
  chosen.policy = std::move(policy);
  if (diagnostics.errors.empty()) {
    chosen.scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  }
  if (chosen.scheduler == nullptr || !diagnostics.errors.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}", fmt::join(diagnostics.errors, "\n")));
  }
  chosen.warnings = std::move(diagnostics.warnings);
  return chosen;
}

Result<ChosenScheduler> FromFile(const std::string& path) {
  const Result<std::string> text = ReadFile(path, wire::kMaxYamlBytes);
  if (!text) return std::unexpected(text.error());
  const Result<YamlNode> tree = wire::ParseYaml(*text, path);
  if (!tree) return std::unexpected(tree.error());
  config::Diagnostics diagnostics{.file = path};
  sched::SchedulingSpec spec;
  sched::LoadEndpointPickerConfig(*tree, plugins::Builtins(), &spec, &diagnostics);
  return Wire(spec, path, std::move(diagnostics));
}

}  // namespace

Result<ChosenScheduler> MakeScheduler(const config::SchedulingConfig& config) {
  if (IsGiven(config.plugins) || IsGiven(config.scheduling_profiles)) {
    config::Diagnostics diagnostics{.file = "penstock.yaml"};
    sched::SchedulingSpec spec;
    sched::LoadInlineScheduling(config.plugins, config.scheduling_profiles, plugins::Builtins(),
                                &spec, &diagnostics);
    return Wire(spec, "the configuration's own plugins", std::move(diagnostics));
  }
  if (!config.file.empty()) return FromFile(config.file);
  const Result<sched::SchedulingSpec> spec = sched::BuiltinPolicy(config.policy);
  if (!spec) return std::unexpected(spec.error());
  return Wire(*spec, config.policy, {.file = spec->file});
}

}  // namespace penstock::app
