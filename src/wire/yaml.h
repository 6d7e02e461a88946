// YAML (and JSON, its subset) as a tree that remembers where every node stood, so that every
// complaint about a configuration can say file:line:column. Duplicate keys, merge keys (<<),
// anchors with cycles and documents after the first are errors; scalars stay text and are typed
// strictly by the reader.
//
// SOURCE: https://yaml.org/spec/1.2.2/ ; parsing by yaml-cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace penstock::wire {

struct YamlEntry;

struct YamlNode {
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  bool quoted = false;  // a quoted scalar is a text whatever it looks like
  uint32_t line = 0;    // 1-based; 0: not from a file
  uint32_t column = 0;  // 1-based
  std::string scalar;
  std::vector<YamlNode> items;     // of a sequence
  std::vector<YamlEntry> entries;  // of a map, in file order

  // The value under `key`, or nullptr.
  const YamlNode* Find(std::string_view key) const;
};

// Not std::pair, which clang cannot make of a type that holds it.
struct YamlEntry {
  YamlNode first;   // the key
  YamlNode second;  // the value
};

inline constexpr size_t kMaxYamlBytes = 4u << 20;
// Limits: kMaxYamlBytes of text, 64 levels, 200,000 nodes. Errors read "FILE:LINE:COLUMN: what".
Result<YamlNode> ParseYaml(std::string_view text, std::string_view file_name);

// "FILE:LINE:COLUMN: message" for a node of that file.
std::string At(std::string_view file_name, const YamlNode& node, std::string_view message);

}  // namespace penstock::wire
