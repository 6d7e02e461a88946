#include "app/check_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/duration.h"
#include "config/serve_config.h"
#include "core/file.h"
#include "discovery/endpoints_file.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "sched/spec_yaml.h"
#include "sched/traps.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

using sched::PickerSettings;
using wire::YamlNode;

constexpr std::string_view kKind = "EndpointPickerConfig";
constexpr size_t kMaxEmbedded = 64;  // configurations in one document

void AppendLines(std::string_view text, std::vector<std::string>* lines) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) lines->emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// "FILE:LINE:COLUMN: sentence", or without a place.
std::string Placed(const std::string& file, const sched::Finding& finding) {
  YamlNode place;
  place.line = finding.line;
  place.column = finding.column;
  return wire::At(file, place, finding.text);
}

// The explanation and the traps of report->spec, when nothing is wrong so far. `detector`: a plugin
// that is in use outside of the profiles, or "".
void Explain(const sched::Surroundings& surroundings, const std::string& detector,
             CheckReport* report) {
  config::Diagnostics diagnostics{.file = report->file};
  if (!report->errors.empty()) {
    sched::CheckParameters(report->spec, plugins::Builtins(), &diagnostics);
  } else {
    report->explanation = sched::Explain(report->spec, plugins::Builtins(), &diagnostics);
  }
  for (auto& error : diagnostics.errors) report->errors.push_back(std::move(error));
  for (auto& warning : diagnostics.warnings) report->warnings.push_back(std::move(warning));
  if (!report->explanation) return;
  std::erase(report->explanation->unused, detector);
  for (const sched::Finding& finding :
       sched::FindTraps(report->spec, plugins::Builtins(), *report->explanation, surroundings)) {
    auto& list =
        finding.severity == sched::Finding::Severity::kWarning ? report->warnings : report->notes;
    list.push_back(Placed(report->file, finding));
  }
}

// --- EndpointPickerConfig

std::string DiscoveryText(const PickerSettings& settings) {
  if (!settings.discovery) return "what the picker's flags or Kubernetes say";
  return fmt::format("the file {}, {}", settings.discovery->path,
                     settings.discovery->watch_file ? "watched" : "read at start");
}

std::string MetricsText(const sched::EngineSource& source) {
  return fmt::format("{}://ENGINE{}{}, {}", source.scheme.empty() ? "http" : source.scheme,
                     source.port == 0 ? "" : fmt::format(":{}", source.port), source.path,
                     source.interval
                         ? "every " + config::FormatDuration(*source.interval)
                         : std::string("every 50ms unless a flag of the picker says otherwise"));
}

void AddFacts(const PickerSettings& settings, CheckReport* report) {
  report->facts.emplace_back("Endpoints", DiscoveryText(settings));
  report->facts.emplace_back("Metrics", MetricsText(settings.metrics));
  if (settings.models) report->facts.emplace_back("Models", MetricsText(*settings.models));
  std::string engines;
  for (const sched::EngineMetrics& engine : settings.extractor.engines) {
    engines += (engines.empty() ? "; names given for " : ", ") + engine.name;
  }
  report->facts.emplace_back("Engines", fmt::format("{} unless the label {} says otherwise{}",
                                                    settings.extractor.default_engine,
                                                    settings.extractor.engine_label_key, engines));
  report->facts.emplace_back("Requests are read by",
                             fmt::format("{}", fmt::join(settings.parsers, ", ")));
}

std::string PenstockYaml(const PickerSettings& settings, const CheckReport& report,
                         const std::vector<std::string>& lost) {
  std::string out = fmt::format(
      "# From {}. Add your engines: penstock serve --config THIS "
      "--engine http://HOST:PORT\n",
      report.file);
  for (const std::string& sentence : lost) out += "# Not carried over: " + sentence + "\n";
  if (settings.discovery) {
    wire::YamlNode path;
    path.kind = YamlNode::Kind::kScalar;
    path.quoted = true;
    path.scalar = settings.discovery->path;
    out += "endpointsFile: " + sched::ToYaml(path) + "\n";
  }
  const auto& interval = settings.metrics.interval;
  const auto models = settings.models ? settings.models->interval : std::nullopt;
  if (interval || models) out += "scrape:\n";
  if (interval) {
    out +=
        "  interval: " + config::FormatDuration(std::max<Duration>(*interval, milliseconds(10))) +
        "\n";
  }
  if (models) {
    out += "  modelsInterval: " +
           config::FormatDuration(std::max<Duration>(*models, milliseconds(100))) + "\n";
  }
  return out + "scheduling:\n" + sched::ToYamlLines(report.spec, 2);
}

// What penstock serve would refuse, without the places.
std::vector<std::string> LostInServe(const YamlNode& tree) {
  config::Diagnostics diagnostics;
  sched::SchedulingSpec spec;
  sched::LoadEndpointPickerConfig(tree, plugins::Builtins(), &spec, &diagnostics);
  std::vector<std::string> lost;
  for (const std::string& error : diagnostics.errors) {
    // endpointsFile takes discovery's place.
    if (error.find("needs discovery") != std::string::npos ||
        error.find("need discovery") != std::string::npos) {
      continue;
    }
    const size_t colon = error.find(": ");
    lost.push_back(colon == std::string::npos ? error : error.substr(colon + 2));
  }
  return lost;
}

bool Has(const YamlNode& tree, std::string_view list) {
  const YamlNode* node = tree.Find(list);
  return node != nullptr && !node->items.empty();
}

// What llm-d's loader makes of lists that are not there.
void NoteDefaults(const YamlNode& tree, CheckReport* report) {
  if (Has(tree, "schedulingProfiles")) return;
  report->notes.push_back(
      report->file +
      (Has(tree, "plugins")
           ? ": no schedulingProfiles: every filter, scorer and picker stands in a profile "
             "'default', with weight 1 and in the order of declaration (llm-d: filters in any "
             "order)"
           : ": neither plugins nor schedulingProfiles: llm-d's built-in default is used"));
}

bool UsesAttributes(const CheckReport& report) {
  const auto& metrics = report.explanation->metrics;
  return std::ranges::any_of(report.spec.attributes, [&](const std::string& name) {
    return std::ranges::find(metrics, name) != metrics.end();
  });
}

CheckReport CheckPickerConfig(const YamlNode& tree, const std::string& file_name) {
  CheckReport report;
  report.file = file_name;
  report.title = "an EndpointPickerConfig, for 'penstock epp'";
  config::Diagnostics diagnostics{.file = file_name};
  PickerSettings settings;
  sched::LoadEndpointPickerConfig(tree, plugins::Builtins(), sched::kPickerAbilities, &report.spec,
                                  &settings, &diagnostics);
  report.errors = std::move(diagnostics.errors);
  report.warnings = std::move(diagnostics.warnings);
  sched::Surroundings surroundings;
  if (settings.metrics.interval) {
    surroundings.scrape_interval = std::max<Duration>(*settings.metrics.interval, milliseconds(50));
  }
  surroundings.reads_bodies =
      std::any_of(settings.parsers.begin(), settings.parsers.end(),
                  [](const std::string& parser) { return parser != "passthrough-parser"; });
  Explain(surroundings, settings.saturation_detector, &report);
  if (!report.explanation) return report;
  AddFacts(settings, &report);
  NoteDefaults(tree, &report);
  const std::vector<std::string> lost = LostInServe(tree);
  for (const std::string& sentence : lost) {
    report.notes.push_back(fmt::format("{}: 'penstock serve' refuses it: {}", file_name, sentence));
  }
  // Plugins that read the configuration's own attributes would not start there.
  if (UsesAttributes(report)) return report;
  report.penstock_yaml = PenstockYaml(settings, report, lost);
  return report;
}

// --- penstock.yaml

void LoadScheduling(const config::ServeConfig& config, CheckReport* report) {
  const config::SchedulingConfig& scheduling = config.scheduling;
  const auto is_given = [](const YamlNode& node) { return node.kind != YamlNode::Kind::kNull; };
  config::Diagnostics diagnostics{.file = report->file};
  if (is_given(scheduling.plugins) || is_given(scheduling.scheduling_profiles)) {
    report->facts.emplace_back("Scheduling", "its own plugins");
    sched::LoadInlineScheduling(scheduling.plugins, scheduling.scheduling_profiles,
                                plugins::Builtins(), &report->spec, &diagnostics);
  } else if (!scheduling.file.empty()) {
    report->facts.emplace_back("Scheduling", "the file " + scheduling.file);
    diagnostics.file = scheduling.file;
    const auto text = ReadFile(scheduling.file, wire::kMaxYamlBytes);
    const auto tree = text ? wire::ParseYaml(*text, scheduling.file)
                           : Result<YamlNode>(std::unexpected(text.error()));
    if (!tree) {
      AppendLines("scheduling.file: " + tree.error().message, &report->errors);
      return;
    }
    sched::LoadEndpointPickerConfig(*tree, plugins::Builtins(), &report->spec, &diagnostics);
  } else {
    report->facts.emplace_back("Scheduling", "the built-in policy " + scheduling.policy);
    auto spec = sched::BuiltinPolicy(scheduling.policy);
    if (!spec) {
      report->errors.push_back(
          fmt::format("{}: scheduling.policy: {}", report->file, spec.error().message));
      return;
    }
    report->spec = std::move(*spec);
  }
  for (auto& error : diagnostics.errors) report->errors.push_back(std::move(error));
  for (auto& warning : diagnostics.warnings) report->warnings.push_back(std::move(warning));
}

void CheckEndpoints(const config::ServeConfig& config, CheckReport* report) {
  std::string endpoints = fmt::format("{} listed", config.engines.size());
  if (!config.endpoints_file.empty()) {
    endpoints += ", and those of the file " + config.endpoints_file;
    const auto text = ReadFile(config.endpoints_file, discovery::kMaxEndpointsFileBytes);
    if (!text) {
      report->warnings.push_back(
          fmt::format("{}: endpointsFile: {}", report->file, text.error().message));
    } else if (const auto file = discovery::ParseEndpointsFile(*text, config.endpoints_file);
               !file) {
      AppendLines(file.error().message, &report->errors);
    } else {
      endpoints += fmt::format(" ({} now)", file->endpoints.size());
      report->warnings.insert(report->warnings.end(), file->warnings.begin(), file->warnings.end());
    }
  } else if (config.engines.empty()) {
    report->notes.push_back(report->file +
                            ": no engines: 'penstock serve' then needs --engine or "
                            "--endpoints-file");
  }
  report->facts.emplace_back("Engines", endpoints);
}

void CheckServeTraps(const config::ServeConfig& config, CheckReport* report) {
  if (config.limits.max_buffered_bytes / 2 < config.limits.max_body_bytes) {
    report->errors.push_back(fmt::format(
        "{}: limits.maxBufferedBytes {} is less than twice limits.maxBodyBytes {}, so that a body "
        "of that size might never fit",
        report->file, config.limits.max_buffered_bytes, config.limits.max_body_bytes));
  }
  const auto admin = config::ParseListen(config.admin_listen);
  if (admin && admin->host != "127.0.0.1" && admin->host != "::1" && admin->host != "localhost") {
    report->warnings.push_back(
        fmt::format("{}: adminListen {} is not the loopback, and there is no authentication: keep "
                    "it off public networks",
                    report->file, config.admin_listen));
  }
}

CheckReport CheckServeConfig(std::string_view text, const std::string& file_name) {
  CheckReport report;
  report.file = file_name;
  report.title = "a penstock.yaml, for 'penstock serve'";
  const auto config = config::LoadServeConfig(text, file_name, &report.warnings);
  config::ServeConfig readable;  // what can be read of a wrong one, to find all mistakes at once
  if (config) {
    readable = *config;
  } else {
    AppendLines(config.error().message, &report.errors);
    const auto tree = wire::ParseYaml(text, file_name);
    const YamlNode* scheduling = tree ? tree->Find("scheduling") : nullptr;
    if (scheduling == nullptr) return report;
    if (const YamlNode* plugins = scheduling->Find("plugins")) {
      readable.scheduling.plugins = *plugins;
    }
    if (const YamlNode* profiles = scheduling->Find("schedulingProfiles")) {
      readable.scheduling.scheduling_profiles = *profiles;
    }
  }
  LoadScheduling(readable, &report);
  if (config) {
    report.facts.emplace_back("Listens on", config->listen + ", admin on " + config->admin_listen);
    CheckEndpoints(*config, &report);
    CheckServeTraps(*config, &report);
    report.facts.emplace_back("Metrics",
                              "read every " + config::FormatDuration(config->scrape.interval));
  }
  Explain({.scrape_interval = readable.scrape.interval}, "", &report);
  if (report.explanation) {
    report.penstock_yaml = "scheduling:\n" + sched::ToYamlLines(report.spec, 2);
  }
  return report;
}

// --- which of the two, and where

bool IsPickerConfig(const YamlNode& tree) {
  const YamlNode* kind = tree.Find("kind");
  return kind != nullptr && kind->scalar == kKind;
}

bool LooksLikePickerConfig(std::string_view text) {
  return text.find("kind: " + std::string(kKind)) != std::string_view::npos;
}

void FindEmbedded(const YamlNode& node, std::vector<const YamlNode*>* found) {
  if (found->size() >= kMaxEmbedded) return;
  if (LooksLikePickerConfig(node.scalar)) found->push_back(&node);
  for (const YamlNode& item : node.items) FindEmbedded(item, found);
  for (const auto& [key, value] : node.entries) FindEmbedded(value, found);
}

std::string_view LineAt(std::string_view text, size_t start) {
  return text.substr(start, std::min(text.find('\n', start), text.size()) - start);
}

std::string_view WithoutIndent(std::string_view line) {
  return line.substr(std::min(line.find_first_not_of(" \t"), line.size()));
}

// The block of the document that holds the embedded text, with everything before it blanked, so
// that places in it are places in the file; the text alone when it does not stand there as it is.
std::string InPlace(const YamlNode& node, std::string_view document) {
  size_t start = 0;
  for (uint32_t line = 1; line < node.line && start < document.size(); ++line) {
    start = std::min(document.find('\n', start), document.size() - 1) + 1;
  }
  const std::string first(LineAt(node.scalar, 0));
  while (start < document.size() && WithoutIndent(LineAt(document, start)) != first) {
    start = std::min(document.find('\n', start), document.size() - 1) + 1;
  }
  if (start >= document.size() || first.empty()) return node.scalar;
  const std::string_view line = LineAt(document, start);
  const std::string indent(line.size() - WithoutIndent(line).size(), ' ');
  const auto before = document.substr(0, start);
  std::string out(static_cast<size_t>(std::count(before.begin(), before.end(), '\n')), '\n');
  for (size_t at = 0; at < node.scalar.size();) {
    const std::string_view content = LineAt(node.scalar, at);
    if (!content.empty()) out.append(indent).append(content);
    out += '\n';
    at += content.size() + 1;
  }
  return out;
}

CheckReport Unreadable(const std::string& file_name, std::string message, std::string_view text) {
  CheckReport report;
  report.file = file_name;
  report.title = "no configuration that can be read";
  if (text.find("{{") != std::string_view::npos) {
    message += " (a Helm template? render it first: helm template)";
  }
  AppendLines(message, &report.errors);
  return report;
}

}  // namespace

std::vector<CheckReport> CheckConfiguration(std::string_view text, const std::string& file_name) {
  const Result<YamlNode> tree = wire::ParseYaml(text, file_name);
  if (!tree) return {Unreadable(file_name, tree.error().message, text)};
  if (IsPickerConfig(*tree)) return {CheckPickerConfig(*tree, file_name)};
  std::vector<const YamlNode*> embedded;
  FindEmbedded(*tree, &embedded);
  std::vector<CheckReport> reports;
  for (const YamlNode* node : embedded) {
    const std::string content = InPlace(*node, text);
    const Result<YamlNode> inner = wire::ParseYaml(content, file_name);
    if (!inner) {
      reports.push_back(Unreadable(file_name, inner.error().message, content));
    } else if (IsPickerConfig(*inner)) {
      reports.push_back(CheckPickerConfig(*inner, file_name));
    }
  }
  if (reports.empty()) reports.push_back(CheckServeConfig(text, file_name));
  return reports;
}

}  // namespace penstock::app
