// Reads a described struct from a YAML tree.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/describe.h"
#include "core/result.h"
#include "wire/yaml.h"

namespace penstock::config {

// Everything that is wrong is reported at once, a line each, as "FILE:LINE:COLUMN: sentence":
// unknown fields with the nearest known name, wrong types, values out of bounds, missing required
// fields.
struct Diagnostics {
  std::string file;
  std::vector<std::string> errors;
  std::vector<std::string> warnings;  // deprecated fields in use
};

// Fills `*out` from `node` (a map, or null for "all defaults"). `path` names the struct in
// messages. Returns false when errors were added. Fields that the tree does not name keep their
// values.
template <class T>
bool ParseInto(const wire::YamlNode& node, std::string_view path, T* out, Diagnostics* diagnostics);

}  // namespace penstock::config

#include "config/parse_impl.h"  // IWYU pragma: export
