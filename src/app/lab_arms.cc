#include "app/lab_arms.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "app/scheduling.h"
#include "core/text.h"
#include "sched/config_loader.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

constexpr size_t kMaxArms = 1'000;
constexpr std::string_view kWeight = "weight";
constexpr std::string_view kEvents = "+kv-events";

Result<sched::SchedulingSpec> SpecOf(const std::string& policy) {
  if (policy.find('/') == std::string::npos && !policy.ends_with(".yaml")) {
    return sched::BuiltinPolicy(policy);
  }
  config::Diagnostics diagnostics;
  return ReadPolicyFile(policy, &diagnostics);
}

Result<std::unique_ptr<sched::Scheduler>> SchedulerOf(const sched::SchedulingSpec& spec) {
  auto chosen = WireScheduler(spec, spec.file, {.file = spec.file});
  if (!chosen) return std::unexpected(chosen.error());
  return std::move(chosen->scheduler);
}

// The policy, and whether engines tell it what their caches hold.
std::pair<std::string, bool> WithoutEvents(std::string_view text) {
  if (!text.ends_with(kEvents)) return {std::string(text), false};
  text.remove_suffix(kEvents.size());
  return {std::string(text), true};
}

struct Setting {
  std::string plugin;
  std::string parameter;  // "": the plugin's weight
  std::vector<std::string> values;
};

Result<Setting> ParseSetting(const std::string& text) {
  const size_t equals = text.find('=');
  const size_t dot = text.find('.');
  if (equals == std::string::npos || dot == std::string::npos || dot > equals || dot == 0 ||
      dot + 1 == equals || equals + 1 == text.size()) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("--set {}: not PLUGIN.PARAMETER=VALUE,... or weight.PLUGIN=VALUE,...", text));
  }
  Setting setting;
  const std::string first = text.substr(0, dot);
  const std::string second = text.substr(dot + 1, equals - dot - 1);
  setting.plugin = first == kWeight ? second : first;
  if (first != kWeight) setting.parameter = second;
  for (std::string_view rest = std::string_view(text).substr(equals + 1);;) {
    const size_t comma = rest.find(',');
    setting.values.emplace_back(rest.substr(0, comma));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return setting;
}

Result<> Apply(const Setting& setting, const std::string& value, sched::SchedulingSpec* spec) {
  const auto plugin = std::find_if(spec->plugins.begin(), spec->plugins.end(),
                                   [&](const auto& p) { return p.name == setting.plugin; });
  if (plugin == spec->plugins.end()) {
    std::vector<std::string_view> names;
    for (const sched::PluginSpec& p : spec->plugins) names.emplace_back(p.name);
    return Fail(Code::kInvalidArgument,
                fmt::format("--set: the policy has no plugin '{}'{}; it has {}", setting.plugin,
                            DidYouMean(setting.plugin, names), fmt::join(names, ", ")));
  }
  if (setting.parameter.empty()) {
    const auto weight = ParseDouble(value);
    if (!weight) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("--set weight.{}: '{}' is no number", setting.plugin, value));
    }
    for (sched::ProfileSpec& profile : spec->profiles) {
      for (sched::ProfileEntry& entry : profile.plugins) {
        if (entry.plugin == setting.plugin) entry.weight = *weight;
      }
    }
    return {};
  }
  wire::YamlNode key, scalar;
  key.kind = scalar.kind = wire::YamlNode::Kind::kScalar;
  key.scalar = setting.parameter;
  scalar.scalar = value;
  wire::YamlNode& parameters = plugin->parameters;
  parameters.kind = wire::YamlNode::Kind::kMap;
  std::erase_if(parameters.entries,
                [&](const auto& entry) { return entry.first.scalar == setting.parameter; });
  parameters.entries.push_back({std::move(key), std::move(scalar)});
  return {};
}

}  // namespace

lab::Arm ArmOf(const std::string& text) {
  const auto [policy, engines_tell] = WithoutEvents(text);
  const size_t slash = policy.rfind('/');
  std::string name = slash == std::string::npos ? policy : policy.substr(slash + 1);
  if (name.ends_with(".yaml")) name.resize(name.size() - 5);
  if (engines_tell) name += kEvents;
  return {name,
          [policy = policy]() -> Result<std::unique_ptr<sched::Scheduler>> {
            const auto spec = SpecOf(policy);
            if (!spec) return std::unexpected(spec.error());
            return SchedulerOf(*spec);
          },
          engines_tell};
}

Result<std::vector<lab::Arm>> SweepArms(const std::string& text,
                                        const std::vector<std::string>& settings) {
  const auto [policy, engines_tell] = WithoutEvents(text);
  const auto base = SpecOf(policy);
  if (!base) return std::unexpected(base.error());
  std::vector<Setting> parsed;
  size_t count = 1;
  for (const std::string& given : settings) {
    auto setting = ParseSetting(given);
    if (!setting) return std::unexpected(setting.error());
    count *= setting->values.size();
    if (count > kMaxArms) {
      return Fail(Code::kOutOfRange,
                  fmt::format("--set: more than {} combinations; leave values out", kMaxArms));
    }
    parsed.push_back(std::move(*setting));
  }
  std::vector<lab::Arm> arms;
  for (size_t i = 0; i < count; ++i) {
    sched::SchedulingSpec spec = *base;
    std::string name;
    size_t rest = i;
    for (const Setting& setting : parsed) {
      const std::string& value = setting.values[rest % setting.values.size()];
      rest /= setting.values.size();
      if (auto applied = Apply(setting, value, &spec); !applied) {
        return std::unexpected(applied.error());
      }
      name += fmt::format(
          "{}{}={}", name.empty() ? "" : " ",
          setting.parameter.empty() ? "weight of " + setting.plugin : setting.parameter, value);
    }
    if (auto made = SchedulerOf(spec); !made) return std::unexpected(made.error());
    arms.push_back(
        {name.empty() ? text : name, [spec] { return SchedulerOf(spec); }, engines_tell});
  }
  return arms;
}

}  // namespace penstock::app
