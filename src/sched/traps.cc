#include "sched/traps.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "config/duration.h"
#include "core/text.h"

namespace penstock::sched {
namespace {

using Severity = Finding::Severity;

struct Used {
  const ProfileEntry* entry;
  const PluginSpec* plugin;
  const PluginType* type;
};

bool Is(const Used& used, std::string_view type) { return used.plugin->type == type; }

double Number(const PluginSpec& plugin, std::string_view key, double otherwise) {
  const wire::YamlNode* node = plugin.parameters.Find(key);
  if (node == nullptr || node->kind != wire::YamlNode::Kind::kScalar) return otherwise;
  return ParseDouble(node->scalar).value_or(otherwise);
}

std::string TextOf(const PluginSpec& plugin, std::string_view key, std::string_view otherwise) {
  const wire::YamlNode* node = plugin.parameters.Find(key);
  return std::string(node == nullptr || node->scalar.empty() ? otherwise : node->scalar);
}

// 286704 as "286,704".
std::string Grouped(double value) {
  std::string digits = fmt::format("{:.0f}", value);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

class TrapFinder {
 public:
  TrapFinder(const SchedulingSpec& spec, const Registry& registry, const Explanation& explanation,
             const Surroundings& surroundings)
      : spec_(spec), registry_(registry), explanation_(explanation), surroundings_(surroundings) {}

  std::vector<Finding> Run() {
    for (const ProfileSpec& profile : spec_.profiles) CheckProfile(profile);
    for (const PluginSpec& plugin : spec_.plugins) CheckPlugin(plugin);
    CheckHandler();
    CheckWhole();
    return std::move(findings_);
  }

 private:
  void Add(Severity severity, uint32_t line, uint32_t column, std::string text) {
    // Once, however many profiles it is true of.
    for (const Finding& finding : findings_) {
      if (finding.text == text) return;
    }
    findings_.push_back({severity, line, column, std::move(text)});
  }
  void Warn(const Used& used, std::string text) {
    Add(Severity::kWarning, used.entry->line, used.entry->column, std::move(text));
  }
  void Note(const Used& used, std::string text) {
    Add(Severity::kNote, used.entry->line, used.entry->column, std::move(text));
  }

  std::vector<Used> Sort(const ProfileSpec& profile, Kind kind) const {
    std::vector<Used> out;
    for (const ProfileEntry& entry : profile.plugins) {
      for (const PluginSpec& plugin : spec_.plugins) {
        if (plugin.name != entry.plugin) continue;
        const PluginType* type = registry_.Find(plugin.type);
        if (type != nullptr && type->kind == kind) out.push_back({&entry, &plugin, type});
      }
    }
    return out;
  }
  static const Used* Find(const std::vector<Used>& list, std::string_view type) {
    for (const Used& used : list) {
      if (Is(used, type)) return &used;
    }
    return nullptr;
  }

  void CheckProfile(const ProfileSpec& profile);
  void CheckFilters(const std::vector<Used>& filters, const std::vector<Used>& scorers);
  void CheckAffinity(const Used& filter, const std::vector<Used>& scorers);
  void CheckDetector(const Used& filter);
  void CheckWeights(const ProfileSpec& profile, const std::vector<Used>& scorers);
  void CheckScorers(const ProfileSpec& profile, const std::vector<Used>& filters,
                    const std::vector<Used>& scorers);
  void CheckPicker(const ProfileSpec& profile, const std::vector<Used>& scorers);
  void CheckPlugin(const PluginSpec& plugin);
  void CheckHandler();
  void CheckWhole();
  bool KnowsCaches() const {
    return std::ranges::any_of(explanation_.producers, [](const Explanation::Part& part) {
      return part.type.starts_with("precise-prefix-cache-");
    });
  }
  // Whether prompts' token ids are found out.
  bool HasTokenizers() const {
    return std::any_of(spec_.plugins.begin(), spec_.plugins.end(), [](const PluginSpec& plugin) {
      return plugin.type == "token-producer" && plugin.parameters.Find("models") != nullptr;
    });
  }

  const SchedulingSpec& spec_;
  const Registry& registry_;
  const Explanation& explanation_;
  const Surroundings& surroundings_;
  std::vector<Finding> findings_;
};

void TrapFinder::CheckProfile(const ProfileSpec& profile) {
  const std::vector<Used> filters = Sort(profile, Kind::kFilter);
  const std::vector<Used> scorers = Sort(profile, Kind::kScorer);
  std::map<std::string_view, size_t> seen;
  for (const ProfileEntry& entry : profile.plugins) {
    if (++seen[entry.plugin] == 2) {
      Add(Severity::kWarning, entry.line, entry.column,
          fmt::format("profile '{}' names '{}' twice; a scorer then counts twice", profile.name,
                      entry.plugin));
    }
  }
  CheckFilters(filters, scorers);
  CheckWeights(profile, scorers);
  CheckScorers(profile, filters, scorers);
  CheckPicker(profile, scorers);
}

void TrapFinder::CheckFilters(const std::vector<Used>& filters, const std::vector<Used>& scorers) {
  for (const Used& filter : filters) {
    if (Is(filter, "prefix-cache-affinity-filter")) CheckAffinity(filter, scorers);
    if (Is(filter, "utilization-detector")) CheckDetector(filter);
    if (Is(filter, "header-based-testing-filter")) {
      Warn(filter,
           "'header-based-testing-filter' is for conformance tests: every request without the "
           "header test-epp-endpoint-selection is answered with 429");
    }
    if (Is(filter, "concurrency-detector")) {
      Note(filter, fmt::format("'{}' has no way out: when every endpoint is at its limit, requests "
                               "are answered with 429",
                               filter.plugin->name));
    }
    if (Is(filter, "prefill-filter") || Is(filter, "encode-filter")) {
      Note(filter, fmt::format("'{}' takes out endpoints without the label llm-d.ai/role",
                               filter.plugin->name));
    }
  }
}

void TrapFinder::CheckAffinity(const Used& filter, const std::vector<Used>& scorers) {
  const PluginSpec& plugin = *filter.plugin;
  const double threshold = Number(plugin, "affinityThreshold", 0.8);
  if (threshold <= 0) {
    Warn(filter, fmt::format("'{}' is turned off by affinityThreshold {}", plugin.name, threshold));
    return;
  }
  Note(filter,
       fmt::format(
           "'{}' is sticky only for prompts of which {:.4g} % are cached: that is a share of "
           "the whole prompt, so a long new message after a short cached beginning is not "
           "sticky",
           plugin.name, threshold * 100));
  const double penalty_ms = Number(plugin, "maxTTFTPenaltyMs", 18000);
  if (penalty_ms <= 0) {
    Warn(filter, fmt::format("'{}' has no way out (maxTTFTPenaltyMs 0): requests that share a "
                             "prefix stay on its endpoint however long the queue there",
                             plugin.name));
  } else if (TextOf(plugin, "ttftSource", "prefillThroughput") == "prefillThroughput") {
    const double throughput = Number(plugin, "peakPrefillThroughput", 15928);
    Note(filter,
         fmt::format("'{}' lets go when the sticky endpoint has {} tokens more in flight than "
                     "another one ({} ms at {} tokens/s){}",
                     plugin.name, Grouped(penalty_ms / 1000 * throughput), Grouped(penalty_ms),
                     Grouped(throughput),
                     plugin.parameters.Find("peakPrefillThroughput") == nullptr
                         ? "; the default speed is that of Qwen3-32B on two H100s, so set "
                           "peakPrefillThroughput to your engines'"
                         : ""));
  }
  if (scorers.empty()) {
    Note(filter,
         fmt::format("among the endpoints that '{}' leaves, chance decides: the profile has "
                     "no scorer",
                     plugin.name));
  }
}

void TrapFinder::CheckDetector(const Used& filter) {
  const wire::YamlNode* given = filter.plugin->parameters.Find("metricsStalenessThreshold");
  Duration threshold = milliseconds(200);
  if (given != nullptr) {
    threshold = config::ParseDuration(given->scalar)
                    .value_or(FromSeconds(ParseDouble(given->scalar).value_or(0.2)));
  }
  if (threshold >= 2 * surroundings_.scrape_interval) return;
  Warn(filter,
       fmt::format(
           "'{}' takes metrics older than {} for stale, and they are read every {}: endpoints "
           "drop out between two reads, and when all do, all pass; set "
           "metricsStalenessThreshold to several reads",
           filter.plugin->name, config::FormatDuration(threshold),
           config::FormatDuration(surroundings_.scrape_interval)));
}

void TrapFinder::CheckWeights(const ProfileSpec& profile, const std::vector<Used>& scorers) {
  const Used* random = Find(Sort(profile, Kind::kPicker), "weighted-random-picker");
  for (const Used& scorer : scorers) {
    const double weight = scorer.entry->weight;
    if (weight == 0) {
      Warn(scorer, fmt::format("'{}' has weight 0 and changes nothing", scorer.plugin->name));
    } else if (weight < 0) {
      Warn(scorer, fmt::format("'{}' has weight {}: it prefers what it is meant to avoid",
                               scorer.plugin->name, weight));
    } else if (scorers.size() == 1 && weight != 1 && random == nullptr) {
      Note(scorer, fmt::format("the weight {} of '{}' changes nothing: it is the only scorer of "
                               "profile '{}'",
                               weight, scorer.plugin->name, profile.name));
    }
  }
}

void TrapFinder::CheckScorers(const ProfileSpec& profile, const std::vector<Used>& filters,
                              const std::vector<Used>& scorers) {
  static constexpr std::array<std::string_view, 2> kTies = {"queue-scorer",
                                                            "running-requests-size-scorer"};
  static constexpr std::array<std::string_view, 3> kKeepers = {
      "prefix-cache-scorer", "precise-prefix-cache-scorer", "least-cost-scorer"};
  const bool is_alone = scorers.size() == 1;
  double sum = 0;
  for (const Used& scorer : scorers) sum += std::abs(scorer.entry->weight);
  for (const Used& scorer : scorers) {
    const std::string& name = scorer.plugin->name;
    if (std::find(kTies.begin(), kTies.end(), scorer.plugin->type) != kTies.end()) {
      Note(
          scorer,
          fmt::format("'{}' gives everyone 1 while all are equal, which idle endpoints are{}; a "
                      "difference of one request then counts as much as one of a hundred, and what "
                      "was sent since the last read of the metrics ({}) is not seen",
                      name, is_alone ? ", so chance decides" : "",
                      config::FormatDuration(surroundings_.scrape_interval)));
    } else if (Is(scorer, "load-aware-scorer") && !is_alone) {
      Note(scorer,
           fmt::format("'{}' never gives more than 0.5, so that its weight counts half", name));
    } else if (Is(scorer, "token-load-scorer") && !is_alone) {
      const double threshold = Number(*scorer.plugin, "queueThresholdTokens", 4194304);
      Warn(scorer, fmt::format("'{}' changes by {:.2g} for 10,000 tokens of load "
                               "(queueThresholdTokens {}): beside other scorers it hardly counts",
                               name, 10000 / threshold, Grouped(threshold)));
    } else if (Is(scorer, "no-hit-lru-scorer")) {
      const bool has_keeper =
          std::any_of(kKeepers.begin(), kKeepers.end(),
                      [&](std::string_view type) { return Find(scorers, type) != nullptr; }) ||
          Find(filters, "prefix-cache-affinity-filter") != nullptr;
      if (!has_keeper) {
        Warn(scorer, fmt::format("'{}' only places prompts that nobody has cached; nothing in "
                                 "profile '{}' sends the others to where they are cached: add "
                                 "prefix-cache-scorer",
                                 name, profile.name));
      }
    } else if (Is(scorer, "session-affinity-scorer") && scorer.entry->weight < sum / 2) {
      Note(scorer, fmt::format("'{}' has {:.0f} % of the weights, so the other scorers can outvote "
                               "a session's binding; session-affinity-filter keeps it in any case",
                               name, 100 * scorer.entry->weight / sum));
    }
  }
}

void TrapFinder::CheckPicker(const ProfileSpec& profile, const std::vector<Used>& scorers) {
  const std::vector<Used> pickers = Sort(profile, Kind::kPicker);
  if (pickers.empty()) return;
  const Used& picker = pickers.front();
  const bool is_blind = Is(picker, "random-picker") || Is(picker, "round-robin-picker");
  if (is_blind && !scorers.empty()) {
    Warn(picker,
         fmt::format("'{}' does not look at scores: the {} of profile '{}' change{} nothing",
                     picker.plugin->name, scorers.size() == 1 ? "scorer" : "scorers", profile.name,
                     scorers.size() == 1 ? "s" : ""));
  } else if (!is_blind && scorers.empty()) {
    Note(picker, fmt::format("profile '{}' has no scorer: chance decides among the endpoints that "
                             "are left",
                             profile.name));
  }
  if (picker.entry->line == 0) {
    Note(picker, fmt::format("profile '{}' names no picker: '{}' is used", profile.name,
                             picker.plugin->name));
  }
  const double endpoints = Number(*picker.plugin, "maxNumOfEndpoints", 1);
  if (endpoints > 1) {
    Note(picker, fmt::format("'{}' names up to {:.0f} endpoints: an Envoy cluster of type "
                             "ORIGINAL_DST understands a single one",
                             picker.plugin->name, endpoints));
  }
}

void TrapFinder::CheckPlugin(const PluginSpec& plugin) {
  const PluginType* type = registry_.Find(plugin.type);
  if (type->stability == Stability::kAlpha) {
    Add(Severity::kNote, plugin.line, plugin.column,
        fmt::format("'{}' is experimental: llm-d's picker starts with it only under "
                    "--allow-experimental-plugins",
                    plugin.type));
  }
  if (plugin.type == "token-producer" && plugin.parameters.Find("vllm") != nullptr &&
      !KnowsCaches()) {
    Add(Severity::kWarning, plugin.line, plugin.column,
        fmt::format("'{}': the render server is asked only where engines tell what they hold; "
                    "without a precise-prefix-cache-producer nobody is, and prompts are counted by "
                    "the estimate of four bytes a token",
                    plugin.name));
  }
  if (plugin.type != "approx-prefix-cache-producer") return;
  const double block = Number(plugin, "blockSizeTokens", 64);
  if (block < 64) {
    Add(Severity::kWarning, plugin.line, plugin.column,
        fmt::format("'{}': blockSizeTokens {} is raised to 64", plugin.name, block));
  }
  if (TextOf(plugin, "autoTune", "true") == "true" &&
      plugin.parameters.Find("lruCapacityPerServer") != nullptr) {
    Add(Severity::kNote, plugin.line, plugin.column,
        fmt::format("'{}': lruCapacityPerServer counts only for engines that do not report their "
                    "number of blocks; autoTune: false makes it count for all",
                    plugin.name));
  }
}

void TrapFinder::CheckHandler() {
  for (const PluginSpec& plugin : spec_.plugins) {
    if (plugin.type != "header-profile-handler") continue;
    const std::string profile = TextOf(plugin, "defaultProfile", "decode");
    const bool is_there =
        std::any_of(spec_.profiles.begin(), spec_.profiles.end(),
                    [&](const ProfileSpec& spec) { return spec.name == profile; });
    if (is_there) continue;
    Add(Severity::kWarning, plugin.line, plugin.column,
        fmt::format("'{}': there is no profile '{}', its defaultProfile: requests without the "
                    "header {} are answered with 429",
                    plugin.name, profile, TextOf(plugin, "headerName", "EPP-Profile")));
  }
}

void TrapFinder::CheckWhole() {
  for (const std::string& name : explanation_.unused) {
    const auto it = std::find_if(spec_.plugins.begin(), spec_.plugins.end(),
                                 [&](const PluginSpec& plugin) { return plugin.name == name; });
    Add(Severity::kWarning, it->line, it->column,
        fmt::format("'{}' is declared and nothing uses it", name));
  }
  const auto implied = [&](const Explanation::Part& part) { return part.is_implied; };
  if (std::any_of(explanation_.producers.begin(), explanation_.producers.end(), implied)) {
    std::string names;
    for (const Explanation::Part& part : explanation_.producers) {
      if (part.is_implied) names += (names.empty() ? "'" : ", '") + part.name + "'";
    }
    Add(Severity::kNote, 0, 0,
        fmt::format("added, because plugins need what they produce: {}", names));
  }
  if (explanation_.reads_prompts && !surroundings_.reads_bodies) {
    Add(Severity::kWarning, 0, 0,
        "the passthrough-parser reads no prompt, so that whatever depends on prompts (tokens, "
        "cached prefixes) sees an empty one");
  } else if (KnowsCaches()) {
    Add(Severity::kNote, 0, 0,
        "cached prefixes are known exactly where engines publish KV events and the prompt's tokens "
        "are known: from files (models), from a render server (vllm), or from the engines, which "
        "are asked otherwise; elsewhere they are judged from what was sent there");
  } else if (explanation_.reads_prompts && HasTokenizers()) {
    Add(Severity::kNote, 0, 0,
        "prompts are the token ids that engines make of them, where token-producer has the model's "
        "tokenizer and chat template; penstock_token_prompts_total says how many are estimated, "
        "and why");
  } else if (explanation_.reads_prompts) {
    Add(Severity::kNote, 0, 0,
        "prompts are counted by the estimate of four bytes a token, unless clients send token ids "
        "(models of token-producer names tokenizers); what engines cache of their answers and what "
        "they evict is not seen");
  }
  if (explanation_.metrics.empty() && surroundings_.scrape_interval < seconds(1)) {
    Add(Severity::kNote, 0, 0,
        fmt::format("no plugin looks at engine metrics, which are read every {} to know who is "
                    "healthy: a longer interval saves the work",
                    config::FormatDuration(surroundings_.scrape_interval)));
  }
}

}  // namespace

std::vector<Finding> FindTraps(const SchedulingSpec& spec, const Registry& registry,
                               const Explanation& explanation, const Surroundings& surroundings) {
  return TrapFinder(spec, registry, explanation, surroundings).Run();
}

}  // namespace penstock::sched
