// What templates can do to values besides control flow: operators, attributes, methods, filters,
// tests, functions. Everything takes the Runtime for memory, limits and errors, and returns a
// failed Value after an error.
//
// THREADS: those of the Runtime.
// SOURCE: Python 3.11's built-in types; Jinja 3.1's filters and tests; the sandbox that
// transformers uses.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "tokens/jinja_ast.h"
#include "tokens/jinja_value.h"

namespace penstock::tokens::jinja {

struct Keyword {
  std::string_view name;
  Value value;
};

struct CallArguments {
  std::span<const Value> positional;
  std::span<const Keyword> keywords;
};

// A call's arguments by parameter, as Python binds them. An error of binding is the Runtime's.
class Bound {
 public:
  static constexpr size_t kMax = 8;
  // The first `required` of `names` must be given.
  Bound(Runtime& runtime, std::string_view function, const CallArguments& arguments,
        std::initializer_list<std::string_view> names, size_t required = 0);

  bool ok() const { return ok_; }
  // Nothing given, or None.
  bool IsNone(size_t i) const { return values_[i] == nullptr || values_[i]->is_none(); }
  const Value* operator[](size_t i) const { return values_[i]; }
  Value Or(size_t i, Value fallback) const {
    return values_[i] == nullptr ? fallback : *values_[i];
  }
  bool Flag(size_t i, bool fallback) const {
    return values_[i] == nullptr ? fallback : IsTrue(*values_[i]);
  }
  // False, with an error, when it is given and no integer.
  bool Int(size_t i, int64_t* out);
  // The same for a text.
  bool Text(size_t i, std::string_view* out);

 private:
  bool Refuse(size_t i, std::string_view wanted);

  Runtime& runtime_;
  std::string_view function_;
  bool ok_ = true;
  const Value* values_[kMax] = {};
};

// The error of using an undefined value.
Value FailUndefined(Runtime& runtime, const Value& undefined);

// --- operators

Value BinaryOperation(Runtime& runtime, Operator op, const Value& left, const Value& right);
// `==` to `not in`; a bool.
Value Comparison(Runtime& runtime, Operator op, const Value& left, const Value& right);
Value Negated(Runtime& runtime, const Value& value);
Value Positive(Runtime& runtime, const Value& value);

// --- attributes and items

// obj.name and obj[key], with the one in place of the other where Jinja does so. What is not there
// is undefined.
Value GetAttribute(Runtime& runtime, const Value& object, std::string_view name);
Value GetItem(Runtime& runtime, const Value& object, const Value& key);
// Without items. Sets *found.
Value PythonAttribute(Runtime& runtime, const Value& object, std::string_view name, bool* found);
// Bounds that are not given are None.
Value GetSlice(Runtime& runtime, const Value& object, const Value& begin, const Value& end,
               const Value& step);

// --- callables

struct Scope;

struct Callable {
  enum class Form : uint8_t { kMethod, kGlobal, kMacro };
  Form form = Form::kMethod;
  std::string_view name;
  Value self;                            // kMethod
  const Signature* signature = nullptr;  // kMacro
  Scope* scope = nullptr;                // kMacro: where it was defined
};

struct Loop {
  std::span<const Value> items;
  size_t index0 = 0;
  size_t length = 0;
  int depth0 = 0;
  bool has_next = false;
  Value next;
  Value previous;
  Value changed = Value::Failed();  // what changed() saw last
};

// A method of a value or one of Jinja's global functions. REQUIRES: not a macro.
Value CallBuiltin(Runtime& runtime, const Callable& callable, const CallArguments& arguments,
                  std::chrono::local_time<std::chrono::microseconds> now);
Value CallStringMethod(Runtime& runtime, std::string_view name, const Value& self,
                       const CallArguments& arguments);
// "upper", "split", ...; and those that exist in Python but not here, whose call is an error.
bool IsStringMethod(std::string_view name);
// Whether a template may name this function without anybody having given it.
bool IsGlobal(std::string_view name);

// --- filters and tests

// -1 when there is none of that name.
int16_t FilterNumber(std::string_view name);
int16_t TestNumber(std::string_view name);
// REQUIRES: a number that the two gave.
Value ApplyFilter(Runtime& runtime, int16_t number, const Value& input,
                  const CallArguments& arguments);
Value ApplyTest(Runtime& runtime, int16_t number, const Value& input,
                const CallArguments& arguments);
Value FailUnknownFilter(Runtime& runtime, std::string_view name);
Value FailUnknownTest(Runtime& runtime, std::string_view name);

struct Filter {
  std::string_view name;
  Value (*function)(Runtime& runtime, const Value& input, const CallArguments& arguments);
};
// Of the two files that hold them, by name.
std::span<const Filter> TextFilters();
std::span<const Filter> SequenceFilters();

// --- formatting

// json.dumps as the filter `tojson` of transformers calls it.
Value ToJson(Runtime& runtime, const Value& input, const CallArguments& arguments);
// format % values.
Value PercentFormat(Runtime& runtime, const Value& format, const Value& values);
// format.format(...).
Value BraceFormat(Runtime& runtime, const Value& format, const CallArguments& arguments);
// &, <, >, ' and " as entities.
std::string Escaped(std::string_view text);
// `text` made of `like`: markup when that is.
Value MakeLike(Runtime& runtime, const Value& like, std::string_view text);
// str(value), escaped when `like` is markup and the value is not.
Value TextFor(Runtime& runtime, const Value& like, const Value& value);
// Python's int(text, base) and float(text); false when it is none. An integer beyond 64 bits is an
// error of the Runtime.
bool ParsePythonInt(Runtime& runtime, std::string_view text, int64_t base, int64_t* out);
bool ParsePythonFloat(std::string_view text, double* out);
// The lines of str.splitlines().
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);
// Appends `text`, padded to `width` characters. `align` is '<', '>' or '^'. False, with an error,
// when it is too long.
bool AppendPadded(Runtime& runtime, std::string_view text, int64_t width, char align,
                  std::string_view fill, std::string* out);

}  // namespace penstock::tokens::jinja
