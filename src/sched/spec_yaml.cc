#include "sched/spec_yaml.h"

#include <algorithm>
#include <cctype>

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

}  // namespace

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
  json.EndArray().Key("schedulingProfiles").BeginArray();
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
