// The filters that take elements, and the tables of filters and tests.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

#include "core/text.h"
#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

constexpr std::string_view kRefusedFilters[] = {"filesizeformat", "pprint",   "random", "striptags",
                                                "urlize",         "wordwrap", "xmlattr"};

Value IgnoreCase(Runtime& runtime, const Value& value) {
  if (!value.is_string()) return value;
  if (!runtime.ChargeBytes(value.size * 2)) return Value::Failed();
  return MakeLike(runtime, value, ToLower(value.str()));
}

enum class Case { kKept, kIgnored };

// Reads an attribute such as "a.b.0" of elements.
class Getter {
 public:
  Getter(Runtime& runtime, const Value* attribute, Case letter_case = Case::kKept,
         const Value* fallback = nullptr)
      : runtime_(runtime), case_(letter_case), fallback_(fallback) {
    if (attribute == nullptr || attribute->is_none()) return;
    if (!attribute->is_string()) {
      parts_.push_back(*attribute);
      return;
    }
    std::string_view text = attribute->str();
    while (true) {
      const size_t dot = std::min(text.find('.'), text.size());
      parts_.push_back(Part(text.substr(0, dot)));
      if (dot == text.size()) break;
      text.remove_prefix(dot + 1);
    }
  }

  Value operator()(const Value& item) const {
    Value out = item;
    for (const Value& part : parts_) {
      out = GetItem(runtime_, out, part);
      if (out.failed()) return out;
      if (out.is_undefined() && fallback_ != nullptr && !fallback_->is_none()) out = *fallback_;
    }
    return case_ == Case::kIgnored ? IgnoreCase(runtime_, out) : out;
  }

 private:
  static Value Part(std::string_view text) {
    int64_t index = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool is_index = !text.empty() && text[0] != '-' && read.ec == std::errc() &&
                          read.ptr == text.data() + text.size();
    return is_index ? Value::Int(index) : Value::String(text);
  }

  Runtime& runtime_;
  Case case_;
  const Value* fallback_;
  std::vector<Value> parts_;
};

struct Keyed {
  Value key;
  Value item;
};

// Python's sorted(): stable, also in reverse. False after an error of a comparison.
bool Sort(Runtime& runtime, std::vector<Keyed>* items, bool is_reverse) {
  std::ranges::stable_sort(*items, [&](const Keyed& a, const Keyed& b) {
    bool less = false;
    if (runtime.has_failed()) return false;
    return is_reverse ? Less(runtime, b.key, a.key, &less) && less
                      : Less(runtime, a.key, b.key, &less) && less;
  });
  return !runtime.has_failed();
}

Value ListOfItems(Runtime& runtime, const std::vector<Keyed>& items) {
  std::vector<Value> out;
  out.reserve(items.size());
  for (const Keyed& keyed : items) out.push_back(keyed.item);
  return runtime.MakeList(out);
}

Value ListFilter(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  std::span<const Value> items;
  if (!Bound(runtime, "list", arguments, {}).ok() || !Elements(runtime, input, &items)) {
    return Value::Failed();
  }
  return runtime.MakeList(items);
}

Value LengthFilter(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "length", arguments, {}).ok()) return Value::Failed();
  return Length(runtime, input);
}

Value First(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "first", arguments, {}).ok()) return Value::Failed();
  if (input.Is(Kind::kIterator)) {  // takes one element and leaves the others
    Iterator& iterator = *input.iterator;
    return iterator.next < iterator.items.size() ? iterator.items[iterator.next++]
                                                 : Value::Undefined("first");
  }
  std::span<const Value> items;
  if (!Elements(runtime, input, &items)) return Value::Failed();
  return items.empty() ? Value::Undefined("first") : items.front();
}

bool IsReversible(const Value& value) {
  return !value.Is(Kind::kIterator) && !value.Is(Kind::kLoop);
}

Value Last(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "last", arguments, {}).ok()) return Value::Failed();
  if (!IsReversible(input)) {
    return runtime.Fail(fmt::format("'{}' object is not reversible", TypeName(input)));
  }
  std::span<const Value> items;
  if (!Elements(runtime, input, &items)) return Value::Failed();
  return items.empty() ? Value::Undefined("last") : items.back();
}

Value Reverse(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "reverse", arguments, {}).ok()) return Value::Failed();
  if (input.is_string()) {
    return GetSlice(runtime, input, Value::None(), Value::None(), Value::Int(-1));
  }
  std::span<const Value> items;
  if (!Elements(runtime, input, &items)) return Value::Failed();
  std::vector<Value> out(items.rbegin(), items.rend());
  if (!IsReversible(input)) return runtime.MakeList(out);
  return runtime.MakeIterator(out, "reversed");
}

Value Join(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "join", arguments, {"d", "attribute"});
  std::span<const Value> items;
  if (!bound.ok() || !Elements(runtime, input, &items)) return Value::Failed();
  const Value separator = ToStr(runtime, bound.Or(0, Value::String("")));
  if (separator.failed()) return separator;
  const Getter get(runtime, bound[1]);
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator.str());
    const Value item = get(items[i]);
    if (item.failed() || !AppendStr(runtime, item, &out)) return Value::Failed();
    if (!runtime.ChargeBytes(separator.size)) return Value::Failed();
    if (out.size() > runtime.limits().heap_bytes) {
      return runtime.Fail("a joined text is too large", Code::kResourceExhausted);
    }
  }
  return runtime.MakeString(out);
}

Value Items(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!Bound(runtime, "items", arguments, {}).ok()) return Value::Failed();
  if (input.is_undefined()) return runtime.MakeIterator({}, "generator");
  if (!input.Is(Kind::kDict)) return runtime.Fail("Can only get item pairs from a mapping.");
  std::vector<Value> out;
  for (const Entry& entry : input.dict->all()) {
    const Value pair[] = {entry.key, entry.value};
    out.push_back(runtime.MakeList(pair, Kind::kTuple));
    if (out.back().failed()) return Value::Failed();
  }
  return runtime.MakeIterator(out, "generator");
}

Value DictSort(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  Bound bound(runtime, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  std::string_view by = "key";
  if (!bound.ok() || !bound.Text(1, &by)) return Value::Failed();
  if (input.is_undefined()) return FailUndefined(runtime, input);
  if (!input.Is(Kind::kDict)) {
    return runtime.Fail(fmt::format("dictsort wants a dict, not {}", TypeName(input)));
  }
  if (by != "key" && by != "value") {
    return runtime.Fail("You can only sort by either \"key\" or \"value\"");
  }
  std::vector<Keyed> items;
  for (const Entry& entry : input.dict->all()) {
    const Value pair[] = {entry.key, entry.value};
    Value key = by == "key" ? entry.key : entry.value;
    if (!bound.Flag(0, false)) key = IgnoreCase(runtime, key);
    items.push_back({key, runtime.MakeList(pair, Kind::kTuple)});
    if (key.failed() || items.back().item.failed()) return Value::Failed();
  }
  return Sort(runtime, &items, bound.Flag(2, false)) ? ListOfItems(runtime, items)
                                                     : Value::Failed();
}

Value SortFilter(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  std::span<const Value> items;
  if (!bound.ok() || !Elements(runtime, input, &items)) return Value::Failed();
  const Case letter_case = bound.Flag(1, false) ? Case::kKept : Case::kIgnored;
  // Several attributes stand between commas.
  std::vector<Getter> getters;
  if (bound[2] != nullptr && bound[2]->is_string()) {
    std::string_view text = bound[2]->str();
    while (true) {
      const size_t comma = std::min(text.find(','), text.size());
      const Value part = Value::String(text.substr(0, comma));
      getters.emplace_back(runtime, &part, letter_case);
      if (comma == text.size()) break;
      text.remove_prefix(comma + 1);
    }
  } else {
    getters.emplace_back(runtime, bound[2], letter_case);
  }
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    std::vector<Value> keys;
    for (const Getter& get : getters) {
      keys.push_back(get(item));
      if (keys.back().failed()) return Value::Failed();
    }
    keyed.push_back({runtime.MakeList(keys), item});
    if (keyed.back().key.failed()) return Value::Failed();
  }
  return Sort(runtime, &keyed, bound.Flag(0, false)) ? ListOfItems(runtime, keyed)
                                                     : Value::Failed();
}

Value Unique(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "unique", arguments, {"case_sensitive", "attribute"});
  std::span<const Value> items;
  if (!bound.ok() || !Elements(runtime, input, &items)) return Value::Failed();
  const Getter get(runtime, bound[1], bound.Flag(0, false) ? Case::kKept : Case::kIgnored);
  std::vector<Value> seen, out;
  for (const Value& item : items) {
    const Value key = get(item);
    if (key.failed()) return key;
    if (key.Is(Kind::kList) || key.Is(Kind::kDict)) {
      return runtime.Fail(fmt::format("unhashable type: '{}'", TypeName(key)));
    }
    bool is_known = false;
    for (size_t i = 0; i < seen.size() && !is_known; ++i) {
      if (!Equal(runtime, seen[i], key, &is_known)) return Value::Failed();
    }
    if (is_known) continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return runtime.MakeIterator(out, "generator");
}

Value Extreme(Runtime& runtime, std::string_view name, const Value& input,
              const CallArguments& arguments) {
  const Bound bound(runtime, name, arguments, {"case_sensitive", "attribute"});
  std::span<const Value> items;
  if (!bound.ok() || !Elements(runtime, input, &items)) return Value::Failed();
  if (items.empty()) return Value::Undefined(name);
  const Getter get(runtime, bound[1], bound.Flag(0, false) ? Case::kKept : Case::kIgnored);
  Value best = items[0], best_key = get(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    const Value key = get(items[i]);
    if (key.failed() || best_key.failed()) return Value::Failed();
    bool better = false;
    if (!(name == "min" ? Less(runtime, key, best_key, &better)
                        : Less(runtime, best_key, key, &better))) {
      return Value::Failed();
    }
    if (better) {
      best = items[i];
      best_key = key;
    }
  }
  return best_key.failed() ? best_key : best;
}

Value Min(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  return Extreme(runtime, "min", input, arguments);
}

Value Max(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  return Extreme(runtime, "max", input, arguments);
}

Value SumFilter(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "sum", arguments, {"attribute", "start"});
  std::span<const Value> items;
  if (!bound.ok() || !Elements(runtime, input, &items)) return Value::Failed();
  const Getter get(runtime, bound[0]);
  Value out = bound.Or(1, Value::Int(0));
  if (out.is_string()) return runtime.Fail("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : items) {
    const Value next = get(item);
    if (next.failed()) return next;
    out = BinaryOperation(runtime, Operator::kAdd, out, next);
    if (out.failed()) return out;
  }
  return out;
}

Value Attr(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  Bound bound(runtime, "attr", arguments, {"name"}, 1);
  std::string_view name;
  if (!bound.ok() || !bound.Text(0, &name)) return Value::Failed();
  bool found = false;
  const Value out = PythonAttribute(runtime, input, name, &found);
  return found ? out : Value::Undefined(name);
}

Value Batch(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  Bound bound(runtime, "batch", arguments, {"linecount", "fill_with"}, 1);
  std::span<const Value> items;
  int64_t size = 0;
  if (!bound.ok() || !bound.Int(0, &size) || !Elements(runtime, input, &items)) {
    return Value::Failed();
  }
  std::vector<Value> out, line;
  const auto finish = [&] {
    out.push_back(runtime.MakeList(line));
    line.clear();
    return !out.back().failed();
  };
  for (const Value& item : items) {
    if (static_cast<int64_t>(line.size()) == size && !finish()) return Value::Failed();
    line.push_back(item);
  }
  if (!line.empty()) {
    if (!bound.IsNone(1)) {
      if (size > Limits::kMaxRange) return runtime.Fail("batch: a line is too long");
      while (static_cast<int64_t>(line.size()) < size) line.push_back(*bound[1]);
    }
    if (!finish()) return Value::Failed();
  }
  return runtime.MakeIterator(out, "generator");
}

Value SliceFilter(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  Bound bound(runtime, "slice", arguments, {"slices", "fill_with"}, 1);
  std::span<const Value> items;
  int64_t slices = 0;
  if (!bound.ok() || !bound.Int(0, &slices) || !Elements(runtime, input, &items)) {
    return Value::Failed();
  }
  if (slices == 0) return runtime.Fail("integer division or modulo by zero");
  if (slices > Limits::kMaxRange) return runtime.Fail("slice: too many slices");
  std::vector<Value> out;
  const size_t count = slices < 0 ? 0 : static_cast<size_t>(slices);
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t extra = items.size() % count;
    const size_t size = items.size() / count + (i < extra ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<ptrdiff_t>(at),
                            items.begin() + static_cast<ptrdiff_t>(at + size));
    at += size;
    if (!bound.IsNone(1) && i >= extra) part.push_back(*bound[1]);
    out.push_back(runtime.MakeList(part));
    if (out.back().failed()) return Value::Failed();
  }
  return runtime.MakeIterator(out, "generator");
}

Value GroupBy(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  const Bound bound(runtime, "groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  std::span<const Value> items;
  if (!bound.ok() || !Elements(runtime, input, &items)) return Value::Failed();
  const Case letter_case = bound.Flag(2, false) ? Case::kKept : Case::kIgnored;
  const Getter key_of(runtime, bound[0], letter_case, bound[1]);
  const Getter shown(runtime, bound[0], Case::kKept, bound[1]);
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    keyed.push_back({key_of(item), item});
    if (keyed.back().key.failed()) return Value::Failed();
  }
  if (!Sort(runtime, &keyed, false)) return Value::Failed();
  std::vector<Value> out;
  for (size_t begin = 0; begin < keyed.size();) {
    std::vector<Value> group;
    size_t end = begin;
    for (bool equal = true; end < keyed.size(); ++end) {
      if (!Equal(runtime, keyed[begin].key, keyed[end].key, &equal)) return Value::Failed();
      if (!equal) break;
      group.push_back(keyed[end].item);
    }
    const Value pair[] = {shown(keyed[begin].item), runtime.MakeList(group)};
    out.push_back(runtime.MakeList(pair, Kind::kTuple));
    if (pair[0].failed() || pair[1].failed() || out.back().failed()) return Value::Failed();
    out.back().view = 1;
    begin = end;
  }
  return runtime.MakeList(out);
}

// The name of a filter or test as the first of `arguments`, and the others.
bool TakeName(Runtime& runtime, std::string_view function, const CallArguments& arguments,
              std::string_view* name, CallArguments* rest) {
  const Value& first = arguments.positional.front();
  if (!first.is_string()) {
    runtime.Fail(fmt::format("{} wants a name, not {}", function, TypeName(first)));
    return false;
  }
  *name = first.str();
  *rest = {arguments.positional.subspan(1), arguments.keywords};
  return true;
}

Value Map(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  if (!IsTrue(input)) return runtime.MakeIterator({}, "generator");
  std::span<const Value> items;
  if (!Elements(runtime, input, &items)) return Value::Failed();
  std::vector<Value> out;
  out.reserve(items.size());
  if (arguments.positional.empty()) {
    const Bound bound(runtime, "map", arguments, {"attribute", "default"}, 1);
    if (!bound.ok()) return Value::Failed();
    const Getter get(runtime, bound[0], Case::kKept, bound[1]);
    for (const Value& item : items) {
      out.push_back(get(item));
      if (out.back().failed()) return Value::Failed();
    }
    return runtime.MakeIterator(out, "generator");
  }
  std::string_view name;
  CallArguments rest;
  if (!TakeName(runtime, "map", arguments, &name, &rest)) return Value::Failed();
  const int16_t filter = FilterNumber(name);
  if (filter < 0) return FailUnknownFilter(runtime, name);
  for (const Value& item : items) {
    out.push_back(ApplyFilter(runtime, filter, item, rest));
    if (out.back().failed()) return Value::Failed();
  }
  return runtime.MakeIterator(out, "generator");
}

Value SelectOrReject(Runtime& runtime, const Value& input, CallArguments arguments, bool wanted,
                     bool by_attribute) {
  if (!IsTrue(input)) return runtime.MakeIterator({}, "generator");
  std::span<const Value> items;
  if (!Elements(runtime, input, &items)) return Value::Failed();
  const Value* attribute = nullptr;
  if (by_attribute) {
    if (arguments.positional.empty()) return runtime.Fail("Missing parameter for attribute name");
    attribute = &arguments.positional[0];
    arguments.positional = arguments.positional.subspan(1);
  }
  const Getter get(runtime, attribute);
  int16_t test = -1;
  CallArguments rest;
  if (!arguments.positional.empty()) {
    std::string_view name;
    if (!TakeName(runtime, "select", arguments, &name, &rest)) return Value::Failed();
    test = TestNumber(name);
    if (test < 0) return FailUnknownTest(runtime, name);
  }
  std::vector<Value> out;
  for (const Value& item : items) {
    const Value value = get(item);
    if (value.failed() || !runtime.Charge(1)) return Value::Failed();
    bool holds = IsTrue(value);
    if (test >= 0) {
      const Value answer = ApplyTest(runtime, test, value, rest);
      if (answer.failed()) return answer;
      holds = answer.boolean;
    }
    if (holds == wanted) out.push_back(item);
  }
  return runtime.MakeIterator(out, "generator");
}

template <bool kWanted, bool kByAttribute>
Value Select(Runtime& runtime, const Value& input, const CallArguments& arguments) {
  return SelectOrReject(runtime, input, arguments, kWanted, kByAttribute);
}

constexpr Filter kFilters[] = {
    {"attr", Attr},
    {"batch", Batch},
    {"count", LengthFilter},
    {"dictsort", DictSort},
    {"first", First},
    {"groupby", GroupBy},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", LengthFilter},
    {"list", ListFilter},
    {"map", Map},
    {"max", Max},
    {"min", Min},
    {"reject", Select<false, false>},
    {"rejectattr", Select<false, true>},
    {"reverse", Reverse},
    {"select", Select<true, false>},
    {"selectattr", Select<true, true>},
    {"slice", SliceFilter},
    {"sort", SortFilter},
    {"sum", SumFilter},
    {"unique", Unique},
};

}  // namespace

std::span<const Filter> SequenceFilters() { return kFilters; }

int16_t FilterNumber(std::string_view name) {
  int16_t first = 0;
  for (const std::span<const Filter> filters : {TextFilters(), SequenceFilters()}) {
    const auto it = std::ranges::find(filters, name, &Filter::name);
    if (it != filters.end()) return static_cast<int16_t>(first + (it - filters.begin()));
    first = static_cast<int16_t>(filters.size());
  }
  return -1;
}

Value ApplyFilter(Runtime& runtime, int16_t number, const Value& input,
                  const CallArguments& arguments) {
  if (!runtime.Charge(1)) return Value::Failed();
  const auto at = static_cast<size_t>(number);
  const std::span<const Filter> texts = TextFilters();
  const Filter& filter = at < texts.size() ? texts[at] : SequenceFilters()[at - texts.size()];
  return filter.function(runtime, input, arguments);
}

Value FailUnknownFilter(Runtime& runtime, std::string_view name) {
  if (std::ranges::find(kRefusedFilters, name) != std::end(kRefusedFilters)) {
    return runtime.Fail(fmt::format("the filter '{}' is not supported", name));
  }
  std::vector<std::string_view> names;
  for (const Filter& filter : TextFilters()) names.push_back(filter.name);
  for (const Filter& filter : SequenceFilters()) names.push_back(filter.name);
  return runtime.Fail(fmt::format("no filter named '{}'{}", name, DidYouMean(name, names)));
}

}  // namespace penstock::tokens::jinja
