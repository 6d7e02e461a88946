#include "config/document.h"

#include <fmt/format.h>

#include <cmath>

#include "config/duration.h"

namespace penstock::config {
namespace {

using Type = FieldShape::Type;

FieldShape Shape(Type type, std::string default_value) {
  FieldShape shape;
  shape.type = type;
  shape.default_value = std::move(default_value);
  return shape;
}

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string TypeName(const FieldShape& shape) {
  switch (shape.type) {
    case Type::kBool:
      return "true or false";
    case Type::kInteger:
      return "whole number";
    case Type::kNumber:
      return "number";
    case Type::kText:
      return "text";
    case Type::kDuration:
      return "duration";
    case Type::kTextMap:
      return "map of texts";
    case Type::kAny:
      return "any";
    case Type::kStruct:
      return "map";
    case Type::kList:
      return "list of " + TypeName(shape.children.front());
  }
  return "any";
}

std::string Bound(const FieldShape& shape, double value) {
  return shape.type == Type::kDuration ? FormatDuration(FromSeconds(value))
                                       : fmt::format("{}", value);
}

std::string Bounds(const FieldShape& shape) {
  const FieldDoc& doc = shape.doc;
  if (!doc.one_of.empty()) return fmt::format("one of: {}", fmt::join(doc.one_of, ", "));
  const bool has_min = std::isfinite(doc.min);
  const bool has_max = std::isfinite(doc.max);
  if (has_min && has_max) return Bound(shape, doc.min) + " to " + Bound(shape, doc.max);
  if (has_min) return "at least " + Bound(shape, doc.min);
  if (has_max) return "at most " + Bound(shape, doc.max);
  return "";
}

void AddRows(const FieldShape& shape, const std::string& path, std::vector<FieldRow>* rows) {
  for (const FieldShape& field : shape.children) {
    FieldRow row;
    row.path = path.empty() ? field.name : path + "." + field.name;
    row.type = TypeName(field);
    row.default_value = field.default_value;
    row.bounds = Bounds(field);
    row.unit = field.doc.unit;
    row.text = field.doc.text;
    row.required = field.doc.required;
    row.live = field.doc.reload == Reload::kLive;
    row.deprecated = field.doc.deprecated;
    rows->push_back(row);
    if (field.type == Type::kStruct) AddRows(field, row.path, rows);
    if (field.type == Type::kList && field.children.front().type == Type::kStruct) {
      AddRows(field.children.front(), row.path + "[]", rows);
    }
  }
}

// Writes a schema as indented JSON. Members are given as finished texts.
class SchemaWriter {
 public:
  std::string Write(const FieldShape& shape, const FieldDoc& doc, std::string_view title,
                    int depth) {
    std::vector<std::string> members;
    const auto add = [&](std::string_view key, std::string value) {
      members.push_back(JsonString(key) + ": " + std::move(value));
    };
    if (depth == 0) {
      add("$schema", JsonString("https://json-schema.org/draft/2020-12/schema"));
      add("title", JsonString(title));
    }
    if (!doc.text.empty()) add("description", JsonString(doc.text));
    AddType(shape, doc, depth, add);
    if (!shape.default_value.empty()) add("default", DefaultOf(shape));
    if (!doc.deprecated.empty()) add("deprecated", "true");
    return Object(members, depth);
  }

 private:
  template <class Add>
  void AddType(const FieldShape& shape, const FieldDoc& doc, int depth, const Add& add) {
    switch (shape.type) {
      case Type::kBool:
        add("type", JsonString("boolean"));
        break;
      case Type::kInteger:
      case Type::kNumber:
        add("type", JsonString(shape.type == Type::kInteger ? "integer" : "number"));
        AddNumberBounds(shape, doc, add);
        break;
      case Type::kText:
        add("type", JsonString("string"));
        if (!doc.one_of.empty()) add("enum", Enumeration(doc));
        break;
      case Type::kDuration:
        add("type", "[\"string\", \"number\"]");
        break;
      case Type::kTextMap:
        add("type", JsonString("object"));
        add("additionalProperties", "{\"type\": \"string\"}");
        break;
      case Type::kAny:
        break;
      case Type::kStruct:
        AddStruct(shape, depth, add);
        break;
      case Type::kList:
        add("type", JsonString("array"));
        add("items", Write(shape.children.front(), ElementDoc(doc), "", depth + 1));
        break;
    }
  }

  // A list's bounds hold for its elements; its text does not.
  static FieldDoc ElementDoc(FieldDoc doc) {
    doc.text = {};
    doc.deprecated = {};
    return doc;
  }

  template <class Add>
  static void AddNumberBounds(const FieldShape& shape, const FieldDoc& doc, const Add& add) {
    if (std::isfinite(doc.min)) {
      add("minimum", fmt::format("{}", doc.min));
    } else if (shape.type == Type::kInteger && shape.type_min == 0) {
      add("minimum", "0");
    }
    if (std::isfinite(doc.max)) add("maximum", fmt::format("{}", doc.max));
  }

  template <class Add>
  void AddStruct(const FieldShape& shape, int depth, const Add& add) {
    add("type", JsonString("object"));
    std::vector<std::string> properties;
    std::vector<std::string> required;
    for (const FieldShape& field : shape.children) {
      properties.push_back(JsonString(field.name) + ": " + Write(field, field.doc, "", depth + 2));
      if (field.doc.required) required.push_back(JsonString(field.name));
    }
    add("properties", Object(properties, depth + 1));
    if (!required.empty()) add("required", fmt::format("[{}]", fmt::join(required, ", ")));
    add("additionalProperties", "false");
  }

  static std::string Enumeration(const FieldDoc& doc) {
    std::vector<std::string> words;
    for (const std::string_view word : doc.one_of) words.push_back(JsonString(word));
    return fmt::format("[{}]", fmt::join(words, ", "));
  }

  // Default texts are already quoted; durations are not.
  static std::string DefaultOf(const FieldShape& shape) {
    return shape.type == Type::kDuration ? JsonString(shape.default_value) : shape.default_value;
  }

  static std::string Object(const std::vector<std::string>& members, int depth) {
    if (members.empty()) return "{}";
    const std::string indent(static_cast<size_t>(depth + 1) * 2, ' ');
    std::string out = "{\n";
    for (size_t i = 0; i < members.size(); ++i) {
      out += indent + members[i] + (i + 1 < members.size() ? ",\n" : "\n");
    }
    return out + std::string(static_cast<size_t>(depth) * 2, ' ') + "}";
  }
};

}  // namespace

FieldShape ShapeOf(const bool& value) { return Shape(Type::kBool, value ? "true" : "false"); }
FieldShape ShapeOf(const double& value) { return Shape(Type::kNumber, fmt::format("{}", value)); }
FieldShape ShapeOf(const std::string& value) { return Shape(Type::kText, JsonString(value)); }
FieldShape ShapeOf(const Duration& value) { return Shape(Type::kDuration, FormatDuration(value)); }
FieldShape ShapeOf(const std::map<std::string, std::string>& value) {
  std::vector<std::string> entries;
  for (const auto& [key, text] : value) {
    entries.push_back(JsonString(key) + ": " + JsonString(text));
  }
  return Shape(Type::kTextMap,
               entries.empty() ? "" : fmt::format("{{{}}}", fmt::join(entries, ", ")));
}
FieldShape ShapeOf(const wire::YamlNode&) { return Shape(Type::kAny, ""); }

FieldShape IntegerShape(std::string value, double type_min) {
  FieldShape shape = Shape(Type::kInteger, std::move(value));
  shape.type_min = type_min;
  return shape;
}

FieldShape ListShape(FieldShape element, const std::vector<FieldShape>& defaults) {
  std::vector<std::string> items;
  for (const FieldShape& item : defaults) {
    if (!item.default_value.empty()) items.push_back(item.default_value);
  }
  element.default_value.clear();
  FieldShape shape =
      Shape(Type::kList, items.empty() ? "" : fmt::format("[{}]", fmt::join(items, ", ")));
  shape.children.push_back(std::move(element));
  return shape;
}

std::vector<FieldRow> RowsOf(const FieldShape& shape, std::string_view prefix) {
  std::vector<FieldRow> rows;
  AddRows(shape, std::string(prefix), &rows);
  return rows;
}

std::string SchemaOf(const FieldShape& shape, std::string_view title) {
  return SchemaWriter().Write(shape, FieldDoc{}, title, 0) + "\n";
}

}  // namespace penstock::config
