// The filters that give texts and numbers.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

// Jinja's soft_str: the value as text, markup stays markup.
Value SoftText(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : ToStr(runtime, value);
}

// The filter as the method of the same name.
template <auto kName>
Value AsMethod(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Value text = SoftText(runtime, input);
  if (text.failed()) return text;
  return CallStringMethod(runtime, kName(), text, arguments);
}

constexpr auto kUpper = [] { return std::string_view("upper"); };
constexpr auto kLower = [] { return std::string_view("lower"); };
constexpr auto kCapitalize = [] { return std::string_view("capitalize"); };
constexpr auto kStrip = [] { return std::string_view("strip"); };

Value Center(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "center", arguments, {"width"});
  const Value text = SoftText(runtime, input);
  if (!bound.ok() || text.failed()) return Value::Failed();
  const Value width[] = {bound.Or(0, Value::Int(80))};
  return CallStringMethod(runtime, "center", text, {width, {}});
}

Value Default(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "default", arguments, {"default_value", "boolean"});
  if (!bound.ok()) return Value::Failed();
  if (input.is_undefined() || (bound.Flag(1, false) && !IsTrue(input))) {
    return bound.Or(0, Value::String(""));
  }
  return input;
}

Value Escape(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "escape", arguments, {}).ok()) return Value::Failed();
  if (input.is_string() && input.is_markup) return input;
  const Value text = ToStr(runtime, input);
  if (text.failed() || !runtime.ChargeBytes(text.size)) return Value::Failed();
  Value out = runtime.MakeString(Escaped(text.str()));
  out.is_markup = true;
  return out;
}

Value ForceEscape(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Value text = ToStr(runtime, input);
  return text.failed() ? text : Escape(runtime, text, arguments);
}

Value Safe(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "safe", arguments, {}).ok()) return Value::Failed();
  Value out = ToStr(runtime, input);
  if (!out.failed()) out.is_markup = true;
  return out;
}

Value String(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "string", arguments, {}).ok()) return Value::Failed();
  return SoftText(runtime, input);
}

Value Replace(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "replace", arguments, {"old", "new", "count"}, 2);
  if (!bound.ok()) return Value::Failed();
  const Value text = ToStr(runtime, input);
  const Value values[] = {ToStr(runtime, *bound[0]), ToStr(runtime, *bound[1]),
                          bound.IsNone(2) ? Value::Int(-1) : *bound[2]};
  if (text.failed() || values[0].failed() || values[1].failed()) return Value::Failed();
  return CallStringMethod(runtime, "replace", text, {values, {}});
}

// The first letter after each white space, "-" or opening bracket as a capital, the others small.
Value Title(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "title", arguments, {}).ok()) return Value::Failed();
  const Value value = SoftText(runtime, input);
  if (value.failed() || !runtime.ChargeBytes(value.size * 4)) return Value::Failed();
  const std::string_view text = value.str();
  const auto separates = [](char32_t c) {
    return IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t first = NextCharacter(text, &at);
    const size_t second = at;
    if (separates(first)) {
      out.append(text.substr(begin, at - begin));
      continue;
    }
    while (at < text.size()) {
      size_t next = at;
      if (separates(NextCharacter(text, &next))) break;
      at = next;
    }
    out += ToUpper(text.substr(begin, second - begin));
    out += ToLower(text.substr(second, at - second));
  }
  return runtime.MakeString(out);
}

Value Indent(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "indent", arguments, {"width", "first", "blank"});
  if (!bound.ok()) return Value::Failed();
  if (input.is_undefined()) return FailUndefined(runtime, input);
  if (!input.is_string()) {
    return runtime.Fail(fmt::format("indent wants a text, not {}", TypeName(input)));
  }
  const Value width = bound.Or(0, Value::Int(4));
  std::string indention;
  if (width.is_string()) {
    indention = width.str();
  } else if (!width.is_integral() || width.as_int() > 10'000) {
    return runtime.Fail("indent's width must be a text, or a number of at most 10000");
  } else {
    indention.assign(static_cast<size_t>(std::max<int64_t>(width.as_int(), 0)), ' ');
  }
  const std::string whole = std::string(input.str()) + "\n";
  const std::vector<std::string_view> lines = SplitLines(whole, false);
  if (!runtime.ChargeBytes(whole.size() * 4 + lines.size() * indention.size())) {
    return Value::Failed();
  }
  if (lines.size() > runtime.limits().heap_bytes / (indention.size() + 1)) {
    return runtime.Fail("an indented text is too large", Code::kResourceExhausted);
  }
  std::string out = bound.Flag(1, false) ? indention : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out += '\n';
      if (!lines[i].empty() || bound.Flag(2, false)) out += indention;
    }
    out += lines[i];
  }
  return MakeLike(runtime, input, out);
}

Value Truncate(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  Bound bound(runtime, "truncate", arguments, {"length", "killwords", "end", "leeway"});
  int64_t length = 255, leeway = 5;
  std::string_view end = "...";
  if (!bound.ok() || !bound.Int(0, &length) || !bound.Text(2, &end) || !bound.Int(3, &leeway)) {
    return Value::Failed();
  }
  const auto end_size = static_cast<int64_t>(CountCharacters(end));
  if (length < end_size || leeway < 0) {
    return runtime.Fail(
        fmt::format("truncate: expected length >= {} and leeway >= 0, got {} and {}", end_size,
                    length, leeway));
  }
  const Value size = Length(runtime, input);
  if (size.failed()) return size;
  if (size.integer <= length || size.integer - length <= leeway) return input;
  if (!input.is_string()) return runtime.Fail("truncate wants a text");
  std::string_view kept =
      input.str().substr(0, ByteOfCharacter(input.str(), static_cast<size_t>(length - end_size)));
  if (!bound.Flag(1, false)) {
    const size_t space = kept.rfind(' ');
    if (space != std::string_view::npos) kept = kept.substr(0, space);
  }
  return MakeLike(runtime, input, std::string(kept).append(end));
}

Value WordCount(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "wordcount", arguments, {}).ok()) return Value::Failed();
  const Value value = SoftText(runtime, input);
  if (value.failed() || !runtime.ChargeBytes(value.size * 4)) return Value::Failed();
  const std::string_view text = value.str();
  int64_t count = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextCharacter(text, &at);
    const bool is_word = c == '_' || IsAlnum(c);
    count += is_word && !in_word;
    in_word = is_word;
  }
  return Value::Int(count);
}

Value FormatFilter(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Value text = SoftText(runtime, input);
  if (text.failed()) return text;
  if (!arguments.positional.empty() && !arguments.keywords.empty()) {
    return runtime.Fail("can't handle positional and keyword arguments at the same time");
  }
  std::vector<Entry> entries;
  for (const Keyword& k : arguments.keywords) entries.push_back({Value::String(k.name), k.value});
  const Value values = entries.empty() ? runtime.MakeList(arguments.positional, Kind::kTuple)
                                       : runtime.MakeDict(entries);
  return values.failed() ? values : PercentFormat(runtime, text, values);
}

void AppendQuoted(std::string_view text, bool in_query, std::string* out) {
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' || c == '~' ||
                          (c == '/' && !in_query);
    if (is_plain) {
      out->push_back(c);
    } else if (c == ' ' && in_query) {
      out->push_back('+');
    } else {
      fmt::format_to(std::back_inserter(*out), "%{:02X}", static_cast<uint8_t>(c));
    }
  }
}

Value UrlEncode(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "urlencode", arguments, {}).ok()) return Value::Failed();
  std::string out;
  std::span<const Value> items;
  if (input.is_string() || input.is_number() || input.is_none()) {
    const Value text = ToStr(runtime, input);
    if (text.failed() || !runtime.ChargeBytes(text.size)) return Value::Failed();
    AppendQuoted(text.str(), false, &out);
    return runtime.MakeString(out);
  }
  std::vector<Value> pairs;
  if (input.Is(Kind::kDict)) {
    for (const Entry& entry : input.dict->all()) {
      const Value pair[] = {entry.key, entry.value};
      pairs.push_back(runtime.MakeList(pair));
      if (pairs.back().failed()) return Value::Failed();
    }
    items = pairs;
  } else if (!Elements(runtime, input, &items)) {
    return Value::Failed();
  }
  for (const Value& item : items) {
    std::span<const Value> pair;
    if (!Elements(runtime, item, &pair)) return Value::Failed();
    if (pair.size() != 2) return runtime.Fail("urlencode wants pairs");
    const Value key = ToStr(runtime, pair[0]), value = ToStr(runtime, pair[1]);
    if (key.failed() || value.failed() || !runtime.ChargeBytes(key.size + value.size)) {
      return Value::Failed();
    }
    if (!out.empty()) out.push_back('&');
    AppendQuoted(key.str(), true, &out);
    out.push_back('=');
    AppendQuoted(value.str(), true, &out);
  }
  return runtime.MakeString(out);
}

// Numbers.

Value Abs(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "abs", arguments, {}).ok()) return Value::Failed();
  if (input.Is(Kind::kFloat)) return Value::Float(std::fabs(input.number));
  if (!input.is_integral()) {
    return runtime.Fail(fmt::format("bad operand type for abs(): '{}'", TypeName(input)));
  }
  return input.as_int() < 0 ? Negated(runtime, input) : Value::Int(input.as_int());
}

constexpr double kIntBound = 9223372036854775808.0;

Value FloatToInt(Runtime& runtime, double number) {
  if (!(number > -kIntBound && number < kIntBound)) {
    return runtime.Fail("a float is beyond the integers of 64 bits", Code::kOutOfRange);
  }
  return Value::Int(static_cast<int64_t>(number));
}

Value ToInt(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  Bound bound(runtime, "int", arguments, {"default", "base"});
  int64_t base = 10, out = 0;
  if (!bound.ok() || !bound.Int(1, &base)) return Value::Failed();
  const Value fallback = bound.Or(0, Value::Int(0));
  if (input.is_undefined()) return FailUndefined(runtime, input);
  if (input.is_integral()) return Value::Int(input.as_int());
  if (input.Is(Kind::kFloat)) {
    if (std::isnan(input.number)) return fallback;
    return FloatToInt(runtime, input.number);
  }
  if (!input.is_string()) return fallback;
  if (ParsePythonInt(runtime, input.str(), base, &out)) return Value::Int(out);
  if (runtime.has_failed()) return Value::Failed();
  double number = 0;
  if (!ParsePythonFloat(input.str(), &number) || !std::isfinite(number)) return fallback;
  return FloatToInt(runtime, number);
}

Value ToFloat(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "float", arguments, {"default"});
  if (!bound.ok()) return Value::Failed();
  if (input.is_undefined()) return FailUndefined(runtime, input);
  if (input.is_number()) return Value::Float(input.as_double());
  double out = 0;
  if (input.is_string() && ParsePythonFloat(input.str(), &out)) return Value::Float(out);
  return bound.Or(0, Value::Float(0));
}

// Python's round(number, digits): to even, from the exact binary value.
Value RoundCommon(const Value& input, int64_t digits) {
  if (input.is_integral()) {
    if (digits >= 0) return Value::Int(input.as_int());
    if (digits < -18) return Value::Int(0);
    int64_t unit = 1;
    for (int64_t i = 0; i < -digits; ++i) unit *= 10;
    const int64_t value = input.as_int();
    int64_t rest = value % unit;
    if (rest < 0) rest += unit;
    int64_t down = value - rest;
    const bool is_odd = down / unit % 2 != 0;
    if (rest > unit - rest || (rest == unit - rest && is_odd)) down += unit;
    return Value::Int(down);
  }
  if (!std::isfinite(input.number)) return input;
  if (digits > 300) return input;
  if (digits < -308) return Value::Float(std::copysign(0.0, input.number));
  if (digits >= 0) {
    char buffer[700];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), input.number);
    return Value::Float(std::strtod(buffer, nullptr));
  }
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return Value::Float(std::nearbyint(input.number / unit) * unit);
}

Value Round(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  Bound bound(runtime, "round", arguments, {"precision", "method"});
  int64_t precision = 0;
  std::string_view method = "common";
  if (!bound.ok() || !bound.Int(0, &precision) || !bound.Text(1, &method)) return Value::Failed();
  if (method != "common" && method != "ceil" && method != "floor") {
    return runtime.Fail("method must be common, ceil or floor");
  }
  if (!input.is_number()) {
    return runtime.Fail(fmt::format("type {} doesn't define __round__ method", TypeName(input)));
  }
  if (method == "common") return RoundCommon(input, precision);
  if (std::abs(precision) > 300) return runtime.Fail("round's precision is too large");
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.as_double() * unit;
  if (!std::isfinite(scaled)) return runtime.Fail("cannot convert float infinity to integer");
  // Python rounds to an integer, which has no negative zero.
  return Value::Float(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) / unit);
}

constexpr Filter kFilters[] = {
    {"abs", Abs},
    {"capitalize", AsMethod<kCapitalize>},
    {"center", Center},
    {"d", Default},
    {"default", Default},
    {"e", Escape},
    {"escape", Escape},
    {"float", ToFloat},
    {"forceescape", ForceEscape},
    {"format", FormatFilter},
    {"indent", Indent},
    {"int", ToInt},
    {"lower", AsMethod<kLower>},
    {"replace", Replace},
    {"round", Round},
    {"safe", Safe},
    {"string", String},
    {"title", Title},
    {"tojson", ToJson},
    {"trim", AsMethod<kStrip>},
    {"truncate", Truncate},
    {"upper", AsMethod<kUpper>},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
};

}  // namespace

std::span<const Filter> TextFilters() { return kFilters; }

}  // namespace penstock::tokens::jinja
