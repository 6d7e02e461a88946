#include "app/epp_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "config/duration.h"
#include "core/text.h"

namespace penstock::app {
namespace {

using Setter = std::function<Result<>(std::string_view, EppFlags&)>;

struct Flag {
  std::string_view name;
  std::string_view metavar;  // "": a switch
  std::string_view help;
  Setter set;
};

Error Wrong(std::string_view what) { return Error{Code::kInvalidArgument, std::string(what)}; }

Setter Text(std::string EppFlags::*field) {
  return [field](std::string_view value, EppFlags& flags) -> Result<> {
    flags.*field = value;
    return {};
  };
}

Setter Scheme(std::string EppFlags::*field) {
  return [field](std::string_view value, EppFlags& flags) -> Result<> {
    if (value != "http" && value != "https") {
      return std::unexpected(Wrong("is neither http nor https"));
    }
    flags.*field = value;
    return {};
  };
}

Setter Switch(bool EppFlags::*field) {
  return [field](std::string_view value, EppFlags& flags) -> Result<> {
    const std::array<std::string_view, 6> yes = {"true", "1", "t", "T", "TRUE", "True"};
    const std::array<std::string_view, 6> no = {"false", "0", "f", "F", "FALSE", "False"};
    const bool is_yes = std::ranges::find(yes, value) != yes.end();
    if (!is_yes && std::ranges::find(no, value) == no.end()) {
      return std::unexpected(Wrong("is neither true nor false"));
    }
    flags.*field = is_yes;
    return {};
  };
}

template <class T>
Setter Number(T EppFlags::*field, uint64_t max = std::numeric_limits<T>::max()) {
  return [field, max](std::string_view value, EppFlags& flags) -> Result<> {
    const auto number = ParseUint(value);
    if (!number || *number > max) {
      return std::unexpected(Wrong(fmt::format("is no number from 0 to {}", max)));
    }
    flags.*field = static_cast<T>(*number);
    return {};
  };
}

Setter Time(Duration EppFlags::*field) {
  return [field](std::string_view value, EppFlags& flags) -> Result<> {
    const auto duration = config::ParseDuration(value);
    if (!duration || *duration < Duration(0)) {
      return std::unexpected(Wrong("is no duration like 50ms, 30s or 1m30s"));
    }
    flags.*field = *duration;
    return {};
  };
}

Setter Bytes(uint64_t EppFlags::*field) {
  return [field](std::string_view value, EppFlags& flags) -> Result<> {
    const auto bytes = ParseQuantity(value);
    if (!bytes) return std::unexpected(bytes.error());
    flags.*field = *bytes;
    return {};
  };
}

Setter List(std::vector<std::string> EppFlags::*field) {
  return [field](std::string_view value, EppFlags& flags) -> Result<> {
    while (true) {
      const size_t comma = value.find(',');
      (flags.*field).emplace_back(TrimSpace(value.substr(0, comma)));
      if (comma == std::string_view::npos) return {};
      value.remove_prefix(comma + 1);
    }
  };
}

Setter Each(std::vector<std::string> EppFlags::*field) {
  return [field](std::string_view value, EppFlags& flags) -> Result<> {
    (flags.*field).emplace_back(value);
    return {};
  };
}

Setter Ports() {
  return [](std::string_view value, EppFlags& flags) -> Result<> {
    EppFlags texts;
    if (auto listed = List(&EppFlags::engines)(value, texts); !listed) return listed;
    for (const std::string& text : texts.engines) {
      const auto port = ParseUint(text);
      if (!port || *port > 65535) {
        return std::unexpected(Wrong(fmt::format("has '{}', which is no port", text)));
      }
      const auto number = static_cast<uint16_t>(*port);
      if (std::ranges::find(flags.endpoint_target_ports, number) ==
          flags.endpoint_target_ports.end()) {
        flags.endpoint_target_ports.push_back(number);
      }
    }
    if (flags.endpoint_target_ports.size() > 8) {
      return std::unexpected(Wrong("has more than 8 different ports"));
    }
    return {};
  };
}

// llm-d's -v and zap's levels come to one number.
Setter Verbosity() {
  return [](std::string_view value, EppFlags& flags) -> Result<> {
    const auto number = ParseUint(value);
    if (!number || *number > 100) return std::unexpected(Wrong("is no number like 2 or 4"));
    flags.verbosity = static_cast<int>(*number);
    return {};
  };
}
Setter ZapLevel() {
  return [](std::string_view value, EppFlags& flags) -> Result<> {
    if (value == "debug") {
      flags.verbosity = 4;
    } else if (value == "info") {
      flags.verbosity = 2;
    } else if (value == "error" || value == "panic") {
      flags.verbosity = 0;
    } else {
      return Verbosity()(value, flags);
    }
    return {};
  };
}

Setter Ignored() {
  return [](std::string_view, EppFlags&) -> Result<> { return {}; };
}

// What llm-d has deprecated so far that giving it is an error there too.
Setter Gone() {
  return [](std::string_view, EppFlags&) -> Result<> {
    return std::unexpected(
        Wrong("is not read any more: use engineConfigs of core-metrics-extractor in the "
              "EndpointPickerConfig"));
  };
}

std::vector<Flag> LlmdFlags() {
  return {
      {"config-file", "FILE", "EndpointPickerConfig, as llm-d uses it",
       Text(&EppFlags::config_file)},
      {"config-text", "YAML", "The same as a text", Text(&EppFlags::config_text)},
      {"grpc-port", "PORT", "ext_proc [9002]", Number(&EppFlags::grpc_port)},
      {"grpc-health-port", "PORT", "grpc.health.v1, without TLS [9003]",
       Number(&EppFlags::grpc_health_port)},
      {"metrics-port", "PORT", "/metrics, /debug and the live page [9090]",
       Number(&EppFlags::metrics_port)},
      {"pool-name", "NAME", "Name of the pool, in metrics [epp]", Text(&EppFlags::pool_name)},
      {"pool-namespace", "NAME", "Its namespace [$NAMESPACE, else default]",
       Text(&EppFlags::pool_namespace)},
      {"pool-group", "GROUP", "API group of the InferencePool", Text(&EppFlags::pool_group)},
      {"endpoint-selector", "LABELS", "Pods by label; needs Kubernetes",
       Text(&EppFlags::endpoint_selector)},
      {"endpoint-target-ports", "PORTS", "Their ports, 1 to 8 of them", Ports()},
      {"disable-endpoint-subset-filter", "", "Do not heed the proxy's subset hint",
       Switch(&EppFlags::disable_endpoint_subset_filter)},
      {"emit-endpoint-scores", "", "Tell the scores of all endpoints in dynamic metadata",
       Switch(&EppFlags::emit_endpoint_scores)},
      {"refresh-metrics-interval", "TIME", "Between two reads of an engine's /metrics [50ms]",
       Time(&EppFlags::refresh_metrics_interval)},
      {"refresh-prometheus-metrics-interval", "TIME",
       "Taken and not needed: the pool's figures are worked out whenever somebody asks [5s]",
       Time(&EppFlags::refresh_prometheus_metrics_interval)},
      {"metrics-staleness-threshold", "TIME",
       "Endpoints heard of longer ago do not count in the pool's figures [2s]",
       Time(&EppFlags::metrics_staleness_threshold)},
      {"ha-enable-leader-election", "", "Needs Kubernetes",
       Switch(&EppFlags::ha_enable_leader_election)},
      {"drain-timeout", "TIME", "After SIGTERM, for streams to end [30s]",
       Time(&EppFlags::drain_timeout)},
      {"grpc-max-recv-msg-size", "SIZE", "Largest message from the proxy [4MiB]",
       Bytes(&EppFlags::grpc_max_recv_msg_size)},
      {"grpc-max-send-msg-size", "SIZE",
       "Taken; bodies leave in messages of 62,000 bytes, so it is never met",
       Bytes(&EppFlags::grpc_max_send_msg_size)},
      {"secure-serving", "", "TLS for ext_proc [true]", Switch(&EppFlags::secure_serving)},
      {"cert-path", "FOLDER", "tls.crt and tls.key; without, a certificate is made at start",
       Text(&EppFlags::cert_path)},
      {"enable-cert-reload", "", "Watch the folder", Switch(&EppFlags::enable_cert_reload)},
      {"tls-min-version", "VERSION", "VersionTLS10 to VersionTLS13 [VersionTLS12]",
       Text(&EppFlags::tls_min_version)},
      {"tls-cipher-suites", "NAMES", "Go's names; for TLS 1.2 and older",
       List(&EppFlags::tls_cipher_suites)},
      {"health-checking", "", "Answer grpc.health.v1 on the ext_proc port too",
       Switch(&EppFlags::health_checking)},
      {"enable-grpc-stream-metrics", "", "Metrics of ext_proc streams",
       Switch(&EppFlags::enable_grpc_stream_metrics)},
      {"metrics-endpoint-auth", "", "Kubernetes' authentication for /metrics; needs Kubernetes",
       Switch(&EppFlags::metrics_endpoint_auth)},
      {"metrics-cert-dir", "FOLDER", "HTTPS on the metrics port: watched tls.crt and tls.key",
       Text(&EppFlags::metrics_cert_dir)},
      {"metrics-client-ca-file", "FILE",
       "Clients of the metrics port must show a certificate of these authorities",
       Text(&EppFlags::metrics_client_ca_file)},
      {"enable-pprof", "", "Taken; there is no Go here to profile",
       Switch(&EppFlags::enable_pprof)},
      {"tracing", "", "OpenTelemetry spans", Switch(&EppFlags::tracing)},
      {"allow-experimental-plugins", "", "Taken and not needed: every plugin that is there may run",
       Switch(&EppFlags::allow_experimental_plugins)},
      {"model-server-metrics-scheme", "SCHEME",
       "Of older pickers: http or https for engines' metrics; metrics-data-source wins",
       Scheme(&EppFlags::model_server_metrics_scheme)},
      {"model-server-metrics-path", "PATH", "Of older pickers [/metrics]",
       Text(&EppFlags::model_server_metrics_path)},
      {"model-server-metrics-port", "PORT", "Of older pickers [the engine's]",
       Number(&EppFlags::model_server_metrics_port)},
      {"model-server-metrics-https-insecure-skip-verify", "",
       "Of older pickers: take any certificate [true]",
       Switch(&EppFlags::model_server_metrics_skip_verify)},
      {"v", "LEVEL", "Verbosity: 4 and more writes debug lines [2]", Verbosity()},
      {"zap-log-level", "LEVEL", "debug, info or error", ZapLevel()},
      {"zap-encoder", "NAME", "Taken; see --log-format", Ignored()},
      {"zap-devel", "", "Taken", Ignored()},
      {"zap-stacktrace-level", "LEVEL", "Taken", Ignored()},
      {"zap-time-encoding", "NAME", "Taken", Ignored()},
      {"total-queued-requests-metric", "NAME", "Gone; see engineConfigs", Gone()},
      {"total-running-requests-metric", "NAME", "Gone", Gone()},
      {"kv-cache-usage-percentage-metric", "NAME", "Gone", Gone()},
      {"lora-info-metric", "NAME", "Gone", Gone()},
      {"cache-info-metric", "NAME", "Gone", Gone()},
  };
}

std::vector<Flag> OwnFlags() {
  return {
      {"host", "ADDRESS", "Where all three ports are opened [0.0.0.0]", Text(&EppFlags::host)},
      {"metrics-host", "ADDRESS", "Another one for the metrics port",
       Text(&EppFlags::metrics_host)},
      {"engine", "URL", "An engine, as for 'penstock serve'; may be repeated",
       Each(&EppFlags::engines)},
      {"engine-ca-file", "FILE", "Authorities, in PEM, of engines that are read over https",
       Text(&EppFlags::engine_ca_file)},
      {"endpoints-file", "FILE", "Watched file of engines, YAML or JSON",
       Text(&EppFlags::endpoints_file)},
      {"policy", "NAME", "A built-in policy instead of a configuration", Text(&EppFlags::policy)},
      {"threads", "N", "Event loops [one per core]", Number(&EppFlags::threads, 256)},
      {"max-body", "SIZE", "Largest request body; above it the answer is 413 [64MiB]",
       Bytes(&EppFlags::max_body_bytes)},
      {"max-buffered", "SIZE", "All request bodies together [4GiB]",
       Bytes(&EppFlags::max_buffered_bytes)},
      {"max-endpoints", "N", "Endpoints in the pool [1024]",
       Number(&EppFlags::max_endpoints, 16384)},
      {"max-connection-age", "TIME",
       "Tell the proxy after this time to come anew, so that pickers share the load [never]",
       Time(&EppFlags::max_connection_age)},
      {"record", "FILE", "Write what is heard and decided, without prompts",
       Text(&EppFlags::record)},
      {"log-format", "NAME", "text or json [text]", Text(&EppFlags::log_format)},
  };
}

const std::vector<Flag>& Flags() {
  static const std::vector<Flag> flags = [] {
    std::vector<Flag> all = LlmdFlags();
    for (Flag& flag : OwnFlags()) all.push_back(std::move(flag));
    return all;
  }();
  return flags;
}

constexpr std::string_view kFirstOfOurs = "host";

const Flag* Find(std::string_view name) {
  const auto& flags = Flags();
  const auto found = std::ranges::find(flags, name, &Flag::name);
  return found == flags.end() ? nullptr : &*found;
}

Error Unknown(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Flag& flag : Flags()) names.push_back(flag.name);
  const std::string_view near = Nearest(name, names);
  return Error{
      Code::kInvalidArgument,
      fmt::format("unknown flag --{}{}", name,
                  near.empty() ? std::string() : fmt::format("; did you mean --{}?", near))};
}

// "-v=4", "-v4" and "-v" apart from its value; other words give nothing.
std::optional<std::string_view> AfterV(std::string_view word) {
  if (!word.starts_with("-v") || word.starts_with("--")) return std::nullopt;
  word.remove_prefix(2);
  if (word.starts_with('=')) word.remove_prefix(1);
  return word;
}

}  // namespace

bool EppFlags::Has(std::string_view name) const {
  return std::ranges::find(given, name) != given.end();
}

Result<uint64_t> ParseQuantity(std::string_view text) {
  const auto wrong = [text] {
    return Error{Code::kInvalidArgument,
                 fmt::format("'{}' is no size like 10MiB, 4Mi, 25MB or 5000", text)};
  };
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = ParseUint(text.substr(0, digits));
  if (!number) return std::unexpected(wrong());
  std::string_view unit = text.substr(digits);
  if (unit.ends_with('B')) unit.remove_suffix(1);
  constexpr std::pair<std::string_view, uint64_t> kUnits[] = {{"", 1},
                                                              {"k", 1000},
                                                              {"K", 1000},
                                                              {"M", 1000'000},
                                                              {"G", 1000'000'000},
                                                              {"Ki", 1ull << 10},
                                                              {"Mi", 1ull << 20},
                                                              {"Gi", 1ull << 30}};
  for (const auto& [name, factor] : kUnits) {
    if (name == unit && *number <= (uint64_t{1} << 40) / factor) return *number * factor;
  }
  return std::unexpected(wrong());
}

Result<EppFlags> ParseEppFlags(int argc, const char* const* argv) {
  EppFlags flags;
  const std::span<const char* const> words(argv, static_cast<size_t>(argc));
  for (size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word == "--help" || word == "-h" || word == "help") {
      flags.wants_help = true;
      return flags;
    }
    std::string_view name;
    std::optional<std::string_view> value;
    if (const auto level = AfterV(word)) {
      name = "v";
      if (!level->empty()) value = level;
    } else if (word.starts_with("--") && word.size() > 2) {
      const size_t equals = word.find('=');
      name = word.substr(2, equals == std::string_view::npos ? equals : equals - 2);
      if (equals != std::string_view::npos) value = word.substr(equals + 1);
    } else {
      return Fail(Code::kInvalidArgument,
                  fmt::format("'{}' is no flag; flags are written --name=value", word));
    }
    const Flag* const flag = Find(name);
    if (flag == nullptr) return std::unexpected(Unknown(name));
    if (!value && flag->metavar.empty()) value = "true";
    if (!value) {
      if (++i == words.size()) {
        return Fail(Code::kInvalidArgument, fmt::format("--{} needs a value", name));
      }
      value = words[i];
    }
    if (Result<> set = flag->set(*value, flags); !set) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("--{}={}: {}", name, *value, set.error().message));
    }
    flags.given.emplace_back(name);
  }
  return flags;
}

std::string EppHelp() {
  std::string out =
      "The endpoint picker behind Envoy: llm-d's flags, configuration and headers\n\n"
      "Usage: penstock epp [flags]\n\nllm-d's flags\n";
  for (const Flag& flag : Flags()) {
    if (flag.name == kFirstOfOurs) out += "\nOur own\n";
    const std::string name = fmt::format("{}{}{}{}", flag.name.size() == 1 ? "-" : "--", flag.name,
                                         flag.metavar.empty() ? "" : "=", flag.metavar);
    out += fmt::format("  {:<42} {}\n", name, flag.help);
  }
  out += R"(
Examples:
  penstock epp --config-file epp.yaml --pool-name my-pool
      Endpoints come from the file-discovery plugin that the configuration names.
  penstock epp --engine http://10.0.0.1:8000 --engine http://10.0.0.2:8000 --secure-serving=false
      No file is needed in front of engines that are already there.
  penstock check epp.yaml
      What a configuration will do, and what of it cannot be done here.

Envoy's side is in docs/migrating-from-llm-d.md.
)";
  return out;
}

}  // namespace penstock::app
