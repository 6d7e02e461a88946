#include <fmt/format.h>

#include <array>

#include "sched/config_loader.h"

namespace penstock::sched {
namespace {

constexpr std::string_view kMaxScorePicker = "max-score-picker";

PluginSpec Plain(std::string_view type) {
  return PluginSpec{std::string(type), std::string(type), wire::YamlNode()};
}

// Parameters of a plugin that stands in the specification.
void Set(std::string_view type, std::string_view parameters, SchedulingSpec* spec) {
  for (PluginSpec& plugin : spec->plugins) {
    if (plugin.type == type) plugin.parameters = wire::ParseYaml(parameters, type).value();
  }
}

// One profile over plugins with default settings.
SchedulingSpec OneProfile(std::initializer_list<std::pair<std::string_view, double>> plugins) {
  SchedulingSpec spec;
  spec.plugins.push_back(Plain("single-profile-handler"));
  spec.profiles.push_back(ProfileSpec{"default", {}});
  for (const auto& [type, weight] : plugins) {
    spec.plugins.push_back(Plain(type));
    spec.profiles.front().plugins.push_back(ProfileEntry{std::string(type), weight});
  }
  return spec;
}

struct Policy {
  std::string_view name;
  std::string_view text;
};

constexpr std::array<Policy, 8> kPolicies = {{
    {"least-cost",
     "The engine where the request costs itself and the others the least time: prefill of what is "
     "not cached, decoding, memory. Of engines that publish KV events it knows what each cache "
     "holds; where an engine tells nothing, or a prompt's tokens are not known, caches are judged "
     "from what was sent there. The default."},
    {"sticky",
     "Sticky until saturated: a request goes where its prefix is cached, until a cold engine would "
     "answer sooner. llm-d's newer default."},
    {"weighted", "llm-d's default: queue, free KV cache and cached prefix, weighed 2 : 2 : 3."},
    {"weighted-lru",
     "llm-d's optimized baseline: weighted, and prompts that nobody has go to the engine that took "
     "such a one longest ago."},
    {"least-requests",
     "The engine with the fewest requests in flight; knows nothing of prompts or caches."},
    {"power-of-two", "Two engines at random, the one with fewer requests in flight of them."},
    {"round-robin", "One engine after the other."},
    {"random", "Any engine: what to compare the others with."},
}};

SchedulingSpec LeastCost() {
  // The second one matters for long prompts that nobody has: it deals them out evenly.
  SchedulingSpec spec =
      OneProfile({{"least-cost-scorer", 1}, {"no-hit-lru-scorer", 0.2}, {kMaxScorePicker, 1}});
  Set("no-hit-lru-scorer", "{fullTokens: 4000}", &spec);
  spec.plugins.push_back(Plain("precise-prefix-cache-producer"));
  // vLLM's usual ports. docs/design/0006-exact-by-default.md says why they are tried.
  Set("precise-prefix-cache-producer",
      "{kvEventsConfig: {podDiscoveryConfig: {socketPort: 5557, replaySocketPort: 5558, "
      "soleEndpointsOnly: true}}}",
      &spec);
  return spec;
}

SchedulingSpec LlmdDefault() {
  return OneProfile({{"queue-scorer", 2},
                     {"kv-cache-utilization-scorer", 2},
                     {"prefix-cache-scorer", 3},
                     {kMaxScorePicker, 1}});
}

}  // namespace

Result<SchedulingSpec> BuiltinPolicy(std::string_view name) {
  SchedulingSpec spec;
  if (name == "sticky") {
    spec = OneProfile(
        {{"prefix-cache-affinity-filter", 1}, {"token-load-scorer", 1}, {kMaxScorePicker, 1}});
  } else if (name == "weighted") {
    spec = LlmdDefault();
  } else if (name == "weighted-lru") {
    spec = OneProfile({{"queue-scorer", 2},
                       {"kv-cache-utilization-scorer", 2},
                       {"prefix-cache-scorer", 3},
                       {"no-hit-lru-scorer", 2},
                       {kMaxScorePicker, 1}});
  } else if (name == "least-cost") {
    spec = LeastCost();
  } else if (name == "least-requests") {
    spec = OneProfile({{"active-request-scorer", 1}, {kMaxScorePicker, 1}});
  } else if (name == "power-of-two") {
    spec = OneProfile({{"active-request-scorer", 1}, {"power-of-two-picker", 1}});
  } else if (name == "round-robin") {
    spec = OneProfile({{"round-robin-picker", 1}});
  } else if (name == "random") {
    spec = OneProfile({{"random-picker", 1}});
  } else {
    return Fail(Code::kNotFound, fmt::format("unknown policy '{}'; the built-in ones are {}", name,
                                             fmt::join(BuiltinPolicyNames(), ", ")));
  }
  spec.file = fmt::format("policy {}", name);
  return spec;
}

std::vector<std::string_view> BuiltinPolicyNames() {
  std::vector<std::string_view> names;
  for (const Policy& policy : kPolicies) names.push_back(policy.name);
  return names;
}

std::string_view BuiltinPolicyText(std::string_view name) {
  for (const Policy& policy : kPolicies) {
    if (policy.name == name) return policy.text;
  }
  return {};
}

}  // namespace penstock::sched
