// Lists the fields of a described struct, for the generated reference and the JSON schema.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/describe.h"

namespace penstock::config {

struct FieldRow {
  std::string path;           // "scheduling.profiles[].name"
  std::string type;           // "number", "text", "duration", "list of text", ...
  std::string default_value;  // as one would write it in YAML; "" for none
  std::string bounds;         // "0 to 1", "one of: a, b", or ""
  std::string unit;
  std::string text;
  bool required = false;
  bool live = false;  // takes effect while running
  std::string deprecated;
};

// Depth-first, in the order of declaration. Defaults come from a default-constructed T.
template <class T>
std::vector<FieldRow> Fields(std::string_view prefix = {});

// The same as a JSON schema (draft 2020-12), indented, with a newline at the end.
template <class T>
std::string JsonSchema(std::string_view title);

}  // namespace penstock::config

#include "config/document_impl.h"  // IWYU pragma: export
