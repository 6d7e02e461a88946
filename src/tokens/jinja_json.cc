// json.dumps as the filter `tojson` calls it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

struct Style {
  bool ascii = false;
  bool sorts_keys = false;
  bool has_indent = false;
  std::string indent;
  std::string_view item_separator = ", ";
  std::string_view key_separator = ": ";
};

class JsonDump {
 public:
  JsonDump(Runtime& runtime, const Style& style) : runtime_(runtime), style_(style) {}

  bool Append(const Value& value, size_t depth) {
    if (!runtime_.Charge(1)) return false;
    if (depth > runtime_.limits().value_depth || out_.size() > runtime_.limits().heap_bytes) {
      runtime_.Fail("a value is too deep or too large for JSON", Code::kResourceExhausted);
      return false;
    }
    switch (value.kind) {
      case Kind::kNone:
        out_ += "null";
        return true;
      case Kind::kBool:
        out_ += value.boolean ? "true" : "false";
        return true;
      case Kind::kInt:
        fmt::format_to(std::back_inserter(out_), "{}", value.integer);
        return true;
      case Kind::kFloat:
        AppendNumber(value.number);
        return true;
      case Kind::kString:
        AppendText(value.str());
        return runtime_.ChargeBytes(value.size);
      case Kind::kList:
      case Kind::kTuple:
        return AppendList(value.list->all(), depth);
      case Kind::kDict:
        return AppendDict(*value.dict, depth);
      default:
        runtime_.Fail(fmt::format("Object of type {} is not JSON serializable", TypeName(value)));
        return false;
    }
  }

  std::string& out() { return out_; }

 private:
  void AppendNumber(double number) {
    if (std::isnan(number)) {
      out_ += "NaN";
    } else if (std::isinf(number)) {
      out_ += number < 0 ? "-Infinity" : "Infinity";
    } else {
      AppendFloat(number, &out_);
    }
  }

  void AppendUnit(uint32_t unit) { fmt::format_to(std::back_inserter(out_), "\\u{:04x}", unit); }

  void AppendText(std::string_view text) {
    out_.push_back('"');
    size_t plain = 0;  // from here on nothing is written yet
    for (size_t at = 0; at < text.size();) {
      const auto byte = static_cast<uint8_t>(text[at]);
      if (byte >= 0x20 && byte != '"' && byte != '\\' && (!style_.ascii || byte < 0x7f)) {
        ++at;
        continue;
      }
      out_.append(text.substr(plain, at - plain));
      const auto c = static_cast<uint32_t>(NextCharacter(text, &at));
      plain = at;
      constexpr std::string_view kFrom = "\"\\\n\r\t\f\b", kTo = "\"\\nrtfb";
      const size_t known = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos;
      if (known != std::string_view::npos) {
        out_.push_back('\\');
        out_.push_back(kTo[known]);
      } else if (c >= 0x10000) {
        AppendUnit(0xd800 + ((c - 0x10000) >> 10));
        AppendUnit(0xdc00 + ((c - 0x10000) & 0x3ff));
      } else {
        AppendUnit(c);
      }
    }
    out_.append(text.substr(plain));
    out_.push_back('"');
  }

  bool AppendKey(const Value& key) {
    switch (key.kind) {
      case Kind::kString:
        AppendText(key.str());
        return runtime_.ChargeBytes(key.size);
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kFloat:
        out_.push_back('"');
        if (!Append(key, 0)) return false;
        out_.push_back('"');
        return true;
      default:
        runtime_.Fail(
            fmt::format("keys must be str, int, float, bool or None, not {}", TypeName(key)));
        return false;
    }
  }

  void Break(size_t depth) {
    if (!style_.has_indent) return;
    out_.push_back('\n');
    for (size_t i = 0; i < depth; ++i) out_ += style_.indent;
  }

  bool AppendList(std::span<const Value> items, size_t depth) {
    out_.push_back('[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      Break(depth + 1);
      if (!Append(items[i], depth + 1)) return false;
    }
    if (!items.empty()) Break(depth);
    out_.push_back(']');
    return true;
  }

  bool AppendDict(const Dict& dict, size_t depth) {
    std::vector<const Entry*> entries;
    entries.reserve(dict.size);
    for (const Entry& entry : dict.all()) entries.push_back(&entry);
    if (style_.sorts_keys) {
      std::ranges::stable_sort(entries, [this](const Entry* a, const Entry* b) {
        bool less = false;
        return !runtime_.has_failed() && Less(runtime_, a->key, b->key, &less) && less;
      });
      if (runtime_.has_failed()) return false;
    }
    out_.push_back('{');
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      Break(depth + 1);
      if (!AppendKey(entries[i]->key)) return false;
      out_ += style_.key_separator;
      if (!Append(entries[i]->value, depth + 1)) return false;
    }
    if (!entries.empty()) Break(depth);
    out_.push_back('}');
    return true;
  }

  Runtime& runtime_;
  const Style& style_;
  std::string out_;
};

constexpr int64_t kMaxIndent = 64;

bool ReadStyle(Runtime& runtime, const Bound& bound, Style* style) {
  style->ascii = bound.Flag(0, false);
  style->sorts_keys = bound.Flag(3, false);
  if (!bound.IsNone(1)) {
    const Value& indent = *bound[1];
    style->has_indent = true;
    if (indent.is_string()) {
      style->indent = indent.str();
    } else if (indent.is_integral()) {
      style->indent.assign(static_cast<size_t>(std::clamp<int64_t>(indent.as_int(), 0, kMaxIndent)),
                           ' ');
    }
    if ((!indent.is_string() && !indent.is_integral()) || style->indent.size() > kMaxIndent ||
        (indent.is_integral() && indent.as_int() > kMaxIndent)) {
      runtime.Fail(
          fmt::format("tojson's indent must be a text or number of at most {}", kMaxIndent));
      return false;
    }
    style->item_separator = ",";
  }
  if (bound.IsNone(2)) return true;
  std::span<const Value> separators;
  if (!Elements(runtime, *bound[2], &separators)) return false;
  if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string()) {
    runtime.Fail("tojson's separators must be two texts");
    return false;
  }
  style->item_separator = separators[0].str();
  style->key_separator = separators[1].str();
  return true;
}

}  // namespace

Value ToJson(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "tojson", arguments,
                    {"ensure_ascii", "indent", "separators", "sort_keys"});
  Style style;
  if (!bound.ok() || !ReadStyle(runtime, bound, &style)) return Value::Failed();
  JsonDump dump(runtime, style);
  if (!dump.Append(input, 0)) return Value::Failed();
  return runtime.MakeString(dump.out());
}

}  // namespace penstock::tokens::jinja
