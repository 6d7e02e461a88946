#include "app/serve.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/parse.h"
#include "core/file.h"
#include "net/loop.h"
#include "telemetry/log.h"

namespace penstock::app {
namespace {

constexpr const char* kExamples = R"(
Examples:
  penstock serve --engine http://10.0.0.1:8000 --engine http://10.0.0.2:8000
      No file is needed in front of engines that are already there.
  penstock serve --engine http://10.0.0.1:8000,name=a,label.zone=eu --policy least-requests
      A name and a label for an engine, and another policy.
  penstock serve --config penstock.yaml --listen 0.0.0.0:8080
      Flags win over the file.
  penstock serve --endpoints-file endpoints.yaml --scheduling-config epp.yaml
      A watched list of engines, and llm-d's EndpointPickerConfig.
  penstock serve --engine http://10.0.0.1:8000 --record today.rec
      Afterwards 'penstock lab verify today.rec' says that every decision follows from what was
      known, and 'penstock lab replay --workload recording:today.rec' tries the traffic elsewhere.

Every setting of the file is in docs/generated/configuration.md.)";

// A flag that stands for one field of the configuration.
struct FieldFlag {
  const char* flag;
  std::string_view path;  // "limits.maxBodyBytes"
  bool is_text;           // a text, whatever it looks like; else a number, size or duration
  const char* help;
};

constexpr FieldFlag kFields[] = {
    {"--listen", "listen", true, "Where clients connect [127.0.0.1:8080]; port 0: any free one"},
    {"--admin", "adminListen", true,
     "Live page, /metrics, /debug [127.0.0.1:9090]; keep it private"},
    {"--threads", "threads", false, "Event loops [one per core]"},
    {"--endpoints-file", "endpointsFile", true, "Watched file of engines, YAML or JSON"},
    {"--policy", "scheduling.policy", true,
     "Built-in policy: least-cost, sticky, weighted, weighted-lru, least-requests, power-of-two, "
     "round-robin, random [least-cost]"},
    {"--scheduling-config", "scheduling.file", true,
     "EndpointPickerConfig file, as llm-d uses it, instead of a policy"},
    {"--max-body", "limits.maxBodyBytes", false, "Largest request body [64MiB]"},
    {"--max-buffered", "limits.maxBufferedBytes", false, "All request bodies together [4GiB]"},
    {"--max-connections", "limits.maxConnections", false, "Client connections per loop [20000]"},
    {"--max-endpoints", "limits.maxEndpoints", false, "Endpoints in the pool [1024]"},
    {"--connect-timeout", "timeouts.connect", false, "To connect to an engine [2s]"},
    {"--first-byte-timeout", "timeouts.firstByte", false,
     "From sending a request to the first byte of its answer [10m]"},
    {"--idle-timeout", "timeouts.idle", false, "Silence inside an engine's answer [2m]"},
    {"--header-timeout", "timeouts.header", false, "For a client to send a request's head [10s]"},
    {"--body-timeout", "timeouts.body", false,
     "Silence inside a client's request body, and slack for all of it [1m]"},
    {"--write-timeout", "timeouts.write", false, "A client that reads nothing is cut off [1m]"},
    {"--drain-timeout", "timeouts.drain", false, "After SIGTERM, for requests to end [30s]"},
    {"--max-tries", "retry.maxTries", false, "Engines asked for one request [2]"},
    {"--retry-budget", "retry.budgetRatio", false, "Retries as a share of requests [0.2]"},
    {"--scrape-interval", "scrape.interval", false, "Between two reads of /metrics [50ms]"},
    {"--engine-ca-file", "engineTls.caFile", true,
     "Authorities of https engines, PEM [the system's]"},
    {"--engine-server-name", "engineTls.serverName", true,
     "Name that their certificates must be for [the engine's host]"},
    {"--engine-skip-verify", "engineTls.insecureSkipVerify", false,
     "true: take any certificate of an engine [false]"},
    {"--record", "recording.file", true,
     "Write what is heard and decided, without prompts, for 'penstock lab verify' and 'replay'"},
    {"--record-max-bytes", "recording.maxBytes", false, "Size at which a recording ends [1GiB]"},
    {"--log-level", "log.level", true, "debug, info, warn, error or off [info]"},
    {"--log-format", "log.format", true, "text or json [text]"},
};

struct Flags {
  std::string config_file;
  std::vector<std::string> engines;
  std::string values[std::size(kFields)];
};

void Declare(CLI::App& app, Flags& flags) {
  app.footer(kExamples);
  app.add_option("--config", flags.config_file, "penstock.yaml; flags win over it");
  app.add_option("--engine", flags.engines,
                 "http[s]://HOST:PORT[,name=N][,role=R][,engineType=T][,label.KEY=VALUE]"
                 "[,metricsPort=P][,ranks=N][,kvEventsPort=P][,kvReplayPort=P]; may be repeated");
  for (size_t i = 0; i < std::size(kFields); ++i) {
    app.add_option(kFields[i].flag, flags.values[i], kFields[i].help);
  }
}

wire::YamlNode Scalar(std::string_view text, bool is_text) {
  wire::YamlNode node;
  node.kind = wire::YamlNode::Kind::kScalar;
  node.scalar = text;
  node.quoted = is_text;
  return node;
}

// {a: {b: value}} for "a.b".
wire::YamlNode Nest(std::string_view path, wire::YamlNode value) {
  const size_t dot = path.find('.');
  wire::YamlNode map;
  map.kind = wire::YamlNode::Kind::kMap;
  map.entries.emplace_back(Scalar(path.substr(0, dot), true),
                           dot == std::string_view::npos
                               ? std::move(value)
                               : Nest(path.substr(dot + 1), std::move(value)));
  return map;
}

Result<> ApplyFlags(const CLI::App& app, const Flags& flags, config::ServeConfig* config) {
  for (size_t i = 0; i < std::size(kFields); ++i) {
    const FieldFlag& field = kFields[i];
    if (app.count(field.flag) == 0) continue;
    // One way of scheduling takes the place of every other.
    if (field.path.starts_with("scheduling.")) config->scheduling = {};
    config::Diagnostics diagnostics{.file = field.flag};
    config::ParseInto(Nest(field.path, Scalar(flags.values[i], field.is_text)), "", config,
                      &diagnostics);
    if (!diagnostics.errors.empty()) {
      return Fail(Code::kInvalidArgument, diagnostics.errors.front());
    }
  }
  if (app.count("--policy") > 0 && app.count("--scheduling-config") > 0) {
    return Fail(Code::kInvalidArgument, "give one of --policy and --scheduling-config");
  }
  if (!flags.engines.empty()) config->engines.clear();
  for (const std::string& text : flags.engines) {
    Result<config::EngineConfig> engine = config::ParseEngineFlag(text);
    if (!engine) return std::unexpected(engine.error());
    config->engines.push_back(std::move(*engine));
  }
  return {};
}

Result<config::ServeConfig> Load(const CLI::App& app, const Flags& flags,
                                 std::vector<std::string>* warnings) {
  config::ServeConfig config;
  if (!flags.config_file.empty()) {
    const Result<std::string> text = ReadFile(flags.config_file, wire::kMaxYamlBytes);
    if (!text) return Fail(text.error().code, "--config: " + text.error().message);
    auto loaded = config::LoadServeConfig(*text, flags.config_file, warnings);
    if (!loaded) return loaded;
    config = std::move(*loaded);
  }
  if (Result<> applied = ApplyFlags(app, flags, &config); !applied) {
    return std::unexpected(applied.error());
  }
  if (config.limits.max_buffered_bytes / 2 < config.limits.max_body_bytes) {
    return Fail(Code::kInvalidArgument,
                "limits.maxBufferedBytes: " + std::to_string(config.limits.max_buffered_bytes) +
                    " is less than twice limits.maxBodyBytes (" +
                    std::to_string(config.limits.max_body_bytes) +
                    "), so a body of that size might never fit; raise it with --max-buffered");
  }
  if (config.engines.empty() && config.endpoints_file.empty()) {
    return Fail(Code::kInvalidArgument,
                "no engines: give --engine http://HOST:PORT, --endpoints-file FILE, or --config "
                "FILE with engines");
  }
  return config;
}

int Complain(const Error& error) {
  // One line for each mistake, each with the program's name, as compilers do it.
  std::string_view rest = error.message;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string line(rest.substr(0, end));
    std::fprintf(stderr, "penstock serve: %s\n", line.c_str());
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return 1;
}

// Until a signal; then lets running requests end, and at a second signal ends at once.
int Serve(const config::ServeConfig& config) {
  net::Loop main_loop;
  std::unique_ptr<Gateway> gateway;
  bool is_draining = false;
  net::SignalWatch signals(main_loop, [&](int) {
    if (gateway == nullptr || std::exchange(is_draining, true)) return main_loop.Stop();
    telemetry::log::Info("draining: running requests may end; a second signal ends at once");
    gateway->Drain([&main_loop] { main_loop.Stop(); });
  });
  auto started = Gateway::Start(config);
  if (!started) return Complain(started.error());
  gateway = std::move(*started);
  for (const std::string& line : gateway->Summary()) telemetry::log::Info(line);
  std::printf("listening on http://%s, admin on http://%s\n", gateway->address().c_str(),
              gateway->admin_address().c_str());
  std::fflush(stdout);
  main_loop.Run();
  gateway.reset();
  return 0;
}

}  // namespace

int RunServe(int argc, char** argv) {
  Flags flags;
  CLI::App app{"The gateway: HTTP in, the right engine picked, streams out", "penstock serve"};
  Declare(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  std::vector<std::string> warnings;
  const Result<config::ServeConfig> config = Load(app, flags, &warnings);
  if (!config) return Complain(config.error());
  const auto level = telemetry::log::ParseLevel(config->log.level);
  const auto format = telemetry::log::ParseFormat(config->log.format);
  if (level && format) telemetry::log::Configure(*level, *format);
  for (const std::string& warning : warnings) telemetry::log::Warn(warning);
  return Serve(*config);
}

}  // namespace penstock::app
