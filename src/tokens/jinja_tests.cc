// What stands after `is`.
#include <fmt/format.h>

#include <algorithm>

#include "core/text.h"
#include "tokens/jinja_builtins.h"

namespace penstock::tokens::jinja {
namespace {

struct Test {
  std::string_view name;
  Value (*function)(Runtime& runtime, const Value& value, const CallArguments& arguments);
};

// Tests of the kind alone.
template <bool (*kHolds)(const Value&)>
Value OfKind(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  if (!Bound(runtime, "test", arguments, {}).ok()) return Value::Failed();
  return Value::Bool(kHolds(value));
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsBoolean(const Value& v) { return v.Is(Kind::kBool); }
bool IsTrueItself(const Value& v) { return v.Is(Kind::kBool) && v.boolean; }
bool IsFalseItself(const Value& v) { return v.Is(Kind::kBool) && !v.boolean; }
bool IsInteger(const Value& v) { return v.Is(Kind::kInt); }
bool IsFloat(const Value& v) { return v.Is(Kind::kFloat); }
bool IsNumber(const Value& v) { return v.is_number(); }
bool IsString(const Value& v) { return v.is_string(); }
bool IsMapping(const Value& v) { return v.Is(Kind::kDict); }
bool IsEscaped(const Value& v) { return v.is_string() && v.is_markup; }
bool IsCallable(const Value& v) {
  return v.Is(Kind::kCallable) || v.Is(Kind::kJoiner) || v.Is(Kind::kLoop) || v.is_undefined();
}
bool IsSequence(const Value& v) {
  return v.is_string() || v.Is(Kind::kList) || v.Is(Kind::kTuple) || v.Is(Kind::kDict) ||
         v.Is(Kind::kRange) || v.is_undefined();
}
bool IsIterable(const Value& v) {
  return IsSequence(v) || v.Is(Kind::kView) || v.Is(Kind::kIterator) || v.Is(Kind::kLoop);
}

template <Operator kOperator>
Value Compares(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Bound bound(runtime, "test", arguments, {"other"}, 1);
  return bound.ok() ? Comparison(runtime, kOperator, value, *bound[0]) : Value::Failed();
}

Value RestEquals(Runtime& runtime, const Value& value, const Value& divisor, int64_t wanted) {
  const Value rest = BinaryOperation(runtime, Operator::kModulo, value, divisor);
  return rest.failed() ? rest : Comparison(runtime, Operator::kEqual, rest, Value::Int(wanted));
}

template <int kRest>
Value HasRestOfTwo(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  if (!Bound(runtime, "test", arguments, {}).ok()) return Value::Failed();
  return RestEquals(runtime, value, Value::Int(2), kRest);
}

Value DivisibleBy(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Bound bound(runtime, "divisibleby", arguments, {"num"}, 1);
  return bound.ok() ? RestEquals(runtime, value, *bound[0], 0) : Value::Failed();
}

Value SameAs(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Bound bound(runtime, "sameas", arguments, {"other"}, 1);
  if (!bound.ok()) return Value::Failed();
  const Value& other = *bound[0];
  if (value.kind != other.kind) return Value::Bool(false);
  if (value.is_none()) return Value::Bool(true);
  if (value.Is(Kind::kBool)) return Value::Bool(value.boolean == other.boolean);
  if (value.is_string()) return Value::Bool(value.str() == other.str());
  return Value::Bool(value.integer == other.integer);  // the number, or the pointer
}

template <auto kMethod>
Value HasCase(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  const Value text = ToStr(runtime, value);
  return text.failed() ? text : CallStringMethod(runtime, kMethod(), text, arguments);
}
constexpr auto kIsLower = [] { return std::string_view("islower"); };
constexpr auto kIsUpper = [] { return std::string_view("isupper"); };

Value NamesFilter(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  if (!Bound(runtime, "filter", arguments, {}).ok()) return Value::Failed();
  return Value::Bool(value.is_string() && FilterNumber(value.str()) >= 0);
}

Value NamesTest(Runtime& runtime, const Value& value, const CallArguments& arguments) {
  if (!Bound(runtime, "test", arguments, {}).ok()) return Value::Failed();
  return Value::Bool(value.is_string() && TestNumber(value.str()) >= 0);
}

constexpr Test kTests[] = {
    {"!=", Compares<Operator::kNotEqual>},
    {"<", Compares<Operator::kLess>},
    {"<=", Compares<Operator::kLessEqual>},
    {"==", Compares<Operator::kEqual>},
    {">", Compares<Operator::kGreater>},
    {">=", Compares<Operator::kGreaterEqual>},
    {"boolean", OfKind<IsBoolean>},
    {"callable", OfKind<IsCallable>},
    {"defined", OfKind<IsDefined>},
    {"divisibleby", DivisibleBy},
    {"eq", Compares<Operator::kEqual>},
    {"equalto", Compares<Operator::kEqual>},
    {"escaped", OfKind<IsEscaped>},
    {"even", HasRestOfTwo<0>},
    {"false", OfKind<IsFalseItself>},
    {"filter", NamesFilter},
    {"float", OfKind<IsFloat>},
    {"ge", Compares<Operator::kGreaterEqual>},
    {"greaterthan", Compares<Operator::kGreater>},
    {"gt", Compares<Operator::kGreater>},
    {"in", Compares<Operator::kIn>},
    {"integer", OfKind<IsInteger>},
    {"iterable", OfKind<IsIterable>},
    {"le", Compares<Operator::kLessEqual>},
    {"lessthan", Compares<Operator::kLess>},
    {"lower", HasCase<kIsLower>},
    {"lt", Compares<Operator::kLess>},
    {"mapping", OfKind<IsMapping>},
    {"ne", Compares<Operator::kNotEqual>},
    {"none", OfKind<IsNone>},
    {"number", OfKind<IsNumber>},
    {"odd", HasRestOfTwo<1>},
    {"sameas", SameAs},
    {"sequence", OfKind<IsSequence>},
    {"string", OfKind<IsString>},
    {"test", NamesTest},
    {"true", OfKind<IsTrueItself>},
    {"undefined", OfKind<IsUndefined>},
    {"upper", HasCase<kIsUpper>},
};
static_assert(std::ranges::is_sorted(kTests, {}, &Test::name));

}  // namespace

int16_t TestNumber(std::string_view name) {
  const auto it = std::ranges::lower_bound(kTests, name, {}, &Test::name);
  return it != std::end(kTests) && it->name == name ? static_cast<int16_t>(it - kTests) : -1;
}

Value ApplyTest(Runtime& runtime, int16_t number, const Value& input,
                const CallArguments& arguments) {
  return kTests[number].function(runtime, input, arguments);
}

Value FailUnknownTest(Runtime& runtime, std::string_view name) {
  std::vector<std::string_view> names;
  for (const Test& test : kTests) names.push_back(test.name);
  return runtime.Fail(fmt::format("no test named '{}'{}", name, DidYouMean(name, names)));
}

}  // namespace penstock::tokens::jinja
