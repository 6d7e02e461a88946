// Any bytes as YAML: complaints say where, and every node of a tree knows its place.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wire/yaml.h"

namespace {

using penstock::wire::YamlNode;

constexpr size_t kMaxDepth = 64;

void Check(bool holds) {
  if (!holds) std::abort();
}

void CheckNode(const YamlNode& node, size_t depth) {
  Check(depth <= kMaxDepth);
  if (node.kind != YamlNode::Kind::kScalar) Check(node.scalar.empty() && !node.quoted);
  if (node.kind != YamlNode::Kind::kSequence) Check(node.items.empty());
  if (node.kind != YamlNode::Kind::kMap) Check(node.entries.empty());
  for (const YamlNode& item : node.items) CheckNode(item, depth + 1);
  for (const auto& [key, value] : node.entries) {
    Check(key.kind == YamlNode::Kind::kScalar && key.line > 0 && key.column > 0);
    Check(node.Find(key.scalar) == &value);  // no key twice
    CheckNode(value, depth + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto tree = penstock::wire::ParseYaml(text, "f");
  if (!tree) {
    Check(tree.error().message.starts_with("f:"));
    return 0;
  }
  CheckNode(*tree, 0);
  return 0;
}
