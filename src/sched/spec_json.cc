#include "sched/spec_json.h"

#include "wire/json.h"
#include "wire/json_scan.h"

namespace penstock::sched {
namespace {

// Whether a scalar that stood without quotes means the same as JSON.
bool IsJson(const std::string& scalar) {
  wire::JsonScanner json(scalar);
  const auto kind = json.Peek();
  using Kind = wire::JsonScanner::Kind;
  if (kind != Kind::kNumber && kind != Kind::kBool && kind != Kind::kNull) return false;
  return json.Skip() && json.Finish();
}

void Write(const wire::YamlNode& node, wire::JsonWriter* json) {
  switch (node.kind) {
    case wire::YamlNode::Kind::kNull:
      json->Null();
      return;
    case wire::YamlNode::Kind::kScalar:
      if (!node.quoted && IsJson(node.scalar)) {
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

std::string ToJson(const SchedulingSpec& spec) {
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
