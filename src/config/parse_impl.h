// How config/parse.h walks a described struct. Only the walk is a template; everything that judges
// a value is in parse.cc.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/parse.h"
#include "core/time.h"

namespace penstock::config {

// A value's place: what it is called in messages, what its field declares, where errors go.
struct ReadContext {
  std::string path;
  const FieldDoc& doc;
  Diagnostics* diagnostics;

  bool Fail(const wire::YamlNode& node, std::string_view sentence) const;
};

// Each returns false, with an error added, when the node is not a value of that type within the
// field's bounds. Null is never a value: a field that is null counts as not given.
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, bool* out);
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, double* out);
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, std::string* out);
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, Duration* out);
bool ReadInto(const ReadContext& context, const wire::YamlNode& node,
              std::map<std::string, std::string>* out);
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, wire::YamlNode* out);
bool ReadSigned(const ReadContext& context, const wire::YamlNode& node, int64_t min, int64_t max,
                int64_t* out);
bool ReadUnsigned(const ReadContext& context, const wire::YamlNode& node, uint64_t max,
                  uint64_t* out);
// Whether the node is a sequence; an error if not.
bool ExpectSequence(const ReadContext& context, const wire::YamlNode& node);

template <std::integral T>
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, T* out) {
  if constexpr (std::is_signed_v<T>) {
    int64_t value = 0;
    if (!ReadSigned(context, node, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(),
                    &value)) {
      return false;
    }
    *out = static_cast<T>(value);
  } else {
    uint64_t value = 0;
    if (!ReadUnsigned(context, node, std::numeric_limits<T>::max(), &value)) return false;
    *out = static_cast<T>(value);
  }
  return true;
}

template <class T>
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, std::vector<T>* out);
template <class T>
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, std::optional<T>* out);
template <class T>
requires std::is_class_v<T>
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, T* out);

// The visitor that Describe is called with: gives each field its value from a map and, in Finish,
// complains about the keys that no field took.
class StructReader {
 public:
  // `node` must be a map or null; anything else is an error and reads as empty.
  StructReader(const wire::YamlNode& node, std::string_view path, Diagnostics* diagnostics);

  template <class T>
  void Field(std::string_view name, T& value, const FieldDoc& doc = {}) {
    const wire::YamlNode* node = Take(name, doc);
    if (node == nullptr) return;
    if (!ReadInto(ReadContext{PathOf(name), doc, diagnostics_}, *node, &value)) ok_ = false;
  }

  // True when the whole struct was read without an error.
  bool Finish();

 private:
  // The value of field `name`, or nullptr when it is absent or null.
  const wire::YamlNode* Take(std::string_view name, const FieldDoc& doc);
  std::string PathOf(std::string_view name) const;
  void AddError(const wire::YamlNode& node, std::string_view sentence);

  const wire::YamlNode& node_;
  std::string path_;
  Diagnostics* diagnostics_;
  std::vector<std::string_view> known_;
  bool has_fields_ = false;  // a map, or null for an empty one
  bool ok_ = true;
};

template <class T>
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, std::vector<T>* out) {
  if (!ExpectSequence(context, node)) return false;
  std::vector<T> items;
  bool ok = true;
  for (size_t i = 0; i < node.items.size(); ++i) {
    const ReadContext item{context.path + "[" + std::to_string(i) + "]", context.doc,
                           context.diagnostics};
    T value{};
    if (!ReadInto(item, node.items[i], &value)) ok = false;
    items.push_back(std::move(value));
  }
  *out = std::move(items);
  return ok;
}

template <class T>
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, std::optional<T>* out) {
  T value{};
  if (!ReadInto(context, node, &value)) return false;
  *out = std::move(value);
  return true;
}

template <class T>
requires std::is_class_v<T>
bool ReadInto(const ReadContext& context, const wire::YamlNode& node, T* out) {
  StructReader reader(node, context.path, context.diagnostics);
  out->Describe(reader);
  return reader.Finish();
}

template <class T>
bool ParseInto(const wire::YamlNode& node, std::string_view path, T* out,
               Diagnostics* diagnostics) {
  StructReader reader(node, path, diagnostics);
  out->Describe(reader);
  return reader.Finish();
}

}  // namespace penstock::config
