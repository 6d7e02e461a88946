#include "app/docs.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "app/gateway.h"
#include "app/reference.h"
#include "config/document.h"
#include "config/serve_config.h"
#include "core/file.h"
#include "plugins/builtin.h"

namespace penstock::app {
namespace {

constexpr const char* kExamples = R"(
Example:
  penstock docs docs/generated
      Writes configuration.md, configuration.schema.json, metrics.md and plugins.md there.
)";

// A gateway without engines registers every metric there is, whichever module it belongs to.
Result<std::vector<telemetry::Registry::Row>> AllMetricRows() {
  config::ServeConfig config;
  config.listen = "127.0.0.1:0";
  config.admin_listen = "127.0.0.1:0";
  config.threads = 1;
  config.log.level = "off";
  const auto gateway = Gateway::Start(config);
  if (!gateway) return std::unexpected(gateway.error());
  return (*gateway)->MetricRows();
}

}  // namespace

Result<> WriteDocs(const std::string& folder) {
  const auto metrics = AllMetricRows();
  if (!metrics) return std::unexpected(metrics.error());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return Fail(Code::kUnavailable,
                fmt::format("folder '{}' cannot be made: {}", folder, error.message()));
  }
  const std::pair<std::string_view, std::string> files[] = {
      {"configuration.md", ConfigurationPage()},
      {"configuration.schema.json", config::JsonSchema<config::ServeConfig>("penstock.yaml")},
      {"metrics.md", MetricsPage(*metrics)},
      {"plugins.md", PluginsPage(plugins::Builtins())},
  };
  for (const auto& [name, text] : files) {
    if (const auto written = WriteFile((std::filesystem::path(folder) / name).string(), text);
        !written) {
      return written;
    }
  }
  return {};
}

int RunDocs(int argc, char** argv) {
  std::string folder;
  CLI::App app{"Writes the generated reference into a folder", "penstock docs"};
  app.footer(kExamples);
  app.add_option("folder", folder, "Where to; made when it is missing")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (const auto written = WriteDocs(folder); !written) {
    std::fprintf(stderr, "penstock docs: %s\n", written.error().message.c_str());
    return 1;
  }
  std::printf(
      "wrote configuration.md, configuration.schema.json, metrics.md and plugins.md into %s\n",
      folder.c_str());
  return 0;
}

}  // namespace penstock::app
