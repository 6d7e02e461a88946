#include "sched/spec_yaml.h"

#include <algorithm>
#include <cctype>

#include "core/text.h"
#include "wire/json.h"

namespace penstock::sched {
namespace {

// Whether a scalar without quotes can stand so in any place, and means what it meant.
bool IsPlain(const std::string& scalar) {
  const auto is_alnum = [](unsigned char c) { return std::isalnum(c) != 0; };
  return std::any_of(scalar.begin(), scalar.end(), is_alnum) &&
         std::all_of(scalar.begin(), scalar.end(), [&](unsigned char c) {
           return is_alnum(c) || c == '.' || c == '+' || c == '-' || c == '_';
         });
}

void Write(const wire::YamlNode& node, wire::JsonWriter* json) {
  switch (node.kind) {
    case wire::YamlNode::Kind::kNull:
      json->Null();
      return;
    case wire::YamlNode::Kind::kScalar:
      if (!node.quoted && IsPlain(node.scalar)) {
        json->Raw(node.scalar);
      } else {
        json->Value(node.scalar);
      }
      return;
    case wire::YamlNode::Kind::kSequence:
      json->BeginArray();
      for (const wire::YamlNode& item : node.items) Write(item, json);
      json->EndArray();
      return;
    case wire::YamlNode::Kind::kMap:
      json->BeginObject();
      for (const wire::YamlEntry& entry : node.entries) {
        json->Key(entry.first.scalar);
        Write(entry.second, json);
      }
      json->EndObject();
      return;
  }
}

std::string Scalar(const wire::YamlNode& node) {
  if (node.kind != wire::YamlNode::Kind::kScalar) return ToYaml(node);
  if (!node.quoted && IsPlain(node.scalar)) return node.scalar;
  std::string text;
  wire::JsonWriter(&text).Value(node.scalar);
  return text;
}

// What a reader could take for a number or a truth value needs quotes.
bool LooksTyped(std::string_view text) {
  return text.empty() || std::isalpha(static_cast<unsigned char>(text.front())) == 0 ||
         EqualsIgnoreCase(text, "true") || EqualsIgnoreCase(text, "false") ||
         EqualsIgnoreCase(text, "null");
}

std::string Text(std::string_view text) {
  wire::YamlNode node;
  node.kind = wire::YamlNode::Kind::kScalar;
  node.scalar = text;
  node.quoted = LooksTyped(text);
  return Scalar(node);
}

bool IsNested(const wire::YamlNode& node) { return !node.items.empty() || !node.entries.empty(); }

// After "KEY:" or "-": the rest of the line and the lines below, which stand at `indent`.
void AppendValue(const wire::YamlNode& node, size_t indent, std::string* out) {
  if (!IsNested(node)) {
    *out += " " + Scalar(node) + "\n";
    return;
  }
  *out += '\n';
  for (const wire::YamlNode& item : node.items) {
    // A list's maps stand on one line: the settings that have some are short.
    *out += std::string(indent, ' ') + "- " + ToYaml(item) + "\n";
  }
  for (const auto& [key, value] : node.entries) {
    *out += std::string(indent, ' ') + Text(key.scalar) + ":";
    AppendValue(value, indent + 2, out);
  }
}

}  // namespace

std::string ToYaml(const wire::YamlNode& node) {
  std::string text;
  wire::JsonWriter json(&text);
  Write(node, &json);
  return text;
}

std::string ToYamlLines(const SchedulingSpec& spec, size_t indent) {
  const std::string pad(indent, ' ');
  std::string out = pad + "plugins:\n";
  for (const PluginSpec& plugin : spec.plugins) {
    out += pad + "- type: " + Text(plugin.type) + "\n";
    if (plugin.name != plugin.type) out += pad + "  name: " + Text(plugin.name) + "\n";
    if (plugin.parameters.kind == wire::YamlNode::Kind::kNull) continue;
    out += pad + "  parameters:";
    AppendValue(plugin.parameters, indent + 4, &out);
  }
  out += pad + "schedulingProfiles:\n";
  for (const ProfileSpec& profile : spec.profiles) {
    out += pad + "- name: " + Text(profile.name) + "\n" + pad + "  plugins:\n";
    for (const ProfileEntry& entry : profile.plugins) {
      out += pad + "  - pluginRef: " + Text(entry.plugin) + "\n";
      if (entry.weight == 1) continue;
      out += pad + "    weight: ";
      wire::JsonWriter(&out).Value(entry.weight);
      out += "\n";
    }
  }
  return out;
}

std::string ToYaml(const SchedulingSpec& spec) {
  std::string text;
  wire::JsonWriter json(&text);
  json.BeginObject().Key("plugins").BeginArray();
  for (const PluginSpec& plugin : spec.plugins) {
    json.BeginObject().Field("name", plugin.name).Field("type", plugin.type);
    if (plugin.parameters.kind != wire::YamlNode::Kind::kNull) {
      json.Key("parameters");
      Write(plugin.parameters, &json);
    }
    json.EndObject();
  }
  json.EndArray();
  if (!spec.attributes.empty()) {
    json.Key("attributes").BeginArray();
    for (const std::string& name : spec.attributes) json.Value(name);
    json.EndArray();
  }
  if (!spec.attributes.empty() && !spec.extractor.empty()) json.Field("extractor", spec.extractor);
  json.Key("schedulingProfiles").BeginArray();
  for (const ProfileSpec& profile : spec.profiles) {
    json.BeginObject().Field("name", profile.name).Key("plugins").BeginArray();
    for (const ProfileEntry& entry : profile.plugins) {
      json.BeginObject().Field("pluginRef", entry.plugin).Field("weight", entry.weight).EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray().EndObject();
  return text;
}

}  // namespace penstock::sched
