// Attributes, items, slices, and the methods of everything but text.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

using Names = std::span<const std::string_view>;

constexpr std::string_view kDictMethods[] = {"copy", "fromkeys", "get", "items", "keys", "values"};
constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kListMethods[] = {"copy", "count", "index"};
constexpr std::string_view kListChanges[] = {"append", "clear",  "extend",  "insert",
                                             "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kTupleMethods[] = {"count", "index"};
constexpr std::string_view kIntMethods[] = {"as_integer_ratio", "bit_count", "bit_length",
                                            "conjugate",        "to_bytes",  "from_bytes"};
constexpr std::string_view kFloatMethods[] = {"as_integer_ratio", "conjugate", "fromhex", "hex",
                                              "is_integer"};
constexpr std::string_view kLoopMethods[] = {"changed", "cycle"};
constexpr std::string_view kCyclerMethods[] = {"next", "reset"};
constexpr std::string_view kGlobals[] = {"cycler",          "dict",  "joiner",      "namespace",
                                         "raise_exception", "range", "strftime_now"};

bool Has(Names names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

Value Method(Runtime& runtime, const Value& self, std::string_view name) {
  Callable* callable = runtime.New<Callable>();
  if (callable == nullptr) return Value::Failed();
  callable->name = name;
  callable->self = self;
  Value out = Value::Of(Kind::kCallable);
  out.callable = callable;
  return out;
}

// What the sandbox gives for an attribute that exists and is not to be used.
Value Unsafe(Runtime& runtime, const Value& object, std::string_view name) {
  const Value text = runtime.MakeString(
      fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, TypeName(object)));
  if (text.failed()) return text;
  Value out = Value::Undefined(text.str());
  out.view = 1;
  return out;
}

Value LoopAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found) {
  const Loop& loop = *object.loop;
  const auto number = [](size_t n) { return Value::Int(static_cast<int64_t>(n)); };
  *found = true;
  if (name == "first") return Value::Bool(loop.index0 == 0);
  if (name == "last") return Value::Bool(!loop.has_next);
  if (name == "index0") return number(loop.index0);
  if (name == "index") return number(loop.index0 + 1);
  if (name == "length") return number(loop.length);
  if (name == "revindex") return number(loop.length - loop.index0);
  if (name == "revindex0") return number(loop.length - loop.index0 - 1);
  if (name == "depth") return Value::Int(loop.depth0 + 1);
  if (name == "depth0") return Value::Int(loop.depth0);
  if (name == "previtem") return loop.index0 == 0 ? Value::Undefined("previtem") : loop.previous;
  if (name == "nextitem") return loop.has_next ? loop.next : Value::Undefined("nextitem");
  if (Has(kLoopMethods, name)) return Method(runtime, object, name);
  *found = false;
  return {};
}

Value NumberAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found) {
  *found = true;
  const bool is_float = object.Is(Kind::kFloat);
  if (name == "real") return Positive(runtime, object);
  if (name == "imag") return is_float ? Value::Float(0) : Value::Int(0);
  if (!is_float && name == "numerator") return Positive(runtime, object);
  if (!is_float && name == "denominator") return Value::Int(1);
  if (Has(is_float ? Names(kFloatMethods) : Names(kIntMethods), name)) {
    return Method(runtime, object, name);
  }
  *found = false;
  return {};
}

Value MacroAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found) {
  const Callable& callable = *object.callable;
  *found = callable.form == Callable::Form::kMacro;
  if (*found && name == "name") return Value::String(callable.name);
  if (*found && name == "arguments") {
    std::vector<Value> names;
    for (const Parameter& p : callable.signature->parameters) {
      names.push_back(Value::String(p.text));
    }
    return runtime.MakeList(names, Kind::kTuple);
  }
  if (*found && name == "catch_kwargs") return Value::Bool(callable.signature->uses_kwargs);
  if (*found && name == "catch_varargs") return Value::Bool(callable.signature->uses_varargs);
  if (*found && name == "caller") return Value::Bool(callable.signature->uses_caller);
  *found = false;
  return {};
}

Value SequenceAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found) {
  *found = true;
  if (object.Is(Kind::kTuple) && object.view != 0) {  // of groupby
    if (name == "grouper") return object.list->items[0];
    if (name == "list") return object.list->items[1];
  }
  if (object.Is(Kind::kList) && Has(kListChanges, name)) return Unsafe(runtime, object, name);
  if (Has(object.Is(Kind::kList) ? Names(kListMethods) : Names(kTupleMethods), name)) {
    return Method(runtime, object, name);
  }
  *found = false;
  return {};
}

Value RangeAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found) {
  *found = true;
  if (name == "start") return Value::Int(object.range->start);
  if (name == "stop") return Value::Int(object.range->stop);
  if (name == "step") return Value::Int(object.range->step);
  if (Has(kTupleMethods, name)) return Method(runtime, object, name);
  *found = false;
  return {};
}

Value CyclerAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found) {
  *found = true;
  if (name == "current") return object.cycler->items[object.cycler->next];
  if (name == "pos") return Value::Int(static_cast<int64_t>(object.cycler->next));
  if (name == "items") return runtime.AdoptList(object.cycler->items, Kind::kTuple);
  if (Has(kCyclerMethods, name)) return Method(runtime, object, name);
  *found = false;
  return {};
}

Value NoElement(const Value& key) {
  return Value::Undefined(key.is_string() ? key.str() : std::string_view("element"));
}

// obj[index] of sequences; not found leaves *found false.
Value ElementAt(Runtime& runtime, const Value& object, int64_t index, bool* found) {
  const auto place = [&](size_t size) {
    const auto length = static_cast<int64_t>(size);
    if (index < 0) index += length;
    *found = index >= 0 && index < length;
    return *found;
  };
  switch (object.kind) {
    case Kind::kList:
    case Kind::kTuple:
      return place(object.list->size) ? object.list->items[index] : Value();
    case Kind::kRange:
      return place(static_cast<size_t>(object.range->count)) ? Value::Int(object.range->at(index))
                                                             : Value();
    case Kind::kString: {
      const std::string_view text = object.str();
      if (!runtime.ChargeBytes(text.size())) return Value::Failed();
      if (!place(CountCharacters(text))) return {};
      const size_t begin = ByteOfCharacter(text, static_cast<size_t>(index));
      size_t end = begin;
      NextCharacter(text, &end);
      Value out = Value::String(text.substr(begin, end - begin));
      out.is_markup = object.is_markup;
      return out;
    }
    default:
      return {};
  }
}

}  // namespace

bool IsGlobal(std::string_view name) { return Has(kGlobals, name); }

Value PythonAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found) {
  *found = false;
  if (name.starts_with("__") && name.ends_with("__") && !object.Is(Kind::kNamespace)) {
    *found = true;
    return Unsafe(runtime, object, name);
  }
  switch (object.kind) {
    case Kind::kString:
      *found = IsStringMethod(name);
      return *found ? Method(runtime, object, name) : Value();
    case Kind::kDict:
      *found = true;
      if (Has(kDictMethods, name)) return Method(runtime, object, name);
      if (Has(kDictChanges, name)) return Unsafe(runtime, object, name);
      *found = false;
      return {};
    case Kind::kNamespace:
      for (const auto& [attribute, value] : object.names->attributes) {
        if (attribute != name) continue;
        *found = true;
        // The sandbox hides what begins with an underscore, also here.
        return name.starts_with('_') ? Unsafe(runtime, object, name) : value;
      }
      return {};
    case Kind::kList:
    case Kind::kTuple:
      return SequenceAttribute(runtime, object, name, found);
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return NumberAttribute(runtime, object, name, found);
    case Kind::kLoop:
      return LoopAttribute(runtime, object, name, found);
    case Kind::kRange:
      return RangeAttribute(runtime, object, name, found);
    case Kind::kCycler:
      return CyclerAttribute(runtime, object, name, found);
    case Kind::kJoiner:
      *found = name == "sep" || name == "used";
      return name == "sep" ? object.joiner->separator : Value::Bool(object.joiner->used);
    case Kind::kCallable:
      return MacroAttribute(runtime, object, name, found);
    default:
      return {};
  }
}

Value GetAttribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is_undefined()) return FailUndefined(runtime, object);
  bool found = false;
  const Value out = PythonAttribute(runtime, object, name, &found);
  if (found) return out;
  if (object.Is(Kind::kDict)) {
    if (const Value* item = Find(*object.dict, name)) return *item;
  }
  return Value::Undefined(name);
}

Value GetItem(Runtime& runtime, const Value& object, const Value& key) {
  if (object.is_undefined()) return FailUndefined(runtime, object);
  if (object.Is(Kind::kDict)) {
    if (!key.is_string() && !runtime.Charge(object.dict->size)) return Value::Failed();
    if (const Value* item = Find(*object.dict, key)) return *item;
  } else if (key.is_integral()) {
    bool found = false;
    const Value out = ElementAt(runtime, object, key.as_int(), &found);
    if (found || out.failed()) return out;
  }
  if (key.is_string()) {
    bool found = false;
    const Value out = PythonAttribute(runtime, object, key.str(), &found);
    if (found) return out;
  }
  return NoElement(key);
}

namespace {

// Python's PySlice_AdjustIndices. False, with an error, when a bound is no integer.
struct SliceBounds {
  int64_t begin = 0;
  int64_t count = 0;
  int64_t step = 1;
};

bool AdjustSlice(Runtime& runtime, int64_t size, const Value& begin, const Value& end,
                 const Value& step, SliceBounds* out) {
  for (const Value& bound : {begin, end, step}) {
    if (bound.is_none() || bound.is_integral()) continue;
    runtime.Fail("slice indices must be integers or None or have an __index__ method");
    return false;
  }
  out->step = step.is_none() ? 1 : step.as_int();
  if (out->step == 0) {
    runtime.Fail("slice step cannot be zero");
    return false;
  }
  out->step = std::max<int64_t>(out->step, -INT64_MAX);
  const bool is_back = out->step < 0;
  const int64_t lowest = is_back ? -1 : 0, highest = is_back ? size - 1 : size;
  const auto adjust = [&](const Value& bound, int64_t fallback) {
    if (bound.is_none()) return fallback;
    int64_t at = bound.as_int();
    if (at < 0) at = at < -size ? lowest : std::max(at + size, lowest);
    return std::min(at, highest);
  };
  out->begin = adjust(begin, is_back ? highest : lowest);
  const int64_t stop = adjust(end, is_back ? lowest : highest);
  if (is_back) {
    out->count = stop < out->begin ? (out->begin - stop - 1) / -out->step + 1 : 0;
  } else {
    out->count = out->begin < stop ? (stop - out->begin - 1) / out->step + 1 : 0;
  }
  return true;
}

Value TextSlice(Runtime& runtime, const Value& object, const Value& begin, const Value& end,
                const Value& step) {
  const std::string_view text = object.str();
  if (!runtime.ChargeBytes(text.size() * 2)) return Value::Failed();
  const bool is_ascii = IsAscii(text);
  const size_t size = is_ascii ? text.size() : CountCharacters(text);
  SliceBounds bounds;
  if (!AdjustSlice(runtime, static_cast<int64_t>(size), begin, end, step, &bounds)) {
    return Value::Failed();
  }
  if (bounds.count == 0) return MakeLike(runtime, object, "");
  if (bounds.step == 1) {
    const auto first = static_cast<size_t>(bounds.begin);
    const auto count = static_cast<size_t>(bounds.count);
    std::string_view part;
    if (is_ascii) {
      part = text.substr(first, count);
    } else {
      part = text.substr(ByteOfCharacter(text, first));
      part = part.substr(0, ByteOfCharacter(part, count));
    }
    Value out = Value::String(part);
    out.is_markup = object.is_markup;
    return out;
  }
  std::vector<uint32_t> starts;  // of every character
  starts.reserve(size + 1);
  for (size_t at = 0; at < text.size(); NextCharacter(text, &at)) {
    starts.push_back(static_cast<uint32_t>(at));
  }
  starts.push_back(static_cast<uint32_t>(text.size()));
  if (!runtime.Charge(static_cast<uint64_t>(bounds.count) / 8)) return Value::Failed();
  std::string out;
  for (int64_t i = 0; i < bounds.count; ++i) {
    const auto at = static_cast<size_t>(bounds.begin + i * bounds.step);
    out.append(text.substr(starts[at], starts[at + 1] - starts[at]));
  }
  return MakeLike(runtime, object, out);
}

}  // namespace

Value GetSlice(Runtime& runtime, const Value& object, const Value& begin, const Value& end,
               const Value& step) {
  if (object.is_undefined()) return FailUndefined(runtime, object);
  if (object.is_string()) return TextSlice(runtime, object, begin, end, step);
  SliceBounds bounds;
  if (object.Is(Kind::kList) || object.Is(Kind::kTuple)) {
    const auto size = static_cast<int64_t>(object.list->size);
    if (!AdjustSlice(runtime, size, begin, end, step, &bounds)) return Value::Failed();
    const auto count = static_cast<size_t>(bounds.count);
    if (bounds.step == 1) {  // the elements never change: a part of them is a list as it lies
      return runtime.AdoptList(
          object.list->all().subspan(count == 0 ? 0 : static_cast<size_t>(bounds.begin), count),
          object.kind);
    }
    Value* out = runtime.Array<Value>(count);
    if (out == nullptr || !runtime.Charge(count)) return Value::Failed();
    for (int64_t i = 0; i < bounds.count; ++i) {
      out[i] = object.list->items[bounds.begin + i * bounds.step];
    }
    return runtime.AdoptList({out, count}, object.kind);
  }
  if (object.Is(Kind::kRange)) {
    const Range& range = *object.range;
    if (!AdjustSlice(runtime, range.count, begin, end, step, &bounds)) return Value::Failed();
    Range* out = runtime.New<Range>();
    if (out == nullptr) return Value::Failed();
    out->start = range.at(bounds.begin);
    out->step = range.step * bounds.step;
    out->count = bounds.count;
    out->stop = out->start + out->step * out->count;
    Value made = Value::Of(Kind::kRange);
    made.range = out;
    return made;
  }
  if (object.Is(Kind::kDict)) return runtime.Fail("unhashable type: 'slice'");
  return runtime.Fail(fmt::format("'{}' object is not subscriptable", TypeName(object)));
}

// --- calls

namespace {

Value DictView(Runtime& runtime, const Dict& dict, ViewKind kind) {
  Value* out = runtime.Array<Value>(dict.size);
  if (out == nullptr || !runtime.Charge(dict.size)) return Value::Failed();
  for (size_t i = 0; i < dict.size; ++i) {
    const Entry& entry = dict.entries[i];
    if (kind == ViewKind::kItems) {
      const Value pair[] = {entry.key, entry.value};
      out[i] = runtime.MakeList(pair, Kind::kTuple);
      if (out[i].failed()) return Value::Failed();
    } else {
      out[i] = kind == ViewKind::kKeys ? entry.key : entry.value;
    }
  }
  Value view = runtime.AdoptList({out, dict.size}, Kind::kView);
  view.view = static_cast<uint8_t>(kind);
  return view;
}

Value CallDictMethod(Runtime& runtime, const Callable& call, const CallArguments& arguments) {
  const Dict& dict = *call.self.dict;
  if (call.name == "get") {
    const Bound bound(runtime, "get", arguments, {"key", "default"}, 1);
    if (!bound.ok()) return Value::Failed();
    if (bound[0]->Is(Kind::kList) || bound[0]->Is(Kind::kDict)) {
      return runtime.Fail(fmt::format("unhashable type: '{}'", TypeName(*bound[0])));
    }
    if (const Value* item = Find(dict, *bound[0])) return *item;
    return bound.Or(1, Value::None());
  }
  if (call.name == "fromkeys") return runtime.Fail("dict.fromkeys() is not supported");
  if (!Bound(runtime, call.name, arguments, {}).ok()) return Value::Failed();
  if (call.name == "items") return DictView(runtime, dict, ViewKind::kItems);
  if (call.name == "keys") return DictView(runtime, dict, ViewKind::kKeys);
  if (call.name == "values") return DictView(runtime, dict, ViewKind::kValues);
  return call.self;  // copy
}

Value CallListMethod(Runtime& runtime, const Callable& call, const CallArguments& arguments) {
  if (call.name == "copy") return runtime.MakeList(call.self.list->all());
  Bound bound(runtime, call.name, arguments, {"value", "start", "stop"}, 1);
  std::span<const Value> items;
  if (!bound.ok() || !Elements(runtime, call.self, &items)) return Value::Failed();
  const auto size = static_cast<int64_t>(items.size());
  int64_t begin = 0, end = size, count = 0;
  if (!bound.Int(1, &begin) || !bound.Int(2, &end)) return Value::Failed();
  if (begin < 0) begin = std::max<int64_t>(begin + size, 0);
  if (end < 0) end += size;
  for (int64_t i = begin; i < std::min(end, size); ++i) {
    bool equal = false;
    if (!Equal(runtime, items[static_cast<size_t>(i)], *bound[0], &equal)) return Value::Failed();
    if (equal && call.name == "index") return Value::Int(i);
    count += equal;
  }
  if (call.name == "count") return Value::Int(count);
  return runtime.Fail(fmt::format("value is not in the {}", TypeName(call.self)));
}

Value CallNumberMethod(Runtime& runtime, const Callable& call) {
  const Value& self = call.self;
  if (call.name == "conjugate") return Positive(runtime, self);
  if (self.is_integral()) {
    const int64_t value = self.as_int();
    const uint64_t magnitude =
        value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
    if (call.name == "bit_length") return Value::Int(std::bit_width(magnitude));
    if (call.name == "bit_count") return Value::Int(std::popcount(magnitude));
  } else if (call.name == "is_integer") {
    return Value::Bool(std::isfinite(self.number) && self.number == std::floor(self.number));
  }
  return runtime.Fail(fmt::format("{}.{}() is not supported", TypeName(self), call.name));
}

Value CallLoopMethod(Runtime& runtime, const Callable& call, const CallArguments& arguments) {
  Loop& loop = *call.self.loop;
  if (call.name == "cycle") {
    if (arguments.positional.empty()) return runtime.Fail("no items for cycling given");
    return arguments.positional[loop.index0 % arguments.positional.size()];
  }
  const Value now = runtime.MakeList(arguments.positional, Kind::kTuple);
  if (now.failed()) return now;
  bool equal = false;
  if (!loop.changed.failed() && !Equal(runtime, loop.changed, now, &equal)) return Value::Failed();
  loop.changed = now;
  return Value::Bool(!equal);
}

Value CallCyclerMethod(const Callable& call) {
  Cycler& cycler = *call.self.cycler;
  if (call.name == "reset") {
    cycler.next = 0;
    return Value::None();
  }
  const Value out = cycler.items[cycler.next];
  cycler.next = (cycler.next + 1) % cycler.items.size();
  return out;
}

Value MakeRange(Runtime& runtime, const CallArguments& arguments) {
  const auto& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !arguments.keywords.empty()) {
    return runtime.Fail(fmt::format("range expected 1 to 3 arguments, got {}", given.size()));
  }
  for (const Value& value : given) {
    if (value.is_undefined()) return FailUndefined(runtime, value);
    if (!value.is_integral()) {
      return runtime.Fail(
          fmt::format("'{}' object cannot be interpreted as an integer", TypeName(value)));
    }
  }
  Range* range = runtime.New<Range>();
  if (range == nullptr) return Value::Failed();
  range->start = given.size() > 1 ? given[0].as_int() : 0;
  range->stop = given.size() > 1 ? given[1].as_int() : given[0].as_int();
  range->step = given.size() > 2 ? given[2].as_int() : 1;
  if (range->step == 0) return runtime.Fail("range() arg 3 must not be zero");
  const auto span = static_cast<__int128>(range->stop) - range->start;
  const __int128 step = range->step;
  const __int128 count = (span > 0) == (step > 0) && span != 0
                             ? (span > 0 ? (span - 1) / step : (span + 1) / step) + 1
                             : 0;
  if (count > Limits::kMaxRange) {
    return runtime.Fail(
        fmt::format("Range too big. The sandbox blocks ranges larger than {}.", Limits::kMaxRange),
        Code::kResourceExhausted);
  }
  range->count = static_cast<int64_t>(count);
  Value out = Value::Of(Kind::kRange);
  out.range = range;
  return out;
}

// The entries of dict(...) and namespace(...): of a mapping or of pairs, then keywords.
bool CollectEntries(Runtime& runtime, std::string_view function, const CallArguments& arguments,
                    std::vector<Entry>* out) {
  if (arguments.positional.size() > 1) {
    runtime.Fail(fmt::format("{} expected at most 1 argument, got {}", function,
                             arguments.positional.size()));
    return false;
  }
  for (const Value& from : arguments.positional) {
    if (from.Is(Kind::kDict)) {
      out->assign(from.dict->all().begin(), from.dict->all().end());
      continue;
    }
    std::span<const Value> items;
    if (!Elements(runtime, from, &items)) return false;
    for (const Value& item : items) {
      std::span<const Value> pair;
      if (!Elements(runtime, item, &pair)) return false;
      if (pair.size() != 2) {
        runtime.Fail(fmt::format("{} wants pairs, got {} elements", function, pair.size()));
        return false;
      }
      out->push_back({pair[0], pair[1]});
    }
  }
  for (const Keyword& keyword : arguments.keywords) {
    out->push_back({Value::String(keyword.name), keyword.value});
  }
  return true;
}

Value MakeNamespace(Runtime& runtime, const CallArguments& arguments) {
  std::vector<Entry> entries;
  if (!CollectEntries(runtime, "namespace", arguments, &entries)) return Value::Failed();
  const Value dict = runtime.MakeDict(entries);
  Namespace* names = dict.failed() ? nullptr : runtime.NewNamespace();
  if (names == nullptr) return Value::Failed();
  for (const Entry& entry : dict.dict->all()) {
    if (entry.key.is_string()) names->attributes.emplace_back(entry.key.str(), entry.value);
  }
  Value out = Value::Of(Kind::kNamespace);
  out.names = names;
  return out;
}

Value MakeCycler(Runtime& runtime, const CallArguments& arguments) {
  if (arguments.positional.empty()) return runtime.Fail("at least one item has to be provided");
  const Value items = runtime.MakeList(arguments.positional);
  Cycler* cycler = items.failed() ? nullptr : runtime.New<Cycler>();
  if (cycler == nullptr) return Value::Failed();
  cycler->items = items.list->all();
  Value out = Value::Of(Kind::kCycler);
  out.cycler = cycler;
  return out;
}

Value MakeJoiner(Runtime& runtime, const CallArguments& arguments) {
  const Bound bound(runtime, "joiner", arguments, {"sep"});
  Joiner* joiner = bound.ok() ? runtime.New<Joiner>() : nullptr;
  if (joiner == nullptr) return Value::Failed();
  joiner->separator = bound.Or(0, Value::String(", "));
  Value out = Value::Of(Kind::kJoiner);
  out.joiner = joiner;
  return out;
}

// datetime.now().strftime(format); the time has no zone.
Value FormatNow(Runtime& runtime, const CallArguments& arguments,
                std::chrono::local_time<std::chrono::microseconds> now) {
  Bound bound(runtime, "strftime_now", arguments, {"format"}, 1);
  std::string_view format;
  if (!bound.ok() || !bound.Text(0, &format)) return Value::Failed();
  const auto day = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date{std::chrono::local_days(day)};
  const std::chrono::hh_mm_ss time{now - day};
  std::tm tm = {};
  tm.tm_year = static_cast<int>(date.year()) - 1900;
  tm.tm_mon = static_cast<int>(static_cast<unsigned>(date.month())) - 1;
  tm.tm_mday = static_cast<int>(static_cast<unsigned>(date.day()));
  tm.tm_hour = static_cast<int>(time.hours().count());
  tm.tm_min = static_cast<int>(time.minutes().count());
  tm.tm_sec = static_cast<int>(time.seconds().count());
  tm.tm_wday = static_cast<int>(std::chrono::weekday(std::chrono::local_days(day)).c_encoding());
  const std::chrono::local_days new_year{date.year() / std::chrono::January / 1};
  tm.tm_yday = static_cast<int>((std::chrono::local_days(day) - new_year).count());
  tm.tm_isdst = -1;
  std::string wanted;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      wanted.push_back(format[i]);
      continue;
    }
    const char what = format[++i];
    if (what == 'f') {
      wanted += fmt::format("{:06}", time.subseconds().count());
    } else if (what != 'z' && what != 'Z') {
      wanted.append({'%', what});
    }
  }
  wanted.push_back('.');  // so that an empty result is not an error
  char buffer[1024];
  const size_t size = std::strftime(buffer, sizeof buffer, wanted.c_str(), &tm);
  if (size == 0) {
    return runtime.Fail(
        fmt::format("strftime_now('{}'): more than {} bytes", format, sizeof buffer - 2));
  }
  return runtime.MakeString({buffer, size - 1});
}

Value CallGlobal(Runtime& runtime, const Callable& call, const CallArguments& arguments,
                 std::chrono::local_time<std::chrono::microseconds> now) {
  if (call.name == "range") return MakeRange(runtime, arguments);
  if (call.name == "namespace") return MakeNamespace(runtime, arguments);
  if (call.name == "cycler") return MakeCycler(runtime, arguments);
  if (call.name == "joiner") return MakeJoiner(runtime, arguments);
  if (call.name == "strftime_now") return FormatNow(runtime, arguments, now);
  if (call.name == "dict") {
    std::vector<Entry> entries;
    if (!CollectEntries(runtime, "dict", arguments, &entries)) return Value::Failed();
    return runtime.MakeDict(entries);
  }
  const Bound bound(runtime, "raise_exception", arguments, {"message"}, 1);
  if (!bound.ok()) return Value::Failed();
  const Value message = ToStr(runtime, *bound[0]);
  return message.failed() ? message : runtime.Fail(std::string(message.str()));
}

}  // namespace

Value CallBuiltin(Runtime& runtime, const Callable& callable, const CallArguments& arguments,
                  std::chrono::local_time<std::chrono::microseconds> now) {
  if (callable.form == Callable::Form::kGlobal) {
    return CallGlobal(runtime, callable, arguments, now);
  }
  switch (callable.self.kind) {
    case Kind::kString:
      return CallStringMethod(runtime, callable.name, callable.self, arguments);
    case Kind::kDict:
      return CallDictMethod(runtime, callable, arguments);
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      return CallListMethod(runtime, callable, arguments);
    case Kind::kLoop:
      return CallLoopMethod(runtime, callable, arguments);
    case Kind::kCycler:
      return CallCyclerMethod(callable);
    default:
      return CallNumberMethod(runtime, callable);
  }
}

}  // namespace penstock::tokens::jinja
