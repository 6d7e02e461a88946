#include "tokens/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

constexpr size_t kChunkBytes = 32 << 10;
// Dicts up to this size are searched from the front.
constexpr size_t kSmallDict = 12;

uint64_t HashBytes(std::string_view text) { return std::hash<std::string_view>{}(text); }

// Equal keys have equal hashes: 1, 1.0 and True are one key.
uint64_t HashKey(const Value& key) {
  switch (key.kind) {
    case Kind::kString:
      return HashBytes(key.str());
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<double>{}(static_cast<double>(key.as_int()));
    case Kind::kFloat:
      return std::hash<double>{}(key.number == 0 ? 0.0 : key.number);
    case Kind::kTuple: {
      uint64_t out = key.list->size;
      for (const Value& item : key.list->all()) out = out * 1'000'003 + HashKey(item);
      return out;
    }
    default:
      return static_cast<uint64_t>(key.kind);
  }
}

bool IsHashable(const Value& key, size_t depth = 0) {
  if (key.Is(Kind::kTuple)) {
    if (depth > 16) return false;
    return std::ranges::all_of(key.list->all(),
                               [&](const Value& item) { return IsHashable(item, depth + 1); });
  }
  return !key.Is(Kind::kList) && !key.Is(Kind::kDict) && !key.Is(Kind::kView);
}

// -1, 0, 1; 2 when one of them is not a number.
int CompareNumbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int();
  }
  const auto wide = [](const Value& v) {
    return v.Is(Kind::kFloat) ? static_cast<long double>(v.number)
                              : static_cast<long double>(v.as_int());
  };
  const long double x = wide(a), y = wide(b);
  if (std::isnan(x) || std::isnan(y)) return 2;
  return x < y ? -1 : x > y;
}

// Equality of keys; they hold no containers but tuples.
bool SameKey(const Value& a, const Value& b) {
  if (a.is_string()) return b.is_string() && a.str() == b.str();
  if (a.is_number()) return b.is_number() && CompareNumbers(a, b) == 0;
  if (a.kind != b.kind) return false;
  if (a.Is(Kind::kTuple)) {
    return std::ranges::equal(a.list->all(), b.list->all(), SameKey);
  }
  if (a.is_none() || a.is_undefined()) return true;
  return a.text == b.text;
}

}  // namespace

Value Runtime::Fail(std::string message, Code code) {
  if (!has_failed_) {
    has_failed_ = true;
    error_ = {code, line_ == 0 ? std::move(message)
                               : fmt::format("line {}: {}", line_, std::move(message))};
  }
  return Value::Failed();
}

bool Runtime::FailSteps() {
  Fail(fmt::format("the template takes more than {} steps", limits_.steps),
       Code::kResourceExhausted);
  return false;
}

void Runtime::Align(size_t to) {
  const auto at = reinterpret_cast<uintptr_t>(next_);
  const size_t skip = (to - at % to) % to;
  if (next_ != nullptr && skip <= static_cast<size_t>(end_ - next_)) next_ += skip;
}

char* Runtime::Bytes(size_t size) {
  if (next_ != nullptr && size <= static_cast<size_t>(end_ - next_))
    return std::exchange(next_, next_ + size);
  const size_t chunk =
      std::max(size, std::min<size_t>(kChunkBytes << std::min<size_t>(chunks_.size(), 6), 1 << 20));
  if (size > limits_.heap_bytes || used_ + chunk > limits_.heap_bytes) {
    Fail(fmt::format("the template's values take more than {} bytes", limits_.heap_bytes),
         Code::kResourceExhausted);
    return nullptr;
  }
  used_ += chunk;
  // Uninitialised: what is not written is not touched.
  chunks_.push_back({std::unique_ptr<char[]>(new char[chunk]), chunk});
  next_ = chunks_.back().bytes.get();
  end_ = next_ + chunk;
  return std::exchange(next_, next_ + size);
}

Namespace* Runtime::NewNamespace() {
  if (Bytes(64) == nullptr) return nullptr;  // counts
  namespaces_.push_back(std::make_unique<Namespace>());
  return namespaces_.back().get();
}

Value Runtime::MakeString(std::string_view text) { return Concat(text, {}); }

Value Runtime::Concat(std::string_view a, std::string_view b) {
  const size_t size = a.size() + b.size();
  if (!ChargeBytes(b.size())) return Value::Failed();
  // The text that grows in a loop is the last one made: it grows where it lies.
  if (!a.empty() && a.data() + a.size() == next_ && b.size() <= static_cast<size_t>(end_ - next_)) {
    std::memmove(next_, b.data(), b.size());
    next_ += b.size();
    return Value::String({a.data(), size});
  }
  if (!ChargeBytes(a.size())) return Value::Failed();
  char* out = Bytes(size);
  if (out == nullptr) return Value::Failed();
  if (!a.empty()) std::memcpy(out, a.data(), a.size());
  if (!b.empty()) std::memcpy(out + a.size(), b.data(), b.size());
  return Value::String({out, size});
}

Value Runtime::AdoptList(std::span<const Value> items, Kind kind) {
  List* list = New<List>();
  if (list == nullptr) return Value::Failed();
  list->items = items.data();
  list->size = items.size();
  Value out = Value::Of(kind);
  out.list = list;
  return out;
}

Value Runtime::MakeList(std::span<const Value> items, Kind kind) {
  if (!Charge(items.size())) return Value::Failed();
  Value* copy = Array<Value>(items.size());
  if (copy == nullptr) return Value::Failed();
  std::ranges::copy(items, copy);
  return AdoptList({copy, items.size()}, kind);
}

Value Runtime::MakeIterator(std::span<const Value> items, std::string_view type) {
  const Value list = MakeList(items);
  if (list.failed()) return list;
  Iterator* iterator = New<Iterator>();
  if (iterator == nullptr) return Value::Failed();
  iterator->items = list.list->all();
  iterator->type = type;
  Value out = Value::Of(Kind::kIterator);
  out.iterator = iterator;
  return out;
}

Dict* Runtime::IndexedDict(std::span<const Entry> entries) {
  Dict* dict = New<Dict>();
  if (dict == nullptr) return nullptr;
  dict->entries = entries.data();
  dict->size = entries.size();
  if (entries.size() <= kSmallDict) return dict;
  const size_t slots = std::bit_ceil(entries.size() * 2);
  auto* index = Array<uint32_t>(slots);
  if (index == nullptr || !Charge(slots)) return nullptr;
  std::fill_n(index, slots, 0);
  for (size_t i = 0; i < entries.size(); ++i) {
    size_t at = HashKey(entries[i].key) & (slots - 1);
    while (index[at] != 0) at = (at + 1) & (slots - 1);
    index[at] = static_cast<uint32_t>(i + 1);
  }
  dict->index = index;
  dict->index_mask = slots - 1;
  return dict;
}

Value Runtime::AdoptDict(std::span<const Entry> entries, int32_t message) {
  Dict* dict = IndexedDict(entries);
  if (dict == nullptr) return Value::Failed();
  dict->message = message;
  Value out = Value::Of(Kind::kDict);
  out.dict = dict;
  return out;
}

Value Runtime::MakeDict(std::span<const Entry> entries) {
  Entry* copy = Array<Entry>(entries.size());
  if (copy == nullptr) return Value::Failed();
  size_t size = 0;
  for (const Entry& entry : entries) {
    if (!IsHashable(entry.key)) {
      return Fail(fmt::format("unhashable type: '{}'", TypeName(entry.key)));
    }
    if (!Charge(size / 8 + 1)) return Value::Failed();
    Entry* same =
        std::find_if(copy, copy + size, [&](const Entry& e) { return SameKey(e.key, entry.key); });
    if (same != copy + size) {
      same->value = entry.value;
    } else {
      copy[size++] = entry;
    }
  }
  return AdoptDict({copy, size});
}

const Value* Find(const Dict& dict, const Value& key) {
  if (key.is_string()) return Find(dict, key.str());
  for (const Entry& entry : dict.all()) {
    if (SameKey(entry.key, key)) return &entry.value;
  }
  return nullptr;
}

const Value* Find(const Dict& dict, std::string_view key) {
  if (dict.index == nullptr) {
    for (const Entry& entry : dict.all()) {
      if (entry.key.size == key.size() && entry.key.is_string() && entry.key.str() == key) {
        return &entry.value;
      }
    }
    return nullptr;
  }
  for (size_t at = HashBytes(key) & dict.index_mask; dict.index[at] != 0;
       at = (at + 1) & dict.index_mask) {
    const Entry& entry = dict.entries[dict.index[at] - 1];
    if (entry.key.is_string() && entry.key.str() == key) return &entry.value;
  }
  return nullptr;
}

std::string_view TypeName(const Value& value) {
  switch (value.kind) {
    case Kind::kFailed:
      return "error";
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.is_markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView: {
      constexpr std::string_view kNames[] = {"dict_keys", "dict_values", "dict_items"};
      return kNames[value.view];
    }
    case Kind::kIterator:
      return value.iterator->type;
    case Kind::kRange:
      return "range";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kCallable:
      return "function";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "object";
}

bool IsTrue(const Value& value) {
  switch (value.kind) {
    case Kind::kFailed:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.boolean;
    case Kind::kInt:
      return value.integer != 0;
    case Kind::kFloat:
      return value.number != 0;
    case Kind::kString:
      return value.size != 0;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return value.list->size != 0;
    case Kind::kDict:
      return value.dict->size != 0;
    case Kind::kRange:
      return value.range->count != 0;
    default:
      return true;
  }
}

namespace {

bool TooDeep(Runtime& runtime, size_t depth) {
  if (depth <= runtime.limits().value_depth) return false;
  runtime.Fail(fmt::format("values are nested deeper than {}", runtime.limits().value_depth),
               Code::kResourceExhausted);
  return true;
}

bool EqualLists(Runtime& runtime, const List& a, const List& b, bool* equal, size_t depth) {
  *equal = a.size == b.size;
  for (size_t i = 0; *equal && i < a.size; ++i) {
    if (!Equal(runtime, a.items[i], b.items[i], equal, depth + 1)) return false;
  }
  return true;
}

bool EqualDicts(Runtime& runtime, const Dict& a, const Dict& b, bool* equal, size_t depth) {
  *equal = a.size == b.size;
  for (size_t i = 0; *equal && i < a.size; ++i) {
    const Value* other = Find(b, a.entries[i].key);
    *equal = other != nullptr;
    if (*equal && !Equal(runtime, a.entries[i].value, *other, equal, depth + 1)) return false;
  }
  return true;
}

}  // namespace

bool Equal(Runtime& runtime, const Value& a, const Value& b, bool* equal, size_t depth) {
  if (!runtime.Charge(1) || TooDeep(runtime, depth)) return false;
  *equal = false;
  if (a.is_number() && b.is_number()) {
    *equal = CompareNumbers(a, b) == 0;
    return true;
  }
  if (a.kind != b.kind) return true;
  switch (a.kind) {
    case Kind::kUndefined:
    case Kind::kNone:
      *equal = true;
      return true;
    case Kind::kString:
      *equal = a.str() == b.str();
      return a.size != b.size || runtime.ChargeBytes(a.size);
    case Kind::kList:
    case Kind::kTuple:
      return EqualLists(runtime, *a.list, *b.list, equal, depth);
    case Kind::kDict:
      return EqualDicts(runtime, *a.dict, *b.dict, equal, depth);
    case Kind::kRange:
      *equal = a.range->count == b.range->count &&
               (a.range->count == 0 || (a.range->start == b.range->start &&
                                        (a.range->count == 1 || a.range->step == b.range->step)));
      return true;
    default:
      *equal = a.text == b.text;  // one of the pointers; identity
      return true;
  }
}

bool Less(Runtime& runtime, const Value& a, const Value& b, bool* less, size_t depth) {
  if (!runtime.Charge(1) || TooDeep(runtime, depth)) return false;
  if (a.is_number() && b.is_number()) {
    *less = CompareNumbers(a, b) == -1;
    return true;
  }
  if (a.is_string() && b.is_string()) {
    *less = a.str() < b.str();  // UTF-8 has the order of its characters
    return runtime.ChargeBytes(std::min(a.size, b.size));
  }
  if (a.kind == b.kind && (a.Is(Kind::kList) || a.Is(Kind::kTuple))) {
    const size_t size = std::min(a.list->size, b.list->size);
    for (size_t i = 0; i < size; ++i) {
      bool equal = false;
      if (!Equal(runtime, a.list->items[i], b.list->items[i], &equal, depth + 1)) return false;
      if (!equal) return Less(runtime, a.list->items[i], b.list->items[i], less, depth + 1);
    }
    *less = a.list->size < b.list->size;
    return true;
  }
  for (const Value& side : {a, b}) {
    if (side.is_undefined()) {
      runtime.Fail(fmt::format("'{}' is undefined", side.str()));
      return false;
    }
  }
  runtime.Fail(fmt::format("'<' not supported between instances of '{}' and '{}'", TypeName(a),
                           TypeName(b)));
  return false;
}

Value Contains(Runtime& runtime, const Value& container, const Value& value) {
  if (container.is_string()) {
    if (!value.is_string()) {
      return runtime.Fail(
          fmt::format("'in <string>' requires string as left operand, not {}", TypeName(value)));
    }
    if (!runtime.ChargeBytes(container.size)) return Value::Failed();
    return Value::Bool(value.size == 0 ||
                       memmem(container.text, container.size, value.text, value.size) != nullptr);
  }
  if (container.Is(Kind::kDict)) {
    if (!IsHashable(value)) {
      return runtime.Fail(fmt::format("unhashable type: '{}'", TypeName(value)));
    }
    if (!value.is_string() && !runtime.Charge(container.dict->size)) return Value::Failed();
    return Value::Bool(Find(*container.dict, value) != nullptr);
  }
  std::span<const Value> items;
  if (!Elements(runtime, container, &items)) return Value::Failed();
  for (const Value& item : items) {
    bool equal = false;
    if (!Equal(runtime, item, value, &equal)) return Value::Failed();
    if (equal) return Value::Bool(true);
  }
  return Value::Bool(false);
}

namespace {

bool CharacterElements(Runtime& runtime, std::string_view text, std::span<const Value>* items) {
  const size_t size = CountCharacters(text);
  Value* out = runtime.Array<Value>(size);
  if (out == nullptr || !runtime.Charge(size)) return false;
  size_t at = 0;
  for (size_t i = 0; i < size; ++i) {
    const size_t begin = at;
    NextCharacter(text, &at);
    out[i] = Value::String(text.substr(begin, at - begin));
  }
  *items = {out, size};
  return true;
}

}  // namespace

bool Elements(Runtime& runtime, const Value& value, std::span<const Value>* items) {
  switch (value.kind) {
    case Kind::kUndefined:
      *items = {};
      return true;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      *items = value.list->all();
      return true;
    case Kind::kIterator:
      *items = value.iterator->items.subspan(value.iterator->next);
      value.iterator->next = value.iterator->items.size();
      return true;
    case Kind::kString:
      return CharacterElements(runtime, value.str(), items);
    case Kind::kDict: {
      Value* out = runtime.Array<Value>(value.dict->size);
      if (out == nullptr || !runtime.Charge(value.dict->size)) return false;
      for (size_t i = 0; i < value.dict->size; ++i) out[i] = value.dict->entries[i].key;
      *items = {out, value.dict->size};
      return true;
    }
    case Kind::kRange: {
      const auto size = static_cast<size_t>(value.range->count);
      Value* out = runtime.Array<Value>(size);
      if (out == nullptr || !runtime.Charge(size)) return false;
      for (size_t i = 0; i < size; ++i) {
        out[i] = Value::Int(value.range->at(static_cast<int64_t>(i)));
      }
      *items = {out, size};
      return true;
    }
    default:
      runtime.Fail(fmt::format("'{}' object is not iterable", TypeName(value)));
      return false;
  }
}

Value Length(Runtime& runtime, const Value& value) {
  switch (value.kind) {
    case Kind::kUndefined:
      return Value::Int(0);
    case Kind::kString:
      if (!runtime.ChargeBytes(value.size)) return Value::Failed();
      return Value::Int(static_cast<int64_t>(CountCharacters(value.str())));
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return Value::Int(static_cast<int64_t>(value.list->size));
    case Kind::kDict:
      return Value::Int(static_cast<int64_t>(value.dict->size));
    case Kind::kRange:
      return Value::Int(value.range->count);
    default:
      return runtime.Fail(fmt::format("object of type '{}' has no len()", TypeName(value)));
  }
}

void AppendFloat(double value, std::string* out) {
  if (std::isnan(value)) {
    out->append("nan");
    return;
  }
  if (std::isinf(value)) {
    out->append(value < 0 ? "-inf" : "inf");
    return;
  }
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  if (text.front() == '-') {
    out->push_back('-');
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  const char* exponent_text = text.data() + e + 1;
  if (*exponent_text == '+') ++exponent_text;
  std::from_chars(exponent_text, text.data() + text.size(), exponent);
  std::string digits(1, text[0]);
  if (e > 1) digits.append(text.substr(2, e - 2));
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out->append(digits, 0, 1);
    if (count > 1) out->append(".").append(digits, 1);
    fmt::format_to(std::back_inserter(*out), "e{}{:02}", exponent < 0 ? '-' : '+',
                   std::abs(exponent));
  } else if (exponent < 0) {
    out->append("0.").append(static_cast<size_t>(-exponent - 1), '0').append(digits);
  } else if (exponent + 1 >= count) {
    out->append(digits).append(static_cast<size_t>(exponent + 1 - count), '0').append(".0");
  } else {
    const auto whole = static_cast<size_t>(exponent + 1);
    out->append(digits, 0, whole).append(".").append(digits, whole);
  }
}

namespace {

void AppendStringRepr(std::string_view text, std::string* out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out->push_back(quote);
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCharacter(text, &at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out->push_back('\\');
      out->push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out->append("\\n");
    } else if (c == '\r') {
      out->append("\\r");
    } else if (c == '\t') {
      out->append("\\t");
    } else if (IsPrintable(c)) {
      out->append(text.substr(begin, at - begin));
    } else {
      const auto code = static_cast<uint32_t>(c);
      auto end = std::back_inserter(*out);
      if (code < 0x100) {
        fmt::format_to(end, "\\x{:02x}", code);
      } else if (code < 0x10000) {
        fmt::format_to(end, "\\u{:04x}", code);
      } else {
        fmt::format_to(end, "\\U{:08x}", code);
      }
    }
  }
  out->push_back(quote);
}

bool AppendItemReprs(Runtime& runtime, std::span<const Value> items, std::string* out,
                     size_t depth) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->append(", ");
    if (!AppendRepr(runtime, items[i], out, depth + 1)) return false;
  }
  return true;
}

bool AppendDictRepr(Runtime& runtime, const Dict& dict, std::string* out, size_t depth) {
  out->push_back('{');
  for (size_t i = 0; i < dict.size; ++i) {
    if (i > 0) out->append(", ");
    if (!AppendRepr(runtime, dict.entries[i].key, out, depth + 1)) return false;
    out->append(": ");
    if (!AppendRepr(runtime, dict.entries[i].value, out, depth + 1)) return false;
  }
  out->push_back('}');
  return true;
}

bool AppendContainerRepr(Runtime& runtime, const Value& value, std::string* out, size_t depth) {
  switch (value.kind) {
    case Kind::kList:
      out->push_back('[');
      if (!AppendItemReprs(runtime, value.list->all(), out, depth)) return false;
      out->push_back(']');
      return true;
    case Kind::kTuple:
      out->push_back('(');
      if (!AppendItemReprs(runtime, value.list->all(), out, depth)) return false;
      out->append(value.list->size == 1 ? ",)" : ")");
      return true;
    case Kind::kView:
      out->append(TypeName(value)).append("([");
      if (!AppendItemReprs(runtime, value.list->all(), out, depth)) return false;
      out->append("])");
      return true;
    case Kind::kDict:
      return AppendDictRepr(runtime, *value.dict, out, depth);
    case Kind::kNamespace:
      out->append("<Namespace {");
      for (size_t i = 0; i < value.names->attributes.size(); ++i) {
        if (i > 0) out->append(", ");
        AppendStringRepr(value.names->attributes[i].first, out);
        out->append(": ");
        if (!AppendRepr(runtime, value.names->attributes[i].second, out, depth + 1)) return false;
      }
      out->append("}>");
      return true;
    default:
      // Python prints an address here, which nothing can repeat.
      runtime.Fail(fmt::format("a {} object cannot be printed", TypeName(value)));
      return false;
  }
}

}  // namespace

bool AppendRepr(Runtime& runtime, const Value& value, std::string* out, size_t depth) {
  if (!runtime.Charge(1) || TooDeep(runtime, depth)) return false;
  if (out->size() > runtime.limits().heap_bytes) {
    runtime.Fail(fmt::format("a text has more than {} bytes", runtime.limits().heap_bytes),
                 Code::kResourceExhausted);
    return false;
  }
  switch (value.kind) {
    case Kind::kFailed:
      return false;
    case Kind::kUndefined:
      out->append("Undefined");
      return true;
    case Kind::kNone:
      out->append("None");
      return true;
    case Kind::kBool:
      out->append(value.boolean ? "True" : "False");
      return true;
    case Kind::kInt:
      fmt::format_to(std::back_inserter(*out), "{}", value.integer);
      return true;
    case Kind::kFloat:
      AppendFloat(value.number, out);
      return true;
    case Kind::kString:
      if (!runtime.ChargeBytes(value.size)) return false;
      if (value.is_markup) out->append("Markup(");
      AppendStringRepr(value.str(), out);
      if (value.is_markup) out->push_back(')');
      return true;
    case Kind::kRange: {
      const Range& range = *value.range;
      fmt::format_to(std::back_inserter(*out), "range({}, {}", range.start, range.stop);
      if (range.step != 1) fmt::format_to(std::back_inserter(*out), ", {}", range.step);
      out->push_back(')');
      return true;
    }
    default:
      return AppendContainerRepr(runtime, value, out, depth);
  }
}

bool AppendStr(Runtime& runtime, const Value& value, std::string* out) {
  if (value.is_undefined()) return true;
  if (!value.is_string()) return AppendRepr(runtime, value, out);
  out->append(value.str());
  return runtime.ChargeBytes(value.size);
}

Value ToStr(Runtime& runtime, const Value& value) {
  if (value.is_string()) return Value::String(value.str());
  if (value.is_undefined()) return Value::String("");
  std::string out;
  if (!AppendRepr(runtime, value, &out)) return Value::Failed();
  return runtime.MakeString(out);
}

}  // namespace penstock::tokens::jinja
