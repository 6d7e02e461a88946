// Binding of a call's arguments, and the small helpers that every kind of built-in uses.
#include <fmt/format.h>

#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {

Bound::Bound(Runtime& runtime, std::string_view function, const CallArguments& arguments,
             std::initializer_list<std::string_view> names, size_t required)
    : runtime_(runtime), function_(function) {
  const auto refuse = [&](std::string what) {
    runtime_.Fail(fmt::format("{}() {}", function_, what));
    ok_ = false;
  };
  if (arguments.positional.size() > names.size()) {
    refuse(fmt::format("takes at most {} arguments ({} given)", names.size(),
                       arguments.positional.size()));
    return;
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const Keyword& keyword : arguments.keywords) {
    size_t i = 0;
    while (i < names.size() && names.begin()[i] != keyword.name) ++i;
    if (i == names.size()) {
      refuse(fmt::format("got an unexpected keyword argument '{}'", keyword.name));
      return;
    }
    if (values_[i] != nullptr) {
      refuse(fmt::format("got multiple values for argument '{}'", keyword.name));
      return;
    }
    values_[i] = &keyword.value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) {
      refuse(fmt::format("missing the argument '{}'", names.begin()[i]));
      return;
    }
  }
}

bool Bound::Refuse(size_t i, std::string_view wanted) {
  if (values_[i]->is_undefined()) {
    FailUndefined(runtime_, *values_[i]);
  } else {
    runtime_.Fail(fmt::format("{}(): argument {} must be {}, not {}", function_, i + 1, wanted,
                              TypeName(*values_[i])));
  }
  return false;
}

bool Bound::Int(size_t i, int64_t* out) {
  if (IsNone(i)) return true;
  if (!values_[i]->is_integral()) return Refuse(i, "int");
  *out = values_[i]->as_int();
  return true;
}

bool Bound::Text(size_t i, std::string_view* out) {
  if (IsNone(i)) return true;
  if (!values_[i]->is_string()) return Refuse(i, "str");
  *out = values_[i]->str();
  return true;
}

std::string Escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

Value MakeLike(Runtime& runtime, const Value& like, std::string_view text) {
  Value out = runtime.MakeString(text);
  if (!out.failed()) out.is_markup = like.is_string() && like.is_markup;
  return out;
}

Value TextFor(Runtime& runtime, const Value& like, const Value& value) {
  const Value text = ToStr(runtime, value);
  if (text.failed() || !like.is_string() || !like.is_markup) return text;
  if (value.is_string() && value.is_markup) return value;
  return MakeLike(runtime, like, Escaped(text.str()));
}

bool AppendPadded(Runtime& runtime, std::string_view text, int64_t width, char align,
                  std::string_view fill, std::string* out) {
  const auto size = static_cast<int64_t>(CountCharacters(text));
  const int64_t missing = width > size ? width - size : 0;
  if (missing > static_cast<int64_t>(runtime.limits().heap_bytes / 8) ||
      out->size() > runtime.limits().heap_bytes / 2) {
    runtime.Fail(fmt::format("a width of {} is too large", width), Code::kResourceExhausted);
    return false;
  }
  if (!runtime.ChargeBytes(text.size() + static_cast<size_t>(missing) * fill.size())) return false;
  const int64_t left = align == '>' ? missing : align == '<' ? 0 : missing / 2;
  for (int64_t i = 0; i < left; ++i) out->append(fill);
  out->append(text);
  for (int64_t i = left; i < missing; ++i) out->append(fill);
  return true;
}

}  // namespace penstock::tokens::jinja
