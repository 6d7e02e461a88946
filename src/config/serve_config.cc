#include "config/serve_config.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "config/parse.h"
#include "core/text.h"
#include "wire/yaml.h"

namespace penstock::config {
namespace {

bool IsAddress(int family, const std::string& text) {
  std::array<unsigned char, 16> bytes;
  return inet_pton(family, text.c_str(), bytes.data()) == 1;
}

// An IPv4 literal or a DNS name; what is made of digits and dots alone must be the former.
bool IsHostName(std::string_view host) {
  if (host.empty() || host.size() > 253 || host.front() == '.' || host.front() == '-') return false;
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  };
  if (!std::all_of(host.begin(), host.end(), is_allowed)) return false;
  if (host.find("..") != std::string_view::npos) return false;
  if (host.find_first_not_of("0123456789.") != std::string_view::npos) return true;
  return IsAddress(AF_INET, std::string(host));
}

// "HOST:PORT" or "HOST" when `default_port` is not 0. `what` names the whole text in messages.
Result<HostPort> ParseHostPort(std::string_view text, uint16_t default_port,
                               std::string_view what) {
  HostPort out;
  std::string_view rest;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos ||
        !IsAddress(AF_INET6, std::string(text.substr(1, close - 1)))) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("'{}': the brackets hold no IPv6 address", what));
    }
    out.host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
  } else {
    const size_t colon = text.find(':');
    if (colon != text.rfind(':')) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("'{}': an IPv6 address stands in brackets, [::1]:8000", what));
    }
    out.host = text.substr(0, colon);
    if (!IsHostName(out.host)) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("'{}': '{}' is not a host name or address", what, out.host));
    }
    rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon);
  }
  if (rest.empty() && default_port != 0) {
    out.port = default_port;
    return out;
  }
  const std::optional<uint64_t> port =
      rest.starts_with(':') ? ParseUint(rest.substr(1)) : std::nullopt;
  if (!port) {
    return Fail(Code::kInvalidArgument, fmt::format("'{}': a port is missing, HOST:PORT", what));
  }
  if (*port > 65535) {
    return Fail(Code::kOutOfRange, fmt::format("'{}': port {} is above 65535", what, *port));
  }
  out.port = static_cast<uint16_t>(*port);
  return out;
}

std::string AddressOf(std::string_view host, uint32_t port) {
  const bool is_ipv6 = host.find(':') != std::string_view::npos;
  return is_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<> AddLabel(std::map<std::string, std::string>& labels, std::string_view key,
                  const std::string& value, std::string_view field) {
  if (value.empty()) return {};
  const auto [it, added] = labels.emplace(key, value);
  if (!added && it->second != value) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} '{}' contradicts label {}={}", field, value, key, it->second));
  }
  return {};
}

// A setting of the --engine flag. ParseInto judges it later, so numbers stay plain scalars.
void AddScalar(wire::YamlNode& map, std::string_view key, std::string_view value, bool quoted) {
  wire::YamlNode name;
  name.kind = wire::YamlNode::Kind::kScalar;
  name.scalar = key;
  wire::YamlNode scalar = name;
  scalar.scalar = value;
  scalar.quoted = quoted;
  map.entries.emplace_back(std::move(name), std::move(scalar));
}

// What no single field can judge: addresses, engines that clash, ways of scheduling that exclude
// each other.
class ServeChecker {
 public:
  ServeChecker(const wire::YamlNode& tree, const ServeConfig& config, Diagnostics* diagnostics)
      : tree_(tree), config_(config), diagnostics_(diagnostics) {}

  void Run() {
    CheckListen("listen", config_.listen);
    CheckListen("adminListen", config_.admin_listen);
    CheckScheduling();
    CheckEngines();
    CheckEngineTls();
  }

 private:
  void AddError(const wire::YamlNode& node, std::string_view sentence) {
    diagnostics_->errors.push_back(wire::At(diagnostics_->file, node, sentence));
  }

  void CheckListen(std::string_view field, const std::string& value) {
    const Result<HostPort> parsed = ParseListen(value);
    const wire::YamlNode* node = tree_.Find(field);
    if (!parsed)
      AddError(node ? *node : tree_, fmt::format("{}: {}", field, parsed.error().message));
  }

  void CheckScheduling() {
    const wire::YamlNode* scheduling = tree_.Find("scheduling");
    if (scheduling == nullptr) return;
    const auto is_given = [&](std::string_view key) {
      const wire::YamlNode* node = scheduling->Find(key);
      return node != nullptr && node->kind != wire::YamlNode::Kind::kNull;
    };
    const bool is_inline = is_given("plugins") || is_given("schedulingProfiles");
    if (is_given("policy") + is_given("file") + is_inline > 1) {
      AddError(*scheduling,
               "scheduling: give one of policy, file, or plugins with schedulingProfiles");
    }
  }

  void CheckEngines() {
    std::set<std::string> names;
    std::set<std::string> addresses;
    const wire::YamlNode* nodes = tree_.Find("engines");
    for (size_t i = 0; i < config_.engines.size(); ++i) {
      const wire::YamlNode& node = nodes->items[i];
      const Result<std::vector<model::EndpointSpec>> specs = ToEndpoints(config_.engines[i]);
      if (!specs) {
        AddError(node, fmt::format("engines[{}]: {}", i, specs.error().message));
        continue;
      }
      for (const model::EndpointSpec& spec : *specs) {
        if (!names.insert(spec.name).second) {
          AddError(node, fmt::format("engines[{}]: name '{}' is used twice", i, spec.name));
        }
        const std::string address = AddressOf(spec.host, spec.port);
        if (!addresses.insert(address).second) {
          AddError(node, fmt::format("engines[{}]: address {} is used twice", i, address));
        }
      }
    }
    if (names.size() > config_.limits.max_endpoints) {
      AddError(*nodes, fmt::format("engines: {} endpoints, more than limits.maxEndpoints {}",
                                   names.size(), config_.limits.max_endpoints));
    }
  }

  void CheckEngineTls() {
    const EngineTlsConfig& tls = config_.engine_tls;
    if (tls.certificate_file.empty() != tls.key_file.empty()) {
      AddError(*tree_.Find("engineTls"), "engineTls: certificateFile and keyFile go together");
    }
    if (!tls.insecure_skip_verify || (tls.ca_file.empty() && tls.server_name.empty())) return;
    diagnostics_->warnings.push_back(
        wire::At(diagnostics_->file, *tree_.Find("engineTls"),
                 "engineTls: insecureSkipVerify is on, so caFile and serverName have no effect"));
  }

  const wire::YamlNode& tree_;
  const ServeConfig& config_;
  Diagnostics* diagnostics_;
};

}  // namespace

Result<ServeConfig> LoadServeConfig(std::string_view text, std::string_view file_name,
                                    std::vector<std::string>* warnings) {
  const Result<wire::YamlNode> tree = wire::ParseYaml(text, file_name);
  if (!tree) return std::unexpected(tree.error());
  ServeConfig config;
  Diagnostics diagnostics{.file = std::string(file_name)};
  if (ParseInto(*tree, "", &config, &diagnostics)) {
    ServeChecker(*tree, config, &diagnostics).Run();
  }
  warnings->insert(warnings->end(), diagnostics.warnings.begin(), diagnostics.warnings.end());
  if (!diagnostics.errors.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}", fmt::join(diagnostics.errors, "\n")));
  }
  return config;
}

Result<EngineUrl> ParseEngineUrl(std::string_view url) {
  constexpr std::string_view kHttp = "http://";
  constexpr std::string_view kHttps = "https://";
  const bool is_https = EqualsIgnoreCase(url.substr(0, kHttps.size()), kHttps);
  if (!is_https && !EqualsIgnoreCase(url.substr(0, kHttp.size()), kHttp)) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("'{}' is no engine address; write http://HOST:PORT or https://HOST:PORT", url));
  }
  std::string_view authority = url.substr(is_https ? kHttps.size() : kHttp.size());
  if (authority.ends_with('/')) authority.remove_suffix(1);
  if (authority.find_first_of("/?#") != std::string_view::npos) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}': an engine address has no path; write http://HOST:PORT", url));
  }
  if (authority.find('@') != std::string_view::npos) {
    return Fail(Code::kInvalidArgument, "an engine address holds no user name or password");
  }
  constexpr uint16_t kHttpPort = 80;
  constexpr uint16_t kHttpsPort = 443;
  Result<HostPort> parsed = ParseHostPort(authority, is_https ? kHttpsPort : kHttpPort, url);
  if (!parsed) return std::unexpected(parsed.error());
  if (parsed->port == 0) {
    return Fail(Code::kOutOfRange, fmt::format("'{}': port 0 cannot be connected to", url));
  }
  return EngineUrl{is_https ? model::Scheme::kHttps : model::Scheme::kHttp, std::move(parsed->host),
                   parsed->port};
}

Result<HostPort> ParseListen(std::string_view text) { return ParseHostPort(text, 0, text); }

Result<std::vector<model::EndpointSpec>> ToEndpoints(const EngineConfig& engine) {
  const Result<EngineUrl> address = ParseEngineUrl(engine.url);
  if (!address) return std::unexpected(address.error());
  std::map<std::string, std::string> labels = engine.labels;
  if (auto added = AddLabel(labels, model::kRoleLabel, engine.role, "role"); !added) {
    return std::unexpected(added.error());
  }
  if (auto added = AddLabel(labels, model::kEngineTypeLabel, engine.engine_type, "engineType");
      !added) {
    return std::unexpected(added.error());
  }
  const uint32_t ranks = std::max(engine.ranks, 1u);
  const uint32_t last_port =
      std::max<uint32_t>({address->port, engine.metrics_port, engine.kv_events_port.value_or(0),
                          engine.kv_replay_port.value_or(0)}) +
      ranks - 1;
  if (last_port > 65535) {
    return Fail(Code::kOutOfRange,
                fmt::format("{} ranks from port {} end above 65535", ranks, last_port - ranks + 1));
  }
  std::vector<model::EndpointSpec> out;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    model::EndpointSpec spec;
    spec.host = address->host;
    spec.scheme = address->scheme;
    spec.port = static_cast<uint16_t>(address->port + rank);
    const auto shifted = [&](uint32_t port) {
      return static_cast<uint16_t>(port == 0 ? 0 : port + rank);
    };
    spec.metrics_port = shifted(engine.metrics_port);
    if (engine.kv_events_port) spec.kv_events_port = shifted(*engine.kv_events_port);
    if (engine.kv_replay_port) spec.kv_replay_port = shifted(*engine.kv_replay_port);
    spec.rank = static_cast<uint16_t>(rank);
    spec.name = engine.name.empty() ? AddressOf(spec.host, spec.port) : engine.name;
    if (ranks > 1 && !engine.name.empty()) spec.name += fmt::format("-rank-{}", rank);
    spec.labels.assign(labels.begin(), labels.end());
    out.push_back(std::move(spec));
  }
  return out;
}

Result<EngineConfig> ParseEngineFlag(std::string_view flag) {
  EngineConfig engine;
  wire::YamlNode settings;
  settings.kind = wire::YamlNode::Kind::kMap;
  std::map<std::string, std::string> labels;
  size_t start = flag.find(',');
  AddScalar(settings, "url", flag.substr(0, start), true);
  while (start != std::string_view::npos) {
    const size_t end = flag.find(',', start + 1);
    const std::string_view part = flag.substr(start + 1, end - start - 1);
    start = end;
    const size_t equals = part.find('=');
    if (equals == 0 || equals == std::string_view::npos) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("--engine: '{}' is not of the form KEY=VALUE", part));
    }
    const std::string_view key = part.substr(0, equals);
    const std::string_view value = part.substr(equals + 1);
    constexpr std::string_view kLabel = "label.";
    if (key.starts_with(kLabel) && key.size() > kLabel.size()) {
      labels[std::string(key.substr(kLabel.size()))] = value;
    } else if (settings.Find(key) != nullptr) {
      return Fail(Code::kInvalidArgument, fmt::format("--engine: '{}' is given twice", key));
    } else {
      AddScalar(settings, key, value, !key.ends_with("Port") && key != "ranks");
    }
  }
  Diagnostics diagnostics{.file = "--engine"};
  ParseInto(settings, "", &engine, &diagnostics);
  engine.labels = std::move(labels);
  if (!diagnostics.errors.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}", fmt::join(diagnostics.errors, "\n")));
  }
  if (auto endpoints = ToEndpoints(engine); !endpoints) {
    return Fail(endpoints.error().code, "--engine: " + endpoints.error().message);
  }
  return engine;
}

}  // namespace penstock::config
