// The values of a template that is being rendered: Python's None, bool, int, float, str, list,
// tuple, dict and the few objects that Jinja adds. A Value has 16 bytes and owns nothing: what it
// points at lies in the heap of the render, in the template or in the caller's JSON, and none of
// that is freed before the render ends. Lists and dicts never change after they were made; only a
// namespace does.
//
// A Value of kind kFailed stands for an error whose text the Runtime holds; whoever gets one
// returns it.
//
// THREADS: a Runtime belongs to one render.
// SOURCE: Python 3.11's data model and Jinja 3.1's runtime, as far as templates can see them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace penstock::tokens::jinja {

enum class Kind : uint8_t {
  kFailed,
  kUndefined,  // text: what is undefined
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,      // dict.items(), dict.keys(), dict.values()
  kIterator,  // gives its elements once: reverse, map, select, ...
  kRange,
  kNamespace,
  kCallable,
  kLoop,
  kCycler,
  kJoiner,
};

struct List;
struct Dict;
struct Iterator;
struct Range;
struct Namespace;
struct Callable;
struct Loop;
struct Cycler;
struct Joiner;

struct Value {
  Kind kind = Kind::kUndefined;
  bool is_markup = false;  // kString: the result of `safe` or `escape`
  uint8_t view = 0;        // kView: a ViewKind
  uint32_t size = 0;       // kString, kUndefined: bytes
  union {
    bool boolean;
    int64_t integer = 0;
    double number;
    const char* text;
    const List* list;  // kList, kTuple, kView
    const Dict* dict;
    Iterator* iterator;
    const Range* range;
    Namespace* names;
    const Callable* callable;
    Loop* loop;
    Cycler* cycler;
    Joiner* joiner;
  };

  static Value None() { return Of(Kind::kNone); }
  static Value Failed() { return Of(Kind::kFailed); }
  static Value Bool(bool value) {
    Value out = Of(Kind::kBool);
    out.boolean = value;
    return out;
  }
  static Value Int(int64_t value) {
    Value out = Of(Kind::kInt);
    out.integer = value;
    return out;
  }
  static Value Float(double value) {
    Value out = Of(Kind::kFloat);
    out.number = value;
    return out;
  }
  // Borrows. REQUIRES: below 4 GiB.
  static Value String(std::string_view text) {
    Value out = Of(Kind::kString);
    out.size = static_cast<uint32_t>(text.size());
    out.text = text.data();
    return out;
  }
  static Value Undefined(std::string_view name) {
    Value out = String(name);
    out.kind = Kind::kUndefined;
    return out;
  }
  static Value Of(Kind kind) {
    Value out;
    out.kind = kind;
    return out;
  }

  bool Is(Kind other) const { return kind == other; }
  bool failed() const { return kind == Kind::kFailed; }
  bool is_undefined() const { return kind == Kind::kUndefined; }
  bool is_none() const { return kind == Kind::kNone; }
  bool is_string() const { return kind == Kind::kString; }
  // What Python calls an int; bools are.
  bool is_integral() const { return kind == Kind::kInt || kind == Kind::kBool; }
  bool is_number() const { return is_integral() || kind == Kind::kFloat; }
  // REQUIRES: is_integral().
  int64_t as_int() const { return kind == Kind::kBool ? boolean : integer; }
  // REQUIRES: is_number().
  double as_double() const { return kind == Kind::kFloat ? number : static_cast<double>(as_int()); }
  // REQUIRES: kString or kUndefined.
  std::string_view str() const { return {text, size}; }
};
static_assert(sizeof(Value) == 16);

enum class ViewKind : uint8_t { kKeys, kValues, kItems };

struct List {
  const Value* items = nullptr;
  size_t size = 0;
  std::span<const Value> all() const { return {items, size}; }
};

struct Entry {
  Value key;
  Value value;
};

// Keys in the order in which they were first put. `index` is there for large ones: a table of entry
// numbers + 1.
struct Dict {
  const Entry* entries = nullptr;
  size_t size = 0;
  const uint32_t* index = nullptr;
  size_t index_mask = 0;
  int32_t message = -1;  // which of the conversation's messages this is
  std::span<const Entry> all() const { return {entries, size}; }
};

struct Iterator {
  std::span<const Value> items;
  size_t next = 0;
  std::string_view type = "generator";
};

struct Range {
  int64_t start = 0;
  int64_t step = 1;
  int64_t count = 0;
  int64_t stop = 0;
  int64_t at(int64_t i) const { return start + i * step; }
};

struct Namespace {
  std::vector<std::pair<std::string_view, Value>> attributes;
};

struct Cycler {
  std::span<const Value> items;
  size_t next = 0;
};

struct Joiner {
  Value separator;
  bool used = false;
};

// What a template may use up.
struct Limits {
  uint64_t steps = 20'000'000;                   // evaluated nodes, visited elements, bytes / 64
  size_t output_bytes = 64u << 20;               // of the rendered text
  size_t heap_bytes = 256u << 20;                // values made while rendering
  int depth = 800;                               // nested expressions, statements and calls
  size_t value_depth = 200;                      // nested lists and dicts
  static constexpr int64_t kMaxRange = 100'000;  // Jinja's sandbox has the same
};

// Memory, limits and the error of one render.
class Runtime {
 public:
  explicit Runtime(const Limits& limits) : limits_(limits) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Keeps the first error, with the line that is being rendered.
  Value Fail(std::string message, Code code = Code::kInvalidArgument);
  bool has_failed() const { return has_failed_; }
  const Error& error() const { return error_; }
  void set_line(uint32_t line) { line_ = line; }
  uint32_t line() const { return line_; }

  // False, with an error, when the steps are used up.
  bool Charge(uint64_t steps) {
    steps_ += steps;
    return steps_ <= limits_.steps || FailSteps();
  }
  bool ChargeBytes(size_t bytes) { return Charge(bytes / 64 + 1); }
  uint64_t steps() const { return steps_; }
  const Limits& limits() const { return limits_; }

  // Uninitialised memory that lives as long as this; nullptr, with an error, beyond the limit.
  char* Bytes(size_t size);
  template <class T>
  T* Array(size_t count) {
    if (count > (size_t{1} << 40) / sizeof(T)) return reinterpret_cast<T*>(Bytes(SIZE_MAX / 2));
    Align(alignof(T));
    return reinterpret_cast<T*>(Bytes(count * sizeof(T)));
  }
  template <class T>
  T* New() {
    T* out = Array<T>(1);
    return out == nullptr ? nullptr : new (out) T();
  }
  // One that needs its destructor.
  Namespace* NewNamespace();

  // Values made of copies.
  Value MakeString(std::string_view text);
  Value Concat(std::string_view a, std::string_view b);
  Value MakeList(std::span<const Value> items, Kind kind = Kind::kList);
  // Borrows `items`, which lie in this heap.
  Value AdoptList(std::span<const Value> items, Kind kind = Kind::kList);
  Value MakeIterator(std::span<const Value> items, std::string_view type);
  // Later values of a key win, at the place of the first. Fails for keys that cannot be hashed.
  Value MakeDict(std::span<const Entry> entries);
  // REQUIRES: keys are different strings; `entries` lie in this heap.
  Value AdoptDict(std::span<const Entry> entries, int32_t message = -1);

 private:
  bool FailSteps();
  void Align(size_t to);
  Dict* IndexedDict(std::span<const Entry> entries);

  struct Chunk {
    std::unique_ptr<char[]> bytes;
    size_t size;
  };
  Limits limits_;
  std::vector<Chunk> chunks_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  char* next_ = nullptr;
  char* end_ = nullptr;
  size_t used_ = 0;
  uint64_t steps_ = 0;
  uint32_t line_ = 0;
  bool has_failed_ = false;
  Error error_;
};

// The value of `key`, or nullptr.
const Value* Find(const Dict& dict, const Value& key);
const Value* Find(const Dict& dict, std::string_view key);

// "str", "int", "dict", ... as Python says.
std::string_view TypeName(const Value& value);

// Python's bool(value).
bool IsTrue(const Value& value);

// False, with an error, when the values are nested too deep.
bool Equal(Runtime& runtime, const Value& a, const Value& b, bool* equal, size_t depth = 0);

// Python's a < b. Fails for types without an order.
bool Less(Runtime& runtime, const Value& a, const Value& b, bool* less, size_t depth = 0);

// `value in container`.
Value Contains(Runtime& runtime, const Value& container, const Value& value);

// The elements as Python iterates; an iterator is used up. Fails for what cannot be iterated.
bool Elements(Runtime& runtime, const Value& value, std::span<const Value>* items);

// Python's len(). Fails for what has none.
Value Length(Runtime& runtime, const Value& value);

// Appends Python's str(value) or repr(value).
bool AppendStr(Runtime& runtime, const Value& value, std::string* out);
bool AppendRepr(Runtime& runtime, const Value& value, std::string* out, size_t depth = 0);
// Python's str(value), without a copy where it is a string.
Value ToStr(Runtime& runtime, const Value& value);

// Appends Python's repr of a float: "1.0", "1e+16", "inf".
void AppendFloat(double value, std::string* out);

}  // namespace penstock::tokens::jinja
