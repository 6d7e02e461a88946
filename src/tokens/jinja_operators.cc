// Python's operators.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

std::string_view Symbol(Operator op) {
  constexpr std::string_view kSymbols[] = {"+",  "-", "*",  "/", "//", "%",  "** or pow()", "==",
                                           "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSymbols[static_cast<size_t>(op)];
}

Value Unsupported(Runtime& runtime, Operator op, const Value& left, const Value& right) {
  if (left.is_undefined()) return FailUndefined(runtime, left);
  if (right.is_undefined()) return FailUndefined(runtime, right);
  return runtime.Fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", Symbol(op),
                                  TypeName(left), TypeName(right)));
}

Value Overflow(Runtime& runtime, Operator op) {
  return runtime.Fail(
      fmt::format("the result of '{}' is beyond the integers of 64 bits", Symbol(op)),
      Code::kOutOfRange);
}

Value DivisionByZero(Runtime& runtime) { return runtime.Fail("division by zero"); }

Value IntegerPower(Runtime& runtime, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return runtime.Fail("0.0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t out = 1;
  if (base == 0 || base == 1) return Value::Int(exponent == 0 ? 1 : base);
  if (base == -1) return Value::Int(exponent % 2 == 0 ? 1 : -1);
  for (; exponent > 0; --exponent) {  // at most 63 times: the base is 2 or more
    if (__builtin_mul_overflow(out, base, &out)) return Overflow(runtime, Operator::kPower);
  }
  return Value::Int(out);
}

Value IntegerOperation(Runtime& runtime, Operator op, int64_t a, int64_t b) {
  int64_t out = 0;
  switch (op) {
    case Operator::kAdd:
      return __builtin_add_overflow(a, b, &out) ? Overflow(runtime, op) : Value::Int(out);
    case Operator::kSubtract:
      return __builtin_sub_overflow(a, b, &out) ? Overflow(runtime, op) : Value::Int(out);
    case Operator::kMultiply:
      return __builtin_mul_overflow(a, b, &out) ? Overflow(runtime, op) : Value::Int(out);
    case Operator::kDivide:
      if (b == 0) return DivisionByZero(runtime);
      return Value::Float(
          static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
    case Operator::kFloorDivide:
    case Operator::kModulo: {
      if (b == 0) return runtime.Fail("integer division or modulo by zero");
      if (b == -1) {
        if (op == Operator::kModulo) return Value::Int(0);
        return __builtin_sub_overflow(0, a, &out) ? Overflow(runtime, op) : Value::Int(out);
      }
      const int64_t rest = a % b;
      const bool rounds_down = rest != 0 && (rest < 0) != (b < 0);
      if (op == Operator::kModulo) return Value::Int(rounds_down ? rest + b : rest);
      return Value::Int(rounds_down ? a / b - 1 : a / b);
    }
    default:
      return IntegerPower(runtime, a, b);
  }
}

// Python's float_divmod.
Value FloatDivision(Operator op, double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1;
    }
  } else {
    rest = std::copysign(0.0, b);
  }
  if (op == Operator::kModulo) return Value::Float(rest);
  if (quotient == 0) return Value::Float(std::copysign(0.0, a / b));
  double floor = std::floor(quotient);
  if (quotient - floor > 0.5) floor += 1;
  return Value::Float(floor);
}

Value FloatOperation(Runtime& runtime, Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value::Float(a + b);
    case Operator::kSubtract:
      return Value::Float(a - b);
    case Operator::kMultiply:
      return Value::Float(a * b);
    case Operator::kDivide:
      return b == 0 ? runtime.Fail("float division by zero") : Value::Float(a / b);
    case Operator::kFloorDivide:
    case Operator::kModulo:
      if (b == 0) return runtime.Fail("float floor division or modulo by zero");
      return FloatDivision(op, a, b);
    default:
      break;
  }
  if (a == 0 && b < 0) return runtime.Fail("0.0 cannot be raised to a negative power");
  const double out = std::pow(a, b);
  if (std::isnan(out) && !std::isnan(a) && !std::isnan(b)) {
    return runtime.Fail("complex numbers are not supported");
  }
  if (std::isinf(out) && std::isfinite(a) && std::isfinite(b)) {
    return runtime.Fail("the result of '**' is beyond the floats", Code::kOutOfRange);
  }
  return Value::Float(out);
}

Value RepeatedText(Runtime& runtime, const Value& text, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  if (times == 0 || text.size == 0) return MakeLike(runtime, text, "");
  if (times > runtime.limits().heap_bytes / text.size) {
    return runtime.Fail(fmt::format("a text of {} times {} bytes is above {} bytes", times,
                                    text.size, runtime.limits().heap_bytes),
                        Code::kResourceExhausted);
  }
  char* out = runtime.Bytes(times * text.size);
  if (out == nullptr || !runtime.ChargeBytes(times * text.size) || !runtime.Charge(times / 8)) {
    return Value::Failed();
  }
  for (size_t i = 0; i < times; ++i) std::memcpy(out + i * text.size, text.text, text.size);
  Value made = Value::String({out, times * text.size});
  made.is_markup = text.is_markup;
  return made;
}

Value RepeatedList(Runtime& runtime, const Value& list, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  const size_t size = list.list->size;
  if (times == 0 || size == 0) return runtime.AdoptList({}, list.kind);
  if (times > runtime.limits().heap_bytes / sizeof(Value) / size) {
    return runtime.Fail(
        fmt::format("a {} of {} times {} elements is too large", TypeName(list), times, size),
        Code::kResourceExhausted);
  }
  Value* out = runtime.Array<Value>(times * size);
  if (out == nullptr || !runtime.Charge(times * size)) return Value::Failed();
  for (size_t i = 0; i < times; ++i) std::copy_n(list.list->items, size, out + i * size);
  return runtime.AdoptList({out, times * size}, list.kind);
}

bool IsListLike(const Value& value) { return value.Is(Kind::kList) || value.Is(Kind::kTuple); }

Value Sum(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_string() && right.is_string()) {
    if (!left.is_markup && !right.is_markup) return runtime.Concat(left.str(), right.str());
    const Value& like = left.is_markup ? left : right;
    const Value a = TextFor(runtime, like, left), b = TextFor(runtime, like, right);
    if (a.failed() || b.failed()) return Value::Failed();
    Value out = runtime.Concat(a.str(), b.str());
    out.is_markup = true;
    return out;
  }
  if (IsListLike(left) && left.kind == right.kind) {
    const size_t size = left.list->size + right.list->size;
    Value* out = runtime.Array<Value>(size);
    if (out == nullptr || !runtime.Charge(size)) return Value::Failed();
    std::ranges::copy(left.list->all(), out);
    std::ranges::copy(right.list->all(), out + left.list->size);
    return runtime.AdoptList({out, size}, left.kind);
  }
  if (left.is_undefined() || right.is_undefined()) {
    return Unsupported(runtime, Operator::kAdd, left, right);
  }
  if (left.is_string()) {
    return runtime.Fail(
        fmt::format("can only concatenate str (not \"{}\") to str", TypeName(right)));
  }
  return Unsupported(runtime, Operator::kAdd, left, right);
}

}  // namespace

Value FailUndefined(Runtime& runtime, const Value& undefined) {
  if (undefined.view != 0) return runtime.Fail(std::string(undefined.str()));
  return runtime.Fail(fmt::format("'{}' is undefined", undefined.str()));
}

Value BinaryOperation(Runtime& runtime, Operator op, const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) {
      return IntegerOperation(runtime, op, left.as_int(), right.as_int());
    }
    return FloatOperation(runtime, op, left.as_double(), right.as_double());
  }
  if (op == Operator::kAdd) return Sum(runtime, left, right);
  if (op == Operator::kModulo && left.is_string()) {
    return PercentFormat(runtime, left, right);
  }
  if (op == Operator::kMultiply) {
    const bool left_counts = left.is_integral();
    const Value& count = left_counts ? left : right;
    const Value& repeated = left_counts ? right : left;
    if (count.is_integral() && repeated.is_string()) {
      return RepeatedText(runtime, repeated, count.as_int());
    }
    if (count.is_integral() && IsListLike(repeated)) {
      return RepeatedList(runtime, repeated, count.as_int());
    }
  }
  return Unsupported(runtime, op, left, right);
}

Value Comparison(Runtime& runtime, Operator op, const Value& left, const Value& right) {
  bool holds = false;
  switch (op) {
    case Operator::kEqual:
    case Operator::kNotEqual:
      if (!Equal(runtime, left, right, &holds)) return Value::Failed();
      return Value::Bool(holds == (op == Operator::kEqual));
    case Operator::kLess:
      if (!Less(runtime, left, right, &holds)) return Value::Failed();
      return Value::Bool(holds);
    case Operator::kGreater:
      if (!Less(runtime, right, left, &holds)) return Value::Failed();
      return Value::Bool(holds);
    case Operator::kLessEqual:
    case Operator::kGreaterEqual: {
      const bool is_less = op == Operator::kLessEqual;
      // Not "not greater": comparisons with nan are all false.
      if (!Less(runtime, is_less ? left : right, is_less ? right : left, &holds)) {
        return Value::Failed();
      }
      if (!holds && !Equal(runtime, left, right, &holds)) return Value::Failed();
      return Value::Bool(holds);
    }
    default: {
      const Value found = Contains(runtime, right, left);
      if (found.failed()) return found;
      return Value::Bool(found.boolean == (op == Operator::kIn));
    }
  }
}

Value Negated(Runtime& runtime, const Value& value) {
  if (value.Is(Kind::kFloat)) return Value::Float(-value.number);
  if (value.is_integral()) return IntegerOperation(runtime, Operator::kSubtract, 0, value.as_int());
  if (value.is_undefined()) return FailUndefined(runtime, value);
  return runtime.Fail(fmt::format("bad operand type for unary -: '{}'", TypeName(value)));
}

Value Positive(Runtime& runtime, const Value& value) {
  if (value.is_integral()) return Value::Int(value.as_int());
  if (value.Is(Kind::kFloat)) return value;
  if (value.is_undefined()) return FailUndefined(runtime, value);
  return runtime.Fail(fmt::format("bad operand type for unary +: '{}'", TypeName(value)));
}

}  // namespace penstock::tokens::jinja
