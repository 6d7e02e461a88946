#include "app/check.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "app/check_report.h"
#include "core/file.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

constexpr const char* kExamples = R"(
FILE is an EndpointPickerConfig of llm-d, a penstock.yaml, or a ConfigMap or Helm values file with
EndpointPickerConfigs in it; - reads standard input. Errors go to standard error, each with its
place. The exit status is 1 when there are any, or warnings under --strict.

Examples:
  penstock check epp-config.yaml
      Says what it will do, profile by profile, and what to mind.
  penstock check --yaml epp-config.yaml > penstock.yaml
      The same scheduling for 'penstock serve'.
  kubectl get configmap my-epp -o yaml | penstock check -
  penstock check --json penstock.yaml | jq '.[].warnings'
)";

struct Flags {
  std::string file;
  bool json = false;
  bool yaml = false;
  bool strict = false;
};

Result<std::string> ReadInput(const std::string& file) {
  if (file != "-") return ReadFile(file, wire::kMaxYamlBytes);
  std::string text(wire::kMaxYamlBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), stdin));
  if (text.size() > wire::kMaxYamlBytes) {
    return Fail(Code::kOutOfRange, "standard input has more than 4 MiB");
  }
  return text;
}

void Print(const std::string& text, std::FILE* out) {
  std::fwrite(text.data(), 1, text.size(), out);
}

}  // namespace

int RunCheck(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Reads a configuration: what it will do, what is wrong with it, what to mind",
               "penstock check"};
  app.footer(kExamples);
  app.add_option("FILE", flags.file, "The configuration; - for standard input")->required();
  auto* json = app.add_flag("--json", flags.json,
                            "For machines: a list with an object for each "
                            "configuration");
  app.add_flag("--yaml", flags.yaml, "Only the same for penstock.yaml")->excludes(json);
  app.add_flag("--strict", flags.strict, "Warnings count as errors");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const Result<std::string> text = ReadInput(flags.file);
  if (!text) {
    std::fprintf(stderr, "penstock check: %s\n", text.error().message.c_str());
    return 1;
  }
  const std::vector<CheckReport> reports =
      CheckConfiguration(*text, flags.file == "-" ? "stdin" : flags.file);
  bool ok = true;
  for (const CheckReport& report : reports) {
    ok = ok && report.errors.empty() && !(flags.strict && !report.warnings.empty());
    if (flags.json) continue;
    for (const std::string& error : report.errors) Print("error: " + error + "\n", stderr);
    Print(flags.yaml ? report.penstock_yaml : ReportText(report), stdout);
  }
  if (flags.json) Print(ReportJson(reports), stdout);
  return ok ? 0 : 1;
}

}  // namespace penstock::app
