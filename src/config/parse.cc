#include "config/parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "config/duration.h"
#include "core/text.h"

namespace penstock::config {
namespace {

using wire::YamlNode;

std::string_view KindWord(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kScalar:
      break;
  }
  return node.quoted ? "a text" : "a scalar";
}

// What the node holds, for messages: the value itself when it is short.
std::string Shown(const YamlNode& node) {
  if (node.kind != YamlNode::Kind::kScalar) return std::string(KindWord(node));
  constexpr size_t kMaxShown = 60;
  std::string text(Utf8Prefix(node.scalar, kMaxShown));
  if (text.size() < node.scalar.size()) text += "...";
  return node.quoted ? "\"" + text + "\"" : "'" + text + "'";
}

bool IsPlain(const YamlNode& node) { return node.kind == YamlNode::Kind::kScalar && !node.quoted; }

// The number forms of YAML 1.2's core schema; a leading zero, which older readers take for octal,
// is refused.
std::optional<uint64_t> ParseMagnitude(std::string_view s) {
  int base = 10;
  if (s.starts_with("0x")) base = 16;
  if (s.starts_with("0o")) base = 8;
  if (base != 10) s.remove_prefix(2);
  if (s.empty() || (base == 10 && s.size() > 1 && s[0] == '0')) return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value, base);
  if (error != std::errc() || end != s.data() + s.size() || s[0] == '-') return std::nullopt;
  return value;
}

// "64MiB", "10MB": a whole number and a unit.
std::optional<uint64_t> ParseSize(std::string_view s) {
  static constexpr std::array<std::pair<std::string_view, uint64_t>, 8> kUnits = {
      {{"KiB", 1ull << 10},
       {"MiB", 1ull << 20},
       {"GiB", 1ull << 30},
       {"TiB", 1ull << 40},
       {"KB", 1'000},
       {"MB", 1'000'000},
       {"GB", 1'000'000'000},
       {"TB", 1'000'000'000'000}}};
  for (const auto& [name, factor] : kUnits) {
    if (!s.ends_with(name)) continue;
    const auto count = ParseUint(TrimSpace(s.substr(0, s.size() - name.size())));
    if (!count || *count > std::numeric_limits<uint64_t>::max() / factor) return std::nullopt;
    return *count * factor;
  }
  return std::nullopt;
}

std::optional<double> ParseReal(std::string_view s) {
  if (s.starts_with('+')) {
    s.remove_prefix(1);
    if (s.starts_with('-')) return std::nullopt;
  }
  if (const auto whole = ParseMagnitude(s)) return static_cast<double>(*whole);
  // std::from_chars would also read "infinity" and "nan".
  if (s.find_first_not_of("0123456789+-.eE") != std::string_view::npos) return std::nullopt;
  return ParseDouble(s);
}

// Whether plain `s` is something else than a text under YAML 1.2's core schema.
bool LooksTyped(std::string_view s) {
  static constexpr std::array<std::string_view, 15> kWords = {
      "true", "True", "TRUE", "false", "False", "FALSE", ".inf", ".Inf",
      ".INF", ".nan", ".NaN", ".NAN",  "-.inf", "-.Inf", "-.INF"};
  if (std::find(kWords.begin(), kWords.end(), s) != kWords.end()) return true;
  const std::string_view digits = !s.empty() && (s[0] == '-' || s[0] == '+') ? s.substr(1) : s;
  return ParseReal(digits).has_value();
}

bool CheckBounds(const ReadContext& context, const YamlNode& node, double value,
                 std::string_view unit) {
  if (value < context.doc.min) {
    return context.Fail(
        node, fmt::format("{} is below the minimum {}{}", Shown(node), context.doc.min, unit));
  }
  if (value > context.doc.max) {
    return context.Fail(
        node, fmt::format("{} is above the maximum {}{}", Shown(node), context.doc.max, unit));
  }
  return true;
}

std::string JoinQuoted(const std::vector<std::string_view>& words) {
  return fmt::format("'{}'", fmt::join(words, "', '"));
}

}  // namespace

bool ReadContext::Fail(const YamlNode& node, std::string_view sentence) const {
  diagnostics->errors.push_back(
      wire::At(diagnostics->file, node, fmt::format("{}: {}", path, sentence)));
  return false;
}

bool ReadInto(const ReadContext& context, const YamlNode& node, bool* out) {
  if (!IsPlain(node) || (node.scalar != "true" && node.scalar != "false")) {
    return context.Fail(node, fmt::format("must be true or false, not {}", Shown(node)));
  }
  *out = node.scalar == "true";
  return true;
}

bool ReadInto(const ReadContext& context, const YamlNode& node, double* out) {
  const std::optional<double> value = IsPlain(node) ? ParseReal(node.scalar) : std::nullopt;
  if (!value) return context.Fail(node, fmt::format("must be a number, not {}", Shown(node)));
  if (!CheckBounds(context, node, *value, "")) return false;
  *out = *value;
  return true;
}

bool ReadSigned(const ReadContext& context, const YamlNode& node, int64_t min, int64_t max,
                int64_t* out) {
  std::string_view digits = IsPlain(node) ? std::string_view(node.scalar) : std::string_view();
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  const std::optional<uint64_t> magnitude = ParseMagnitude(digits);
  constexpr uint64_t kMaxPositive = std::numeric_limits<int64_t>::max();
  if (!magnitude || *magnitude > kMaxPositive) {
    return context.Fail(node, fmt::format("must be a whole number, not {}", Shown(node)));
  }
  const int64_t value =
      negative ? -static_cast<int64_t>(*magnitude) : static_cast<int64_t>(*magnitude);
  if (value < min || value > max) {
    return context.Fail(node, fmt::format("{} is not between {} and {}", value, min, max));
  }
  if (!CheckBounds(context, node, static_cast<double>(value), "")) return false;
  *out = value;
  return true;
}

bool ReadUnsigned(const ReadContext& context, const YamlNode& node, uint64_t max, uint64_t* out) {
  const bool is_size = context.doc.unit == "bytes";
  std::string_view digits = IsPlain(node) ? std::string_view(node.scalar) : std::string_view();
  if (digits.starts_with('+')) digits.remove_prefix(1);
  std::optional<uint64_t> value = ParseMagnitude(digits);
  if (!value && is_size && node.kind == YamlNode::Kind::kScalar) value = ParseSize(node.scalar);
  if (!value && is_size) {
    return context.Fail(
        node, fmt::format("must be a size such as 65536, 64KiB or 1GB, not {}", Shown(node)));
  }
  if (!value) {
    const char* what = digits.starts_with('-') ? "0 or a positive whole number" : "a whole number";
    return context.Fail(node, fmt::format("must be {}, not {}", what, Shown(node)));
  }
  if (*value > max) {
    return context.Fail(node, fmt::format("{} is above {}", *value, max));
  }
  if (!CheckBounds(context, node, static_cast<double>(*value), "")) return false;
  *out = *value;
  return true;
}

bool ReadInto(const ReadContext& context, const YamlNode& node, std::string* out) {
  if (node.kind != YamlNode::Kind::kScalar) {
    return context.Fail(node, fmt::format("must be a text, not {}", KindWord(node)));
  }
  if (!node.quoted && LooksTyped(node.scalar)) {
    return context.Fail(
        node, fmt::format("must be a text, not {}; write \"{}\"", Shown(node), node.scalar));
  }
  const auto& allowed = context.doc.one_of;
  if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), node.scalar) == allowed.end()) {
    return context.Fail(node, fmt::format("{} is not one of {}{}", Shown(node), JoinQuoted(allowed),
                                          DidYouMean(node.scalar, allowed)));
  }
  *out = node.scalar;
  return true;
}

bool ReadInto(const ReadContext& context, const YamlNode& node, Duration* out) {
  std::optional<Duration> value;
  if (IsPlain(node)) {
    const std::string_view text = node.scalar;
    const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
    if (const auto number = ParseReal(digits)) {
      constexpr double kMaxSeconds = 9.2e9;  // what 64 bits of nanoseconds hold
      if (*number < kMaxSeconds) {
        value = FromSeconds(text.starts_with('-') ? -*number : *number);
      }
    }
  }
  if (!value && node.kind == YamlNode::Kind::kScalar) value = ParseDuration(node.scalar);
  if (!value) {
    return context.Fail(
        node,
        fmt::format("must be a duration such as 250ms, 1.5s, 5m or a number of seconds, not {}",
                    Shown(node)));
  }
  if (*value < Duration::zero() && std::isinf(context.doc.min)) {
    return context.Fail(node, fmt::format("{} is negative", Shown(node)));
  }
  if (!CheckBounds(context, node, ToSeconds(*value), "s")) return false;
  *out = *value;
  return true;
}

bool ReadInto(const ReadContext& context, const YamlNode& node,
              std::map<std::string, std::string>* out) {
  if (node.kind != YamlNode::Kind::kMap) {
    return context.Fail(node, fmt::format("must be a map of texts, not {}", Shown(node)));
  }
  bool ok = true;
  std::map<std::string, std::string> values;
  for (const auto& [key, value] : node.entries) {
    const ReadContext entry{context.path + "." + key.scalar, context.doc, context.diagnostics};
    std::string text;
    if (ReadInto(entry, value, &text)) {
      values[key.scalar] = std::move(text);
    } else {
      ok = false;
    }
  }
  *out = std::move(values);
  return ok;
}

bool ReadInto(const ReadContext&, const YamlNode& node, YamlNode* out) {
  *out = node;
  return true;
}

bool ExpectSequence(const ReadContext& context, const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kSequence) return true;
  return context.Fail(node, fmt::format("must be a list, not {}", Shown(node)));
}

StructReader::StructReader(const YamlNode& node, std::string_view path, Diagnostics* diagnostics)
    : node_(node), path_(path), diagnostics_(diagnostics) {
  has_fields_ = node.kind == YamlNode::Kind::kMap || node.kind == YamlNode::Kind::kNull;
  if (!has_fields_) {
    AddError(node, fmt::format("{}must be a map, not {}", path_.empty() ? "" : path_ + ": ",
                               Shown(node)));
  }
}

const YamlNode* StructReader::Take(std::string_view name, const FieldDoc& doc) {
  known_.push_back(name);
  const YamlNode* value = node_.Find(name);  // a node that is no map has no entries
  if (value == nullptr || value->kind == YamlNode::Kind::kNull) {
    if (doc.required && has_fields_) {
      AddError(node_, fmt::format("{} is missing", PathOf(name)));
    }
    return nullptr;
  }
  if (!doc.deprecated.empty()) {
    diagnostics_->warnings.push_back(
        wire::At(diagnostics_->file, *value,
                 fmt::format("{} is deprecated: {}", PathOf(name), doc.deprecated)));
  }
  return value;
}

bool StructReader::Finish() {
  for (const auto& [key, value] : node_.entries) {
    if (std::find(known_.begin(), known_.end(), key.scalar) != known_.end()) continue;
    const std::string hint = DidYouMean(key.scalar, known_);
    AddError(key, fmt::format("unknown field '{}'{}{}", key.scalar,
                              path_.empty() ? "" : " in " + path_, hint));
  }
  return ok_;
}

std::string StructReader::PathOf(std::string_view name) const {
  return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
}

void StructReader::AddError(const YamlNode& node, std::string_view sentence) {
  diagnostics_->errors.push_back(wire::At(diagnostics_->file, node, sentence));
  ok_ = false;
}

}  // namespace penstock::config
