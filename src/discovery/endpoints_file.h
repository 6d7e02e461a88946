// The endpoints file (`endpointsFile`), YAML or JSON, in either of two shapes that may be mixed:
//
//   endpoints:
//   - {name: a, namespace: default, address: 10.0.0.1, port: "8000", labels: {zone: eu}}   # llm-d
//   - {url: http://10.0.0.2:8000, role: decode, ranks: 2}                        # as in `engines`
//
// An endpoint of another namespace than "default" is called NAMESPACE/NAME.
//
// SOURCE: llm-d's file-discovery and multicluster-file-discovery plugins.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/endpoint.h"

namespace penstock::discovery {

// wire::ParseYaml takes no more either.
inline constexpr size_t kMaxEndpointsFileBytes = 4u << 20;

// An endpoint and where it was told: "endpoints.yaml:3:3", or "engine 2 of the configuration".
struct SourcedEndpoint {
  model::EndpointSpec spec;
  std::string source;
};

struct EndpointsFile {
  std::vector<SourcedEndpoint> endpoints;  // in file order; ranks one by one
  std::vector<std::string> warnings;       // deprecated fields in use
};

// All that is wrong is told at once, a line each, as "FILE:LINE:COLUMN: sentence". A file without
// the key `endpoints` is an error, so that a file that is just being written does not empty the
// pool; `endpoints: []` is none.
Result<EndpointsFile> ParseEndpointsFile(std::string_view text, std::string_view file_name);

// The specs of all lists. Two endpoints with one name or one address are an error that tells both
// sources, whichever lists they stand in.
Result<std::vector<model::EndpointSpec>> Unite(const std::vector<SourcedEndpoint>& first,
                                               const std::vector<SourcedEndpoint>& second);

}  // namespace penstock::discovery
