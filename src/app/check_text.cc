#include <fmt/format.h>

#include "app/check_report.h"
#include "core/text.h"
#include "wire/json.h"

namespace penstock::app {
namespace {

using sched::Explanation;

std::string Count(size_t n, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", n, n == 1 ? one : many);
}

std::string Heading(std::string_view text) { return fmt::format("\n{}\n", text); }

// What it does, how it is worked out, and what is set, below the part's own line.
std::string PartLines(const Explanation::Part& part, std::string_view pad) {
  std::string out = fmt::format("{}{}\n", pad, part.text);
  if (!part.formula.empty()) out += fmt::format("{}= {}\n", pad, part.formula);
  for (const Explanation::Setting& setting : part.settings) {
    out += fmt::format("{}{}: {}{}\n", pad, setting.name, setting.value,
                       setting.default_value.empty() || setting.default_value == setting.value
                           ? ""
                           : fmt::format(" (instead of {})", setting.default_value));
  }
  return out;
}

std::string NameOf(const Explanation::Part& part) {
  std::string out = part.name;
  if (part.type != part.name) out += " (" + part.type + ")";
  if (part.is_implied) out += ", added by default";
  return out;
}

std::string ProfileText(const Explanation::Profile& profile) {
  constexpr std::string_view kPad = "           ";
  std::string out = Heading(fmt::format("Profile {}", profile.name));
  for (const Explanation::Part& filter : profile.filters) {
    out += fmt::format("  filter   {}\n{}", NameOf(filter), PartLines(filter, kPad));
  }
  for (const Explanation::Part& scorer : profile.scorers) {
    out += fmt::format("  score    {:.0f} %  {}, weight {}\n{}", scorer.share * 100, NameOf(scorer),
                       scorer.weight, PartLines(scorer, kPad));
  }
  return out +
         fmt::format("  pick     {}\n{}", NameOf(profile.picker), PartLines(profile.picker, kPad));
}

std::string ExplanationText(const Explanation& explanation) {
  std::string out = Heading("Which profile runs");
  out +=
      fmt::format("  {}\n{}", NameOf(explanation.handler), PartLines(explanation.handler, "    "));
  for (const auto& profile : explanation.profiles) out += ProfileText(profile);
  if (!explanation.producers.empty()) out += Heading("Worked out for each request");
  for (const Explanation::Part& producer : explanation.producers) {
    out += fmt::format("  {}: {}\n{}", NameOf(producer), producer.produces,
                       PartLines(producer, "    "));
  }
  out += Heading("Read from engines");
  out += explanation.metrics.empty() ? "  nothing that a plugin uses\n"
                                     : fmt::format("  {}\n", fmt::join(explanation.metrics, ", "));
  out += Heading("Request headers that change the choice");
  if (explanation.headers.empty()) out += "  none\n";
  for (const auto& header : explanation.headers) {
    out += fmt::format("  {}: {} ({})\n", header.name, header.effect, header.plugin);
  }
  return out;
}

// "FILE:12:5: sentence" as "line 12: sentence"; what stands in another file stays as it is.
std::string InFile(std::string_view sentence, std::string_view file) {
  if (!sentence.starts_with(file) || !sentence.substr(file.size()).starts_with(':')) {
    return std::string(sentence);
  }
  sentence.remove_prefix(file.size() + 1);
  const auto line = ParseUint(sentence.substr(0, sentence.find(':')));
  if (!line) return std::string(TrimSpace(sentence));
  return fmt::format("line {}: {}", *line, sentence.substr(sentence.find(": ") + 2));
}

std::string List(std::string_view title, const std::string& file,
                 const std::vector<std::string>& sentences) {
  if (sentences.empty()) return "";
  std::string out = Heading(title);
  for (const std::string& sentence : sentences) out += "  " + InFile(sentence, file) + "\n";
  return out;
}

// --- JSON

void WriteList(std::string_view key, const std::vector<std::string>& items,
               wire::JsonWriter* json) {
  json->Key(key).BeginArray();
  for (const std::string& item : items) json->Value(item);
  json->EndArray();
}

void WritePart(const Explanation::Part& part, wire::JsonWriter* json) {
  json->BeginObject().Field("name", part.name).Field("type", part.type);
  json->Field("text", std::string(part.text)).Field("addedByDefault", part.is_implied);
  if (!part.produces.empty()) json->Field("produces", part.produces);
  json->Key("settings").BeginObject();
  for (const auto& setting : part.settings) json->Field(setting.name, setting.value);
  json->EndObject().EndObject();
}

void WriteParts(std::string_view key, const std::vector<Explanation::Part>& parts,
                wire::JsonWriter* json) {
  json->Key(key).BeginArray();
  for (const auto& part : parts) WritePart(part, json);
  json->EndArray();
}

void WriteExplanation(const Explanation& explanation, wire::JsonWriter* json) {
  json->Key("handler");
  WritePart(explanation.handler, json);
  json->Key("profiles").BeginArray();
  for (const auto& profile : explanation.profiles) {
    json->BeginObject().Field("name", profile.name);
    WriteParts("filters", profile.filters, json);
    json->Key("scorers").BeginArray();
    for (const auto& scorer : profile.scorers) {
      json->BeginObject().Field("weight", scorer.weight).Field("share", scorer.share);
      json->Key("plugin");
      WritePart(scorer, json);
      json->EndObject();
    }
    json->EndArray().Key("picker");
    WritePart(profile.picker, json);
    json->EndObject();
  }
  json->EndArray();
  WriteParts("producers", explanation.producers, json);
  WriteList("metrics", explanation.metrics, json);
  json->Key("headers").BeginArray();
  for (const auto& header : explanation.headers) {
    json->BeginObject().Field("name", header.name).Field("plugin", header.plugin);
    json->Field("effect", std::string(header.effect)).EndObject();
  }
  json->EndArray();
}

}  // namespace

std::string ReportText(const CheckReport& report) {
  std::string out = fmt::format("{}: {}\n", report.file, report.title);
  for (const auto& [name, text] : report.facts) out += fmt::format("  {}: {}\n", name, text);
  if (report.explanation) out += ExplanationText(*report.explanation);
  out += List("Warnings", report.file, report.warnings);
  out += List("Good to know", report.file, report.notes);
  if (!report.penstock_yaml.empty()) {
    out += Heading("The same for penstock.yaml") + "\n" + report.penstock_yaml;
  }
  return out + fmt::format("\n{}: {}, {}\n", report.file,
                           Count(report.errors.size(), "error", "errors"),
                           Count(report.warnings.size(), "warning", "warnings"));
}

std::string ReportJson(const std::vector<CheckReport>& reports) {
  std::string out;
  wire::JsonWriter json(&out);
  json.BeginArray();
  for (const CheckReport& report : reports) {
    json.BeginObject().Field("file", report.file).Field("ok", report.errors.empty());
    json.Field("is", report.title);
    WriteList("errors", report.errors, &json);
    WriteList("warnings", report.warnings, &json);
    WriteList("notes", report.notes, &json);
    json.Key("facts").BeginObject();
    for (const auto& [name, text] : report.facts) json.Field(name, text);
    json.EndObject();
    if (report.explanation) {
      WriteExplanation(*report.explanation, &json);
      json.Field("penstockYaml", report.penstock_yaml);
    }
    json.EndObject();
  }
  json.EndArray();
  return out + "\n";
}

}  // namespace penstock::app
