// Text made of formats: "%s" % x and "{}".format(x).
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

constexpr int64_t kMaxPrecision = 300;

struct Spec {
  bool left = false;
  bool plus = false;
  bool space = false;
  bool alternate = false;
  bool zero = false;
  bool thousands = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 's';
};

// Digits of an integer with sign and prefix apart: 'd', 'x', 'X', 'o', 'b'.
void IntegerDigits(int64_t value, const Spec& spec, std::string* sign, std::string* digits) {
  const uint64_t magnitude =
      value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  *sign = value < 0 ? "-" : spec.plus ? "+" : spec.space ? " " : "";
  const int base = spec.type == 'x' || spec.type == 'X' ? 16
                   : spec.type == 'o'                   ? 8
                   : spec.type == 'b'                   ? 2
                                                        : 10;
  char buffer[80];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, magnitude, base);
  digits->assign(buffer, end.ptr);
  if (spec.type == 'X') *digits = ToUpper(*digits);
  if (spec.alternate && base != 10) sign->append({'0', spec.type});
}

void AddThousands(std::string* digits) {
  size_t whole = 0;
  while (whole < digits->size() && (*digits)[whole] >= '0' && (*digits)[whole] <= '9') ++whole;
  for (size_t at = whole; at > 3;) {
    at -= 3;
    digits->insert(at, ",");
  }
}

void FloatDigits(double value, const Spec& spec, std::string* sign, std::string* digits) {
  *sign = std::signbit(value) && !std::isnan(value) ? "-" : spec.plus ? "+" : spec.space ? " " : "";
  value = std::fabs(value);
  const bool is_upper = spec.type == 'F' || spec.type == 'E' || spec.type == 'G';
  if (!std::isfinite(value)) {
    *digits = std::isnan(value) ? "nan" : "inf";
  } else {
    const char format[] = {'%', '.', '*', spec.type, '\0'};
    const char alternate[] = {'%', '#', '.', '*', spec.type, '\0'};
    char buffer[800];
    const int size =
        std::snprintf(buffer, sizeof buffer, spec.alternate ? alternate : format,
                      static_cast<int>(spec.precision < 0 ? 6 : spec.precision), value);
    digits->assign(buffer, static_cast<size_t>(size));
  }
  if (is_upper) *digits = ToUpper(*digits);
}

// Sign and digits in their width. `align` is '<', '>', '^' or '=' (fill between sign and digits).
bool AppendNumber(Runtime& runtime, std::string_view sign, std::string_view digits, int64_t width,
                  char align, std::string_view fill, std::string* out) {
  if (align == '=') {
    out->append(sign);
    return AppendPadded(runtime, digits, width - static_cast<int64_t>(sign.size()), '>', fill, out);
  }
  return AppendPadded(runtime, std::string(sign).append(digits), width, align, fill, out);
}

class Percent {
 public:
  Percent(Runtime& runtime, const Value& format, const Value& values)
      : runtime_(runtime), format_(format), text_(format.str()), values_(values) {
    if (values.Is(Kind::kTuple)) items_ = values.list->all();
  }

  Value Run() {
    while (at_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', at_), text_.size());
      out_.append(text_.substr(at_, percent - at_));
      at_ = percent + 1;
      if (percent < text_.size() && !Conversion()) return Value::Failed();
    }
    if (!runtime_.ChargeBytes(text_.size())) return Value::Failed();
    const bool all_used = values_.Is(Kind::kTuple) ? next_ == items_.size() : used_;
    // A mapping or a list may stay unused, as in Python.
    if (!all_used && !values_.Is(Kind::kDict) && !values_.Is(Kind::kList)) {
      return runtime_.Fail("not all arguments converted during string formatting");
    }
    return MakeLike(runtime_, format_, out_);
  }

 private:
  bool Fail(std::string what) {
    runtime_.Fail(std::move(what));
    return false;
  }

  bool Take(Value* out) {
    if (values_.Is(Kind::kTuple)) {
      if (next_ == items_.size()) return Fail("not enough arguments for format string");
      *out = items_[next_++];
      return true;
    }
    if (used_) return Fail("not enough arguments for format string");
    used_ = true;
    *out = values_;
    return true;
  }

  bool Number(int64_t* out) {
    if (at_ < text_.size() && text_[at_] == '*') {
      ++at_;
      Value value;
      if (!Take(&value)) return false;
      if (!value.is_integral()) return Fail("* wants int");
      *out = value.as_int();
      return true;
    }
    int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = std::min<int64_t>(value * 10 + (text_[at_] - '0'), INT32_MAX);
      *out = value;
    }
    return true;
  }

  bool Conversion() {
    Spec spec;
    Value value;
    bool has_value = false;
    if (at_ < text_.size() && text_[at_] == '(') {
      const size_t end = text_.find(')', at_);
      if (end == std::string_view::npos) return Fail("incomplete format key");
      if (!values_.Is(Kind::kDict)) return Fail("format requires a mapping");
      const std::string_view key = text_.substr(at_ + 1, end - at_ - 1);
      const Value* item = jinja::Find(*values_.dict, key);
      if (item == nullptr) return Fail(fmt::format("no key '{}' to format", key));
      value = *item;
      has_value = true;
      at_ = end + 1;
    }
    for (; at_ < text_.size(); ++at_) {
      const char flag = text_[at_];
      if (flag == '-') {
        spec.left = true;
      } else if (flag == '+') {
        spec.plus = true;
      } else if (flag == ' ') {
        spec.space = true;
      } else if (flag == '#') {
        spec.alternate = true;
      } else if (flag == '0') {
        spec.zero = true;
      } else {
        break;
      }
    }
    if (!Number(&spec.width)) return false;
    if (spec.width < 0) {
      spec.left = true;
      spec.width = -std::max<int64_t>(spec.width, -INT32_MAX);
    }
    if (at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      spec.precision = 0;
      if (!Number(&spec.precision)) return false;
      spec.precision = std::max<int64_t>(spec.precision, 0);
    }
    while (at_ < text_.size() && (text_[at_] == 'l' || text_[at_] == 'h' || text_[at_] == 'L'))
      ++at_;
    if (at_ == text_.size()) return Fail("incomplete format");
    spec.type = text_[at_++];
    if (spec.type == '%') {
      out_.push_back('%');
      return true;
    }
    if (!has_value && !Take(&value)) return false;
    return Convert(spec, value);
  }

  bool Convert(Spec spec, const Value& value) {
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a':
        return ConvertText(spec, value);
      case 'c':
        return ConvertCharacter(spec, value);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return ConvertInteger(spec, value);
      case 'f':
      case 'F':
      case 'e':
      case 'E':
      case 'g':
      case 'G':
        return ConvertFloat(spec, value);
      default:
        return Fail(fmt::format("unsupported format character '{}'", spec.type));
    }
  }

  bool ConvertText(const Spec& spec, const Value& value) {
    std::string text;
    if (spec.type == 'a') return Fail("%a is not supported");
    if (spec.type == 'r') {
      if (!AppendRepr(runtime_, value, &text)) return false;
    } else {
      const Value made = TextFor(runtime_, format_, value);
      if (made.failed()) return false;
      text = made.str();
    }
    if (spec.precision >= 0) {
      text.resize(ByteOfCharacter(text, static_cast<size_t>(spec.precision)));
    }
    return AppendPadded(runtime_, text, spec.width, spec.left ? '<' : '>', " ", &out_);
  }

  bool ConvertCharacter(const Spec& spec, const Value& value) {
    std::string text;
    if (value.is_string() && CountCharacters(value.str()) == 1) {
      text = value.str();
    } else if (value.is_integral() && value.as_int() >= 0 && value.as_int() <= 0x10ffff) {
      AppendCharacter(static_cast<char32_t>(value.as_int()), &text);
    } else {
      return Fail("%c requires int or char");
    }
    return AppendPadded(runtime_, text, spec.width, spec.left ? '<' : '>', " ", &out_);
  }

  bool ConvertInteger(Spec spec, const Value& value) {
    if (!value.is_number() ||
        (value.Is(Kind::kFloat) && spec.type != 'd' && spec.type != 'i' && spec.type != 'u')) {
      return Fail(
          fmt::format("%{} format: a real number is required, not {}", spec.type, TypeName(value)));
    }
    if (value.Is(Kind::kFloat) && !(std::fabs(value.number) < 9.2e18)) {
      return Fail("cannot convert float to a 64-bit integer");
    }
    const int64_t number =
        value.Is(Kind::kFloat) ? static_cast<int64_t>(value.number) : value.as_int();
    std::string sign, digits;
    IntegerDigits(number, spec, &sign, &digits);
    if (spec.precision > kMaxPrecision) return Fail("a precision is too large");
    if (spec.precision > static_cast<int64_t>(digits.size())) {
      digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
    }
    return Finish(spec, sign, digits);
  }

  bool ConvertFloat(const Spec& spec, const Value& value) {
    if (!value.is_number()) {
      return Fail(fmt::format("must be real number, not {}", TypeName(value)));
    }
    if (spec.precision > kMaxPrecision) return Fail("a precision is too large");
    std::string sign, digits;
    FloatDigits(value.as_double(), spec, &sign, &digits);
    return Finish(spec, sign, digits);
  }

  bool Finish(const Spec& spec, std::string_view sign, std::string_view digits) {
    const char align = spec.left ? '<' : spec.zero ? '=' : '>';
    return AppendNumber(runtime_, sign, digits, spec.width, align, align == '=' ? "0" : " ", &out_);
  }

  Runtime& runtime_;
  const Value& format_;
  std::string_view text_;
  const Value& values_;
  std::span<const Value> items_;
  size_t next_ = 0;
  bool used_ = false;
  size_t at_ = 0;
  std::string out_;
};

// --- str.format()

class Brace {
 public:
  Brace(Runtime& runtime, const Value& format, const CallArguments& arguments)
      : runtime_(runtime), format_(format), arguments_(arguments) {}

  Value Run() {
    std::string out;
    if (!Expand(format_.str(), 0, &out)) return Value::Failed();
    return MakeLike(runtime_, format_, out);
  }

 private:
  bool Fail(std::string what) {
    runtime_.Fail(std::move(what));
    return false;
  }

  bool Expand(std::string_view text, int depth, std::string* out) {
    if (depth > 2) return Fail("Max string recursion exceeded");
    if (!runtime_.ChargeBytes(text.size())) return false;
    for (size_t at = 0; at < text.size();) {
      const char c = text[at++];
      if (c != '{' && c != '}') {
        out->push_back(c);
      } else if (at < text.size() && text[at] == c) {
        out->push_back(c);
        ++at;
      } else if (c == '}') {
        return Fail("Single '}' encountered in format string");
      } else {
        size_t end = at;
        for (int open = 1; end < text.size(); ++end) {
          if (text[end] == '{') ++open;
          if (text[end] == '}' && --open == 0) break;
        }
        if (end == text.size()) return Fail("expected '}' before end of string");
        if (!Field(text.substr(at, end - at), depth, out)) return false;
        at = end + 1;
      }
    }
    return true;
  }

  bool Field(std::string_view field, int depth, std::string* out) {
    std::string_view name = field, spec_text;
    char conversion = 's';
    bool converts = false;
    size_t end = 0;
    for (bool in_index = false; end < field.size(); ++end) {
      if (field[end] == '[') in_index = true;
      if (field[end] == ']') in_index = false;
      if (!in_index && (field[end] == ':' || field[end] == '!')) break;
    }
    name = field.substr(0, end);
    if (end < field.size() && field[end] == '!') {
      if (end + 1 >= field.size()) return Fail("end of string while looking for conversion");
      conversion = field[end + 1];
      converts = true;
      end += 2;
      if (end < field.size() && field[end] != ':') return Fail("expected ':' after conversion");
    }
    if (end < field.size()) spec_text = field.substr(end + 1);
    Value value;
    if (!Look(name, &value)) return false;
    std::string spec;
    if (!Expand(spec_text, depth + 1, &spec)) return false;
    if (converts) {
      std::string text;
      if (conversion != 's' && conversion != 'r') {
        return Fail(fmt::format("conversion '!{}' is not supported", conversion));
      }
      if (!(conversion == 'r' ? AppendRepr(runtime_, value, &text)
                              : AppendStr(runtime_, value, &text))) {
        return false;
      }
      value = runtime_.MakeString(text);
    }
    return Apply(value, spec, out);
  }

  bool Look(std::string_view name, Value* out) {
    size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, end);
    const bool is_number =
        !first.empty() && std::ranges::all_of(first, [](char c) { return c >= '0' && c <= '9'; });
    if (first.empty() || is_number) {
      size_t index = next_;
      if (first.empty()) {
        ++next_;
      } else {
        std::from_chars(first.data(), first.data() + first.size(), index);
      }
      if (index >= arguments_.positional.size()) {
        return Fail(
            fmt::format("Replacement index {} out of range for positional args tuple", index));
      }
      *out = arguments_.positional[index];
    } else {
      const auto keyword = std::ranges::find(arguments_.keywords, first, &Keyword::name);
      if (keyword == arguments_.keywords.end()) return Fail(fmt::format("KeyError: '{}'", first));
      *out = keyword->value;
    }
    while (end < name.size()) {
      if (name[end] == '.') {
        const size_t next = std::min(name.find_first_of(".[", end + 1), name.size());
        *out = GetAttribute(runtime_, *out, name.substr(end + 1, next - end - 1));
        end = next;
      } else {
        const size_t close = name.find(']', end);
        if (close == std::string_view::npos) return Fail("Missing ']' in format string");
        const std::string_view key = name.substr(end + 1, close - end - 1);
        int64_t index = 0;
        const auto read = std::from_chars(key.data(), key.data() + key.size(), index);
        const bool is_index = read.ec == std::errc() && read.ptr == key.data() + key.size();
        *out = GetItem(runtime_, *out, is_index ? Value::Int(index) : Value::String(key));
        end = close + 1;
      }
      if (out->failed()) return false;
    }
    return true;
  }

  bool Apply(const Value& value, std::string_view spec_text, std::string* out) {
    if (spec_text.empty()) {
      const Value text = TextFor(runtime_, format_, value);
      if (text.failed()) return false;
      out->append(text.str());
      return runtime_.ChargeBytes(text.size);
    }
    Spec spec;
    spec.type = '\0';
    std::string fill = " ";
    char align = '\0';
    if (!Parse(spec_text, &spec, &fill, &align)) return false;
    if (value.is_string()) {
      if ((spec.type != '\0' && spec.type != 's') || align == '=') {
        return Fail(fmt::format("Unknown format code '{}' for object of type 'str'", spec.type));
      }
      std::string_view text = value.str();
      if (spec.precision >= 0) {
        text = text.substr(0, ByteOfCharacter(text, static_cast<size_t>(spec.precision)));
      }
      return AppendPadded(runtime_, text, spec.width, align == '\0' ? '<' : align, fill, out);
    }
    if (!value.is_number()) {
      return Fail(
          fmt::format("unsupported format string passed to {}.__format__", TypeName(value)));
    }
    return ApplyNumber(value, spec, fill, align, out);
  }

  bool ApplyNumber(const Value& value, Spec spec, std::string_view fill, char align,
                   std::string* out) {
    std::string sign, digits;
    const bool is_float_type =
        spec.type != '\0' && std::string_view("fFeEgG%").find(spec.type) != std::string_view::npos;
    if (value.is_integral() && !is_float_type) {
      if (spec.type == '\0' || spec.type == 'n') spec.type = 'd';
      if (std::string_view("dxXob").find(spec.type) == std::string_view::npos ||
          spec.precision >= 0) {
        return Fail(fmt::format("the format '{}' of an integer is not supported", spec.type));
      }
      IntegerDigits(value.as_int(), spec, &sign, &digits);
    } else if (spec.type == '\0' && spec.precision < 0) {
      std::string text;
      AppendFloat(value.as_double(), &text);
      const bool is_negative = text.starts_with('-');
      digits = text.substr(is_negative ? 1 : 0);
      sign = is_negative ? "-" : spec.plus ? "+" : spec.space ? " " : "";
    } else if (!is_float_type) {
      return Fail(fmt::format("the format '{}' of a float is not supported", spec.type));
    } else {
      double number = value.as_double();
      const bool is_percent = spec.type == '%';
      if (is_percent) {
        number *= 100;
        spec.type = 'f';
      }
      FloatDigits(number, spec, &sign, &digits);
      if (is_percent) digits.push_back('%');
    }
    if (spec.thousands) AddThousands(&digits);
    return AppendNumber(runtime_, sign, digits, spec.width, align == '\0' ? '>' : align, fill, out);
  }

  // [[fill]align][sign][#][0][width][,][.precision][type]
  bool Parse(std::string_view text, Spec* spec, std::string* fill, char* align) {
    const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
    size_t at = 0;
    size_t second = 0;
    NextCharacter(text, &second);
    if (second < text.size() && is_align(text[second])) {
      fill->assign(text.substr(0, second));
      *align = text[second];
      at = second + 1;
    } else if (is_align(text[0])) {
      *align = text[0];
      at = 1;
    }
    const auto take = [&](char c) {
      if (at >= text.size() || text[at] != c) return false;
      ++at;
      return true;
    };
    if (take('+')) {
      spec->plus = true;
    } else if (take(' ')) {
      spec->space = true;
    } else {
      take('-');
    }
    spec->alternate = take('#');
    if (take('0') && *align == '\0') {
      *fill = "0";
      *align = '=';
    }
    const auto number = [&](int64_t* out) {
      const auto read = std::from_chars(text.data() + at, text.data() + text.size(), *out);
      at = static_cast<size_t>(read.ptr - text.data());
      return read.ec != std::errc::result_out_of_range;
    };
    if (!number(&spec->width)) return Fail("Too many decimal digits in format string");
    spec->thousands = take(',');
    if (take('.')) {
      if (!number(&spec->precision) || spec->precision < 0)
        return Fail("Format specifier missing precision");
      if (spec->precision > kMaxPrecision) return Fail("a precision is too large");
    }
    if (at < text.size()) spec->type = text[at++];
    if (at < text.size()) return Fail(fmt::format("Invalid format specifier '{}'", text));
    return true;
  }

  Runtime& runtime_;
  const Value& format_;
  const CallArguments& arguments_;
  size_t next_ = 0;
};

}  // namespace

Value PercentFormat(Runtime& runtime, const Value& format, const Value& values) {
  return Percent(runtime, format, values).Run();
}

Value BraceFormat(Runtime& runtime, const Value& format, const CallArguments& arguments) {
  return Brace(runtime, format, arguments).Run();
}

bool ParsePythonInt(Runtime& runtime, std::string_view text, int64_t base, int64_t* out) {
  text = StripSpace(text, Side::kBoth);
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  if (base != 0 && (base < 2 || base > 36)) {
    runtime.Fail("int() base must be >= 2 and <= 36, or 0");
    return false;
  }
  const char mark = text.size() > 1 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == 0 || base == marked)) {
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
    base = marked;
  }
  const bool refuses_zeros = base == 0;
  if (base == 0) base = 10;
  std::string digits;
  bool after_digit = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextCharacter(text, &at);
    if (c == '_') {
      if (!after_digit || at == text.size()) return false;
      after_digit = false;
      continue;
    }
    if (c < 0x80) {
      digits.push_back(static_cast<char>(c));
    } else if (IsDecimal(c)) {
      digits.push_back(static_cast<char>('0' + DecimalValue(c)));
    } else {
      return false;
    }
    after_digit = true;
  }
  if (refuses_zeros && digits.size() > 1 && digits[0] == '0' &&
      digits.find_first_not_of('0') != std::string::npos) {
    return false;
  }
  if (is_negative) digits.insert(0, "-");
  if (digits.empty() || digits[0] == '+' ||
      (is_negative && digits.size() > 1 && digits[1] == '-')) {
    return false;
  }
  const auto read =
      std::from_chars(digits.data(), digits.data() + digits.size(), *out, static_cast<int>(base));
  if (read.ptr != digits.data() + digits.size()) return false;
  if (read.ec == std::errc::result_out_of_range) {
    runtime.Fail(fmt::format("{} is beyond the integers of 64 bits", text), Code::kOutOfRange);
    return false;
  }
  return read.ec == std::errc() && !(digits[0] == '-' && !is_negative);
}

bool ParsePythonFloat(std::string_view text, double* out) {
  text = StripSpace(text, Side::kBoth);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    if (text[i] == '_') {
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return false;
      continue;
    }
    plain.push_back(text[i]);
  }
  std::string lower = ToLower(plain);
  if (lower.starts_with('+') || lower.starts_with('-')) lower.erase(0, 1);
  const bool is_word = lower == "inf" || lower == "infinity" || lower == "nan";
  if (!is_word && lower.find_first_not_of("0123456789.e+-") != std::string::npos) return false;
  if (plain.empty()) return false;
  char* end = nullptr;
  *out = std::strtod(plain.c_str(), &end);
  return end == plain.c_str() + plain.size();
}

}  // namespace penstock::tokens::jinja
