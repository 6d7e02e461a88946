#include "app/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "app/markdown.h"
#include "config/document.h"
#include "config/serve_config.h"
#include "sched/config_loader.h"
#include "sched/known_types.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

using config::FieldRow;
using sched::DataKey;
using sched::Kind;
using sched::PluginType;

constexpr std::string_view kMade =
    "<!-- Made by `penstock docs docs/generated`; edit the declarations, not this file. -->\n";

constexpr std::string_view kExample = R"(listen: 0.0.0.0:8080
adminListen: 127.0.0.1:9090        # no authentication: keep it off public networks
engines:
- url: http://10.0.0.1:8000
- url: http://10.0.0.2:8000
  name: second
  labels: {zone: eu}
- url: http://10.0.0.3:8000
  ranks: 2                         # ports 8000 and 8001, an endpoint each
scheduling:
  policy: least-cost
limits:
  maxBodyBytes: 16777216
timeouts:
  firstByte: 10m
  drain: 30s
retry:
  maxTries: 3
log:
  format: json
)";

// --- fields

std::string Bounds(const FieldRow& row) {
  // The empty text among the choices of a field means that it may be left out.
  std::string bounds = row.bounds;
  const size_t empty = bounds.find("one of: , ");
  if (empty != std::string::npos) bounds.erase(empty + 8, 2);
  return bounds;
}

std::string Text(const FieldRow& row) {
  std::string text = Prose(row.text);
  if (row.required) text = "**Required.** " + text;
  if (!row.deprecated.empty()) {
    text += " Deprecated: " + Prose(row.deprecated) + (row.deprecated.ends_with('.') ? "" : ".");
  }
  return text;
}

std::string FieldTable(const std::vector<FieldRow>& rows, bool with_reload) {
  std::vector<std::string> titles = {"Field", "Type", "Default", "Bounds", "Unit", "What it is"};
  if (with_reload) titles.push_back("A change needs");
  std::vector<std::vector<std::string>> cells;
  for (const FieldRow& row : rows) {
    cells.push_back({Code(row.path), Prose(row.type), row.required ? "" : Code(row.default_value),
                     Prose(Bounds(row)), Prose(row.unit), Text(row)});
    if (with_reload) cells.back().push_back(row.live ? "nothing: it is live" : "a restart");
  }
  return Table(titles, cells);
}

// "scheduling.policy" and "engines[].url" to their section's name.
std::string_view SectionOf(std::string_view path) {
  return path.substr(0, path.find_first_of(".["));
}

// --- plugins

// A list of the titles that a page's kinds have, in the order in which a request meets them.
struct KindPart {
  Kind kind;
  std::string_view title;
  std::string_view intro;
};
constexpr std::array<KindPart, 5> kKinds = {{
    {Kind::kProfileHandler, "Profile handlers",
     "Choose which profiles run for a request. A configuration has one."},
    {Kind::kFilter, "Filters",
     "Take endpoints out. They run in the order of the profile; when nobody is left the answer is "
     "429."},
    {Kind::kScorer, "Scorers",
     "Give every candidate a score from 0 to 1. Scores times weights are added up."},
    {Kind::kPicker, "Pickers", "Choose from the totals. A profile has one."},
    {Kind::kProducer, "Producers",
     "Supply the data that the others read. They run when a plugin in use needs them; most are "
     "made by themselves."},
}};

std::string_view StabilityName(sched::Stability stability) {
  switch (stability) {
    case sched::Stability::kBeta:
      return "beta";
    case sched::Stability::kAlpha:
      return "alpha";
    case sched::Stability::kDeprecated:
      return "deprecated";
  }
  return "";
}

// With the parameters of the example. nullptr: the example is wrong, which a test forbids.
std::unique_ptr<sched::Plugin> MakeExample(const PluginType& type) {
  const auto node = wire::ParseYaml(type.example, "example");
  config::Diagnostics diagnostics{.file = "example"};
  return node ? type.make(*node, "parameters", &diagnostics) : nullptr;
}

std::vector<DataKey> RequiredKeys(const PluginType& type) {
  std::vector<DataKey> keys;
  const auto plugin = MakeExample(type);
  if (plugin == nullptr) return keys;
  for (const sched::Need& need : plugin->Needs()) {
    if (need.required) keys.push_back(need.key);
  }
  return keys;
}

std::vector<DataKey> ProducedKeys(const PluginType& type) {
  const auto plugin = MakeExample(type);
  const auto* producer = dynamic_cast<const sched::Producer*>(plugin.get());
  return producer == nullptr ? std::vector<DataKey>() : producer->Produces();
}

bool Contains(const std::vector<DataKey>& keys, DataKey key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// Who has to be declared beside a plugin that needs `key`; nullptr: nobody.
const PluginType* DeclaredProducer(DataKey key, const sched::Registry& registry) {
  const PluginType* found = nullptr;
  for (const PluginType& type : registry.types()) {
    if (Contains(type.default_producer_of, key)) return nullptr;
    if (found == nullptr && Contains(ProducedKeys(type), key)) found = &type;
  }
  return found;
}

// The parameters of an example: the declared ones, else the defaults spelled out.
std::string ExampleParameters(const PluginType& type) {
  if (!type.example.empty()) return fmt::format("  parameters: {}\n", type.example);
  std::string out;
  for (const FieldRow& row : type.parameters()) {
    const bool is_top = row.path.find_first_of(".[") == std::string::npos;
    const bool is_said = !row.default_value.empty() && row.default_value != "\"\"";
    if (is_top && is_said && row.deprecated.empty()) {
      out += fmt::format("    {}: {}\n", row.path, row.default_value);
    }
  }
  return out.empty() ? "" : "  parameters:\n" + out;
}

std::string KeyNames(const std::vector<DataKey>& keys) {
  std::string out;
  for (const DataKey key : keys) {
    out += (out.empty() ? "" : ", ") + Code(sched::DataKeyName(key));
  }
  return out;
}

std::string NeedsLine(const PluginType& type) {
  std::vector<DataKey> required, optional;
  const auto plugin = MakeExample(type);
  if (plugin == nullptr) return "";
  for (const sched::Need& need : plugin->Needs()) {
    auto& keys = need.required ? required : optional;
    if (!Contains(keys, need.key)) keys.push_back(need.key);
  }
  std::string out = KeyNames(required);
  if (!optional.empty()) {
    out += (out.empty() ? "" : "; ") + KeyNames(optional) + " when somebody produces it";
  }
  return out.empty() ? "" : fmt::format("- Needs: {}\n", out);
}

std::string PluginFacts(const PluginType& type) {
  std::string out;
  if (!type.formula.empty()) out += fmt::format("- Formula: {}\n", Code(type.formula));
  out += NeedsLine(type);
  const std::vector<DataKey> produced = ProducedKeys(type);
  if (!produced.empty()) {
    out += fmt::format("- Produces: {}{}\n", KeyNames(produced),
                       type.default_producer_of.empty()
                           ? "; has to be declared"
                           : "; made by itself when a plugin in use needs it");
  }
  for (const std::string_view alias : type.aliases) {
    out += fmt::format("- Other name: {} (accepted with a warning)\n", Code(alias));
  }
  return out + fmt::format("- Stability: {}\n", StabilityName(type.stability));
}

std::string PluginPart(const PluginType& type, const sched::Registry& registry) {
  std::string out =
      fmt::format("### {}\n\n{}\n\n{}\n", type.type, Prose(type.text), PluginFacts(type));
  const std::vector<FieldRow> parameters = type.parameters();
  if (!parameters.empty()) out += FieldTable(parameters, false) + "\n";
  return out + Block("yaml", PluginExample(type, registry)) + "\n";
}

std::string PolicyPart(std::string_view name) {
  std::string out = fmt::format("### {}\n\n{}\n\n", name, Prose(sched::BuiltinPolicyText(name)));
  const auto spec = sched::BuiltinPolicy(name);
  if (!spec) return out;
  std::string yaml = "plugins:\n";
  for (const sched::PluginSpec& plugin : spec->plugins) {
    yaml += fmt::format("- type: {}\n", plugin.type);
  }
  yaml += "schedulingProfiles:\n";
  for (const sched::ProfileSpec& profile : spec->profiles) {
    yaml += fmt::format("- name: {}\n  plugins:\n", profile.name);
    for (const sched::ProfileEntry& entry : profile.plugins) {
      yaml += fmt::format("  - pluginRef: {}\n", entry.plugin);
      if (entry.weight != 1) yaml += fmt::format("    weight: {}\n", entry.weight);
    }
  }
  return out + Block("yaml", yaml) + "\n";
}

std::string AnswerTo(const sched::KnownType& known) {
  if (known.needs.empty()) return "accepted: what it does is built in";
  const std::string error = "an error: it needs " + Prose(known.needs) +
                            (known.instead.empty() ? "" : "; ") + Prose(known.instead);
  if (known.role == sched::KnownRole::kFlowPolicy) {
    return "without the feature gate `flowControl` a warning: it is idle; with it " + error;
  }
  if (known.ability == nullptr) return error;
  return "accepted by `penstock epp`; with `penstock serve` " + error;
}

// llm-d's types that are not plugins here, so that nobody has to try.
std::string OtherTypesPart(const sched::Registry& registry) {
  std::vector<std::vector<std::string>> rows;
  for (const sched::KnownType& known : sched::KnownTypes()) {
    if (registry.Find(known.type) != nullptr) continue;
    rows.push_back({Code(known.type), AnswerTo(known)});
  }
  return "## Other types of llm-d\n\nA configuration that names one of these gets this answer at "
         "start, never a silent no-op.\n\n" +
         Table({"Type", "Answer"}, rows);
}

// --- metrics

std::string MetricTable(std::span<const telemetry::Registry::Row> rows,
                        bool (*is_wanted)(const telemetry::Registry::Row&)) {
  std::vector<std::vector<std::string>> cells;
  for (const auto& row : rows) {
    if (is_wanted(row)) {
      cells.push_back({Code(row.name), Prose(row.type), Prose(row.labels), Prose(row.help)});
    }
  }
  return cells.empty() ? "" : Table({"Name", "Type", "Labels", "What it counts"}, cells) + "\n";
}

using MetricRow = telemetry::Registry::Row;
bool IsShared(const MetricRow& row) {
  return row.twin_of.empty() && row.name.starts_with("llm_d_");
}
bool IsOwn(const MetricRow& row) { return row.twin_of.empty() && !row.name.starts_with("llm_d_"); }

std::string OlderNamesTable(std::span<const MetricRow> rows) {
  std::vector<std::vector<std::string>> cells;
  for (const MetricRow& row : rows) {
    if (row.twin_of.empty()) continue;
    cells.push_back({Code(row.name), Prose(row.labels), Code(row.twin_of)});
  }
  return cells.empty() ? "" : Table({"Name", "Labels", "Shows"}, cells) + "\n";
}

// Metrics of llm-d whose machinery is not here, under either generation's names.
constexpr std::pair<std::string_view, std::string_view> kMissingMetrics[] = {
    {"flow_control_*", "flow control"},
    {"model_rewrite_decisions_total", "InferenceModelRewrite objects of Kubernetes"},
    {"request_predicted_*, request_*_prediction_duration_seconds, request_slo_violation_total, "
     "inference_request_metric",
     "latency prediction"},
    {"pd_decision_total, disagg_decision_total, disaggregatedset_*",
     "prefill/decode disaggregation"},
    {"encoder_cache_*", "an encoder cache index"},
    {"program_aware_*", "the program-aware-fairness policy"},
    {"plugin_data_scope_violations_total", "nothing: plugins cannot reach each other's data"},
};

std::string MissingMetricsTable() {
  std::vector<std::vector<std::string>> cells;
  for (const auto& [names, capability] : kMissingMetrics) {
    std::string codes;
    for (std::string_view rest = names; !rest.empty();) {
      const size_t end = std::min(rest.find(", "), rest.size());
      codes += (codes.empty() ? "" : ", ") + Code("llm_d_epp_" + std::string(rest.substr(0, end)));
      rest.remove_prefix(std::min(rest.size(), end + 2));
    }
    cells.push_back({codes, std::string(capability)});
  }
  return Table({"Names", "Come with"}, cells) + "\n";
}

}  // namespace

std::string_view ExampleConfiguration() { return kExample; }

std::string ConfigurationPage() {
  const std::vector<FieldRow> rows = config::Fields<config::ServeConfig>();
  std::vector<FieldRow> top;
  std::vector<std::vector<FieldRow>> sections;  // the section's own row first
  for (const FieldRow& row : rows) {
    const std::string_view section = SectionOf(row.path);
    if (section != row.path) {
      if (sections.empty() || sections.back().front().path != section)
        sections.push_back({top.back()});
      sections.back().push_back(row);
    } else {
      top.push_back(row);
    }
  }
  std::string out = fmt::format(
      "# Configuration\n{}\n`penstock serve --config penstock.yaml` reads YAML or JSON. Every "
      "field "
      "may be left out unless it is required. Unknown fields are errors that name the nearest "
      "known "
      "one. Flags win over the file. [configuration.schema.json](configuration.schema.json) is the "
      "same as a JSON schema, for editors.\n\nDurations are `250ms`, `60s`, `5m`, `2h`, or a plain "
      "number of seconds. `x[]` stands for each element of the list `x`.\n\n## Example\n\n{}\n"
      "## Top level\n\n",
      kMade, Block("yaml", kExample));
  out += FieldTable(top, true);
  for (const auto& section : sections) {
    const FieldRow& head = section.front();
    out += fmt::format("\n## {}\n\n{}\n\n", head.path, Prose(head.text));
    out += FieldTable({section.begin() + 1, section.end()}, true);
  }
  return out;
}

std::string PluginExample(const PluginType& type, const sched::Registry& registry) {
  std::string out = "plugins:\n";
  for (const DataKey key : RequiredKeys(type)) {
    const PluginType* producer = DeclaredProducer(key, registry);
    if (producer != nullptr) {
      out += fmt::format("- type: {}\n{}", producer->type, ExampleParameters(*producer));
    }
  }
  out += fmt::format("- type: {}\n{}", type.type, ExampleParameters(type));
  if (type.kind == Kind::kProfileHandler || type.kind == Kind::kProducer) return out;
  out += fmt::format("schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: {}\n",
                     type.type);
  if (type.kind == Kind::kScorer) out += "    weight: 1\n";
  return out;
}

std::string PluginsPage(const sched::Registry& registry) {
  std::string out = fmt::format(
      "# Plugins\n{}\nA *profile* filters the healthy endpoints, scores those that are left and "
      "picks by the totals. Profiles are written as llm-d's `EndpointPickerConfig`, in a file of "
      "their own (`scheduling.file`) or as `plugins` and `schedulingProfiles` under `scheduling` "
      "of "
      "penstock.yaml. Types, parameters and formulas are llm-d's; "
      "[differences.md](../differences.md) lists the exceptions.\n\nWhat a profile does not name "
      "is "
      "filled in: `single-profile-handler`, `max-score-picker`, and the producers of the data that "
      "its plugins need. Every example below works as it stands and spells out the defaults.\n\n"
      "## Policies\n\nThe profiles that `scheduling.policy` and `--policy` know by name.\n\n",
      kMade);
  for (const std::string_view name : sched::BuiltinPolicyNames()) out += PolicyPart(name);
  for (const KindPart& part : kKinds) {
    std::vector<const PluginType*> types;
    for (const PluginType& type : registry.types()) {
      if (type.kind == part.kind) types.push_back(&type);
    }
    std::sort(types.begin(), types.end(),
              [](const auto* a, const auto* b) { return a->type < b->type; });
    out += fmt::format("## {}\n\n{}\n\n", part.title, part.intro);
    for (const PluginType* type : types) out += PluginPart(*type, registry);
  }
  return out + OtherTypesPart(registry);
}

std::string MetricsPage(std::span<const telemetry::Registry::Row> rows) {
  std::string out = fmt::format(
      "# Metrics\n{}\n`http://ADMIN/metrics` shows them in Prometheus' text format. A histogram "
      "has "
      "the series `_bucket`, `_sum` and `_count`. A family holds a bounded number of series; what "
      "comes after that is counted with all labels `other`.\n\n",
      kMade);
  const std::string shared = MetricTable(rows, IsShared);
  if (!shared.empty()) {
    out +=
        "## In llm-d's names\n\nDashboards and alerts made for llm-d's endpoint picker read "
        "these.\n\n" +
        shared;
  }
  const std::string older = OlderNamesTable(rows);
  if (!older.empty()) {
    out +=
        "## Their older names\n\n`penstock epp` shows these too, from the same series. What their "
        "labels do not tell apart is added up.\n\n" +
        older;
  }
  out += "## Penstock's own\n\n" + MetricTable(rows, IsOwn);
  out +=
      "## Not there\n\nNames of llm-d without what they would measure are not shown, not even as "
      "zeros.\n\n" +
      MissingMetricsTable();
  while (out.ends_with("\n\n")) out.pop_back();
  return out;
}

}  // namespace penstock::app
