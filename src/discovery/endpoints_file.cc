#include "discovery/endpoints_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "config/parse.h"
#include "config/serve_config.h"
#include "wire/yaml.h"

namespace penstock::discovery {
namespace {

constexpr size_t kMaxMessages = 20;

// The fields of another struct, none of them required.
template <class V>
struct OptionalFields {
  V& v;
  template <class T>
  void Field(std::string_view name, T& value, config::FieldDoc doc = {}) {
    doc.required = false;
    v.Field(name, value, doc);
  }
};

// One element of `endpoints`, in either shape.
struct Entry {
  config::EngineConfig engine;
  std::string name_space;
  std::string address;
  wire::YamlNode port;  // llm-d writes a text, people write a number

  template <class V>
  void Describe(V& v) {
    OptionalFields<V> fields{v};
    engine.Describe(fields);
    v.Field("namespace", name_space,
            {.text = "Goes before the name, NAMESPACE/NAME, unless it is \"default\"."});
    v.Field("address", address, {.text = "Host name or IP address, with `port` instead of url."});
    v.Field("port", port, {.text = "Port of the engine, with `address`."});
  }
};

struct Document {
  std::vector<Entry> endpoints;

  template <class V>
  void Describe(V& v) {
    v.Field("endpoints", endpoints,
            {.text = "The engines; [] when there are none.", .required = true});
  }
};

std::string JoinBounded(const std::vector<std::string>& messages) {
  const size_t shown = std::min(messages.size(), kMaxMessages);
  std::string out = fmt::format("{}", fmt::join(messages.begin(), messages.begin() + shown, "\n"));
  if (shown < messages.size()) out += fmt::format("\nand {} more", messages.size() - shown);
  return out;
}

// `address` and `port` as the url that they mean.
Result<std::string> UrlOf(const Entry& entry) {
  if (entry.address.empty()) {
    return Fail(Code::kInvalidArgument, "give url, or address and port");
  }
  if (entry.address.find_first_of("/@?#") != std::string::npos) {
    return Fail(Code::kInvalidArgument,
                fmt::format("address '{}' is not a host name or IP address", entry.address));
  }
  if (entry.port.kind != wire::YamlNode::Kind::kScalar) {
    return Fail(Code::kInvalidArgument, fmt::format("address '{}' needs a port", entry.address));
  }
  const bool is_bare_ipv6 =
      entry.address.find(':') != std::string::npos && !entry.address.starts_with('[');
  return is_bare_ipv6 ? fmt::format("http://[{}]:{}", entry.address, entry.port.scalar)
                      : fmt::format("http://{}:{}", entry.address, entry.port.scalar);
}

Result<std::vector<model::EndpointSpec>> SpecsOf(Entry entry) {
  const bool has_port = entry.port.kind != wire::YamlNode::Kind::kNull;
  if (entry.engine.url.empty()) {
    Result<std::string> url = UrlOf(entry);
    if (!url) return std::unexpected(url.error());
    entry.engine.url = std::move(*url);
  } else if (!entry.address.empty() || has_port) {
    return Fail(Code::kInvalidArgument, "give url, or address and port, not both");
  }
  if (!entry.name_space.empty() && entry.name_space != "default" && !entry.engine.name.empty()) {
    entry.engine.name = entry.name_space + "/" + entry.engine.name;
  }
  return config::ToEndpoints(entry.engine);
}

std::string AddressOf(const model::EndpointSpec& spec) {
  const bool is_ipv6 = spec.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_ipv6 ? "[" : "", spec.host, is_ipv6 ? "]" : "", spec.port);
}

}  // namespace

Result<EndpointsFile> ParseEndpointsFile(std::string_view text, std::string_view file_name) {
  const Result<wire::YamlNode> tree = wire::ParseYaml(text, file_name);
  if (!tree) return std::unexpected(tree.error());
  Document document;
  config::Diagnostics diagnostics{.file = std::string(file_name)};
  EndpointsFile out;
  if (config::ParseInto(*tree, "", &document, &diagnostics)) {
    const wire::YamlNode* nodes = tree->Find("endpoints");
    for (size_t i = 0; i < document.endpoints.size(); ++i) {
      const wire::YamlNode& node = nodes->items[i];
      Result<std::vector<model::EndpointSpec>> specs = SpecsOf(std::move(document.endpoints[i]));
      if (!specs) {
        diagnostics.errors.push_back(
            wire::At(file_name, node, fmt::format("endpoints[{}]: {}", i, specs.error().message)));
        continue;
      }
      const std::string source = fmt::format("{}:{}:{}", file_name, node.line, node.column);
      for (model::EndpointSpec& spec : *specs) out.endpoints.push_back({std::move(spec), source});
    }
  }
  if (!diagnostics.errors.empty()) {
    return Fail(Code::kInvalidArgument, JoinBounded(diagnostics.errors));
  }
  out.warnings = std::move(diagnostics.warnings);
  return out;
}

Result<std::vector<model::EndpointSpec>> Unite(const std::vector<SourcedEndpoint>& first,
                                               const std::vector<SourcedEndpoint>& second) {
  std::unordered_map<std::string, const SourcedEndpoint*> names;
  std::unordered_map<std::string, const SourcedEndpoint*> addresses;
  std::vector<std::string> clashes;
  std::vector<model::EndpointSpec> out;
  out.reserve(first.size() + second.size());
  for (const std::vector<SourcedEndpoint>* list : {&first, &second}) {
    for (const SourcedEndpoint& endpoint : *list) {
      const std::string address = AddressOf(endpoint.spec);
      const auto [by_address, is_new_address] = addresses.emplace(address, &endpoint);
      const auto [by_name, is_new_name] = names.emplace(endpoint.spec.name, &endpoint);
      if (!is_new_address) {
        const SourcedEndpoint& other = *by_address->second;
        clashes.push_back(fmt::format("{}: endpoint '{}' has the address {} of endpoint '{}' ({})",
                                      endpoint.source, endpoint.spec.name, address, other.spec.name,
                                      other.source));
      } else if (!is_new_name) {
        const SourcedEndpoint& other = *by_name->second;
        clashes.push_back(fmt::format(
            "{}: the endpoint at {} has the name '{}' of the endpoint at {} ({})", endpoint.source,
            address, endpoint.spec.name, AddressOf(other.spec), other.source));
      }
      out.push_back(endpoint.spec);
    }
  }
  if (!clashes.empty()) return Fail(Code::kAlreadyExists, JoinBounded(clashes));
  return out;
}

}  // namespace penstock::discovery
