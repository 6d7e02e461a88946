// How config/document.h walks a described struct: into a tree of shapes, from which parse-free
// code in document.cc makes the rows and the JSON schema.
#pragma once

#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "config/document.h"
#include "core/time.h"
#include "wire/yaml.h"

namespace penstock::config {

struct FieldShape {
  enum class Type { kBool, kInteger, kNumber, kText, kDuration, kTextMap, kAny, kStruct, kList };
  Type type = Type::kAny;
  std::string default_value;  // as in YAML; "" for none
  double type_min = 0;        // of integers: what the C++ type holds
  std::string name;           // of a field; "" for a list's element
  FieldDoc doc;
  std::vector<FieldShape> children;  // fields of a struct; the one element of a list
};

FieldShape ShapeOf(const bool& value);
FieldShape ShapeOf(const double& value);
FieldShape ShapeOf(const std::string& value);
FieldShape ShapeOf(const Duration& value);
FieldShape ShapeOf(const std::map<std::string, std::string>& value);
FieldShape ShapeOf(const wire::YamlNode& value);
FieldShape IntegerShape(std::string value, double type_min);
// A list whose element has that shape; `defaults` are the shapes of the default's elements.
FieldShape ListShape(FieldShape element, const std::vector<FieldShape>& defaults);

template <std::integral T>
FieldShape ShapeOf(const T& value) {
  return IntegerShape(std::to_string(value), static_cast<double>(std::numeric_limits<T>::min()));
}
template <class T>
FieldShape ShapeOf(const std::vector<T>& value);
template <class T>
FieldShape ShapeOf(const std::optional<T>& value);
template <class T>
requires std::is_class_v<T> FieldShape ShapeOf(const T& value);

// The visitor that Describe is called with.
class ShapeLister {
 public:
  template <class T>
  void Field(std::string_view name, T& value, const FieldDoc& doc = {}) {
    FieldShape shape = ShapeOf(std::as_const(value));
    shape.name = name;
    shape.doc = doc;
    fields.push_back(std::move(shape));
  }
  std::vector<FieldShape> fields;
};

template <class T>
FieldShape ShapeOf(const std::vector<T>& value) {
  std::vector<FieldShape> defaults;
  for (const T& item : value) defaults.push_back(ShapeOf(item));
  return ListShape(ShapeOf(T{}), defaults);
}

template <class T>
FieldShape ShapeOf(const std::optional<T>& value) {
  FieldShape shape = ShapeOf(value ? *value : T{});
  if (!value) shape.default_value.clear();
  return shape;
}

template <class T>
requires std::is_class_v<T> FieldShape ShapeOf(const T& value) {
  ShapeLister lister;
  T(value).Describe(lister);
  FieldShape shape;
  shape.type = FieldShape::Type::kStruct;
  shape.children = std::move(lister.fields);
  return shape;
}

std::vector<FieldRow> RowsOf(const FieldShape& shape, std::string_view prefix);
std::string SchemaOf(const FieldShape& shape, std::string_view title);

template <class T>
std::vector<FieldRow> Fields(std::string_view prefix) {
  return RowsOf(ShapeOf(T{}), prefix);
}

template <class T>
std::string JsonSchema(std::string_view title) {
  return SchemaOf(ShapeOf(T{}), title);
}

}  // namespace penstock::config
