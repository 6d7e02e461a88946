#include "app/docs.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/epp_flags.h"
#include "app/gateway.h"
#include "app/picker.h"
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

// A gateway and a picker without engines register every metric there is, whichever module it
// belongs to. Rows by name.
Result<std::vector<telemetry::Registry::Row>> AllMetricRows() {
  config::ServeConfig config;
  config.listen = "127.0.0.1:0";
  config.admin_listen = "127.0.0.1:0";
  config.threads = 1;
  config.log.level = "off";
  std::map<std::string, telemetry::Registry::Row> rows;
  const auto keep = [&rows](std::vector<telemetry::Registry::Row> more) {
    for (telemetry::Registry::Row& row : more) rows.emplace(row.name, std::move(row));
  };
  const auto gateway = Gateway::Start(config);
  if (!gateway) return std::unexpected(gateway.error());
  keep((*gateway)->MetricRows());
  EppFlags flags;
  flags.host = "127.0.0.1";
  flags.grpc_port = flags.grpc_health_port = flags.metrics_port = 0;
  flags.secure_serving = false;
  flags.enable_grpc_stream_metrics = true;
  flags.threads = 1;
  flags.policy = "weighted";
  const auto picker = Picker::StartWithoutEndpoints(flags);
  if (!picker) return std::unexpected(picker.error());
  keep((*picker)->MetricRows());
  std::vector<telemetry::Registry::Row> out;
  for (auto& [name, row] : rows) out.push_back(std::move(row));
  return out;
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
