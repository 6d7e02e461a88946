// The methods of Python's str.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tokens/jinja_builtins.h"
#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

constexpr size_t kNpos = std::string_view::npos;

struct Call {
  Runtime& runtime;
  std::string_view name;
  const Value& self;
  const CallArguments& arguments;

  std::string_view text() const { return self.str(); }
  Value Make(std::string_view made) const { return MakeLike(runtime, self, made); }
};

// Linear in the texts, whatever they are.
size_t FindIn(std::string_view text, std::string_view what, size_t from) {
  if (from > text.size()) return kNpos;
  if (what.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, what.data(), what.size());
  return found == nullptr ? kNpos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

// The last one before the end; charged as what it may cost.
bool FindLast(Runtime& runtime, std::string_view text, std::string_view what, size_t* out) {
  *out = kNpos;
  if (what.size() > text.size()) return true;
  for (size_t at = text.size() - what.size() + 1; at-- > 0;) {
    if (what.empty() || text[at] == what[0]) {
      if (!runtime.ChargeBytes(what.size())) return false;
      if (text.substr(at, what.size()) == what) {
        *out = at;
        return true;
      }
    }
  }
  return true;
}

// Strips, cases and predicates.

Value Strip(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"chars"});
  const Side side = call.name == "strip"    ? Side::kBoth
                    : call.name == "lstrip" ? Side::kLeft
                                            : Side::kRight;
  std::string_view characters;
  if (!bound.ok() || !bound.Text(0, &characters)) return Value::Failed();
  if (!call.runtime.Charge(call.text().size() / 16 * (1 + characters.size() / 16))) {
    return Value::Failed();
  }
  Value out = Value::String(bound.IsNone(0) ? StripSpace(call.text(), side)
                                            : StripCharacters(call.text(), characters, side));
  out.is_markup = call.self.is_markup;
  return out;
}

Value ChangeCase(const Call& call) {
  if (!Bound(call.runtime, call.name, call.arguments, {}).ok()) return Value::Failed();
  if (!call.runtime.ChargeBytes(call.text().size() * 4)) return Value::Failed();
  if (call.name == "upper") return call.Make(ToUpper(call.text()));
  if (call.name == "lower") return call.Make(ToLower(call.text()));
  if (call.name == "title") return call.Make(ToTitle(call.text()));
  if (call.name == "capitalize") return call.Make(Capitalize(call.text()));
  return call.Make(SwapCase(call.text()));
}

// Whether all characters hold, and there is one.
template <class Holds>
bool All(std::string_view text, Holds holds) {
  for (size_t at = 0; at < text.size();) {
    if (!holds(NextCharacter(text, &at))) return false;
  }
  return !text.empty();
}

bool IsCasedLike(std::string_view text, bool wants_upper) {
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextCharacter(text, &at);
    if (IsTitle(c) || (wants_upper ? IsLower(c) : IsUpper(c))) return false;
    any |= wants_upper ? IsUpper(c) : IsLower(c);
  }
  return any;
}

bool IsTitled(std::string_view text) {
  bool any = false, in_word = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextCharacter(text, &at);
    if (IsUpper(c) || IsTitle(c)) {
      if (in_word) return false;
      in_word = any = true;
    } else if (IsLower(c)) {
      if (!in_word) return false;
      any = true;
    } else {
      in_word = false;
    }
  }
  return any;
}

bool IsIdentifier(std::string_view text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  return All(text, [](char32_t c) { return c == '_' || IsAlnum(c); });
}

Value Predicate(const Call& call) {
  if (!Bound(call.runtime, call.name, call.arguments, {}).ok()) return Value::Failed();
  const std::string_view text = call.text(), name = call.name;
  if (!call.runtime.ChargeBytes(text.size() * 4)) return Value::Failed();
  if (name == "islower") return Value::Bool(IsCasedLike(text, false));
  if (name == "isupper") return Value::Bool(IsCasedLike(text, true));
  if (name == "istitle") return Value::Bool(IsTitled(text));
  if (name == "isascii") return Value::Bool(IsAscii(text));
  if (name == "isidentifier") return Value::Bool(IsIdentifier(text));
  if (name == "isprintable") return Value::Bool(text.empty() || All(text, IsPrintable));
  if (name == "isspace") return Value::Bool(All(text, IsSpace));
  if (name == "isalpha") return Value::Bool(All(text, IsAlpha));
  if (name == "isdigit") return Value::Bool(All(text, IsDigit));
  if (name == "isdecimal") return Value::Bool(All(text, IsDecimal));
  if (name == "isnumeric") return Value::Bool(All(text, IsNumeric));
  return Value::Bool(All(text, IsAlnum));
}

// Splits and joins.

Value Texts(const Call& call, const std::vector<std::string_view>& parts, Kind kind) {
  if (!call.runtime.Charge(parts.size())) return Value::Failed();
  Value* out = call.runtime.Array<Value>(parts.size());
  if (out == nullptr) return Value::Failed();
  for (size_t i = 0; i < parts.size(); ++i) {
    out[i] = Value::String(parts[i]);
    out[i].is_markup = call.self.is_markup;
  }
  return call.runtime.AdoptList({out, parts.size()}, kind);
}

void SplitSpace(std::string_view text, int64_t most, std::vector<std::string_view>* out) {
  text = StripSpace(text, Side::kLeft);
  while (!text.empty()) {
    if (most-- == 0) {
      return out->push_back(text);
    }
    size_t end = 0;
    while (end < text.size()) {
      size_t next = end;
      if (IsSpace(NextCharacter(text, &next))) break;
      end = next;
    }
    out->push_back(text.substr(0, end));
    text = StripSpace(text.substr(end), Side::kLeft);
  }
}

void SplitSpaceFromRight(std::string_view text, int64_t most, std::vector<std::string_view>* out) {
  text = StripSpace(text, Side::kRight);
  while (!text.empty()) {
    if (most-- == 0) {
      out->push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      size_t previous = begin - 1;
      while (previous > 0 && (static_cast<uint8_t>(text[previous]) & 0xc0) == 0x80) --previous;
      size_t at = previous;
      if (IsSpace(NextCharacter(text, &at))) break;
      begin = previous;
    }
    out->push_back(text.substr(begin));
    text = StripSpace(text.substr(0, begin), Side::kRight);
  }
  std::ranges::reverse(*out);
}

Value Split(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"sep", "maxsplit"});
  std::string_view separator;
  int64_t most = -1;
  if (!bound.ok() || !bound.Text(0, &separator) || !bound.Int(1, &most)) return Value::Failed();
  if (!call.runtime.ChargeBytes(call.text().size() * 4)) return Value::Failed();
  std::vector<std::string_view> parts;
  std::string_view text = call.text();
  const bool from_right = call.name == "rsplit";
  if (bound.IsNone(0)) {
    (from_right ? SplitSpaceFromRight : SplitSpace)(text, most, &parts);
    return Texts(call, parts, Kind::kList);
  }
  if (separator.empty()) return call.runtime.Fail("empty separator");
  if (!from_right) {
    while (most-- != 0) {
      const size_t at = FindIn(text, separator, 0);
      if (at == kNpos) break;
      if (!call.runtime.ChargeBytes(separator.size())) return Value::Failed();
      parts.push_back(text.substr(0, at));
      text.remove_prefix(at + separator.size());
    }
    parts.push_back(text);
    return Texts(call, parts, Kind::kList);
  }
  while (most-- != 0) {
    size_t at = 0;
    if (!FindLast(call.runtime, text, separator, &at)) return Value::Failed();
    if (at == kNpos) break;
    parts.push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.push_back(text);
  std::ranges::reverse(parts);
  return Texts(call, parts, Kind::kList);
}

Value Lines(const Call& call) {
  const Bound bound(call.runtime, call.name, call.arguments, {"keepends"});
  if (!bound.ok() || !call.runtime.ChargeBytes(call.text().size() * 4)) return Value::Failed();
  return Texts(call, SplitLines(call.text(), bound.Flag(0, false)), Kind::kList);
}

Value Partition(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"sep"}, 1);
  std::string_view separator;
  if (!bound.ok() || !bound.Text(0, &separator)) return Value::Failed();
  if (separator.empty()) return call.runtime.Fail("empty separator");
  const bool from_right = call.name == "rpartition";
  const std::string_view text = call.text();
  size_t at = 0;
  if (!call.runtime.ChargeBytes(text.size())) return Value::Failed();
  if (!from_right) {
    at = FindIn(text, separator, 0);
  } else if (!FindLast(call.runtime, text, separator, &at)) {
    return Value::Failed();
  }
  if (at == kNpos) {
    return from_right ? Texts(call, {"", "", text}, Kind::kTuple)
                      : Texts(call, {text, "", ""}, Kind::kTuple);
  }
  return Texts(call, {text.substr(0, at), separator, text.substr(at + separator.size())},
               Kind::kTuple);
}

Value Join(const Call& call) {
  const Bound bound(call.runtime, call.name, call.arguments, {"iterable"}, 1);
  std::span<const Value> items;
  if (!bound.ok() || !Elements(call.runtime, *bound[0], &items)) return Value::Failed();
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string() && !call.self.is_markup) {
      return call.runtime.Fail(
          fmt::format("sequence item {}: expected str instance, {} found", i, TypeName(items[i])));
    }
    const Value text = TextFor(call.runtime, call.self, items[i]);
    if (text.failed() || !call.runtime.ChargeBytes(text.size + call.self.size)) {
      return Value::Failed();
    }
    if (i > 0) out.append(call.text());
    out.append(text.str());
    if (out.size() > call.runtime.limits().heap_bytes) {
      return call.runtime.Fail("a joined text is too large", Code::kResourceExhausted);
    }
  }
  return call.Make(out);
}

// Searching.

// The bytes of text[start:end], as find(), count() and startswith() take them; nothing when start
// is past the end.
bool Window(const Call& call, Bound* bound, size_t first, std::string_view* window, bool* exists) {
  const std::string_view text = call.text();
  *window = text;
  *exists = true;
  if (bound->IsNone(first) && bound->IsNone(first + 1)) return true;
  const auto size = static_cast<int64_t>(CountCharacters(text));
  int64_t begin = 0, end = size;
  if (!bound->Int(first, &begin) || !bound->Int(first + 1, &end)) return false;
  if (end < 0) end = std::max<int64_t>(end + size, 0);
  if (begin < 0) begin = std::max<int64_t>(begin + size, 0);
  end = std::min(end, size);
  *exists = begin <= end;
  if (!*exists) return true;
  const size_t from = ByteOfCharacter(text, static_cast<size_t>(begin));
  const size_t to = ByteOfCharacter(text, static_cast<size_t>(end));
  *window = text.substr(from, to - from);
  return true;
}

Value FindText(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"sub", "start", "end"}, 1);
  std::string_view what, window;
  bool exists = false;
  if (!bound.ok()) return Value::Failed();
  if (bound[0]->is_none()) return call.runtime.Fail("must be str, not NoneType");
  if (!bound.Text(0, &what) || !Window(call, &bound, 1, &window, &exists)) return Value::Failed();
  if (!call.runtime.ChargeBytes(call.text().size() * 2)) return Value::Failed();
  size_t at = kNpos;
  if (exists && call.name.starts_with('r')) {
    if (!FindLast(call.runtime, window, what, &at)) return Value::Failed();
  } else if (exists) {
    at = FindIn(window, what, 0);
  }
  if (at == kNpos) {
    if (call.name.ends_with("find")) return Value::Int(-1);
    return call.runtime.Fail("substring not found");
  }
  const size_t byte = static_cast<size_t>(window.data() - call.text().data()) + at;
  return Value::Int(static_cast<int64_t>(CountCharacters(call.text().substr(0, byte))));
}

Value CountText(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"sub", "start", "end"}, 1);
  std::string_view what, window;
  bool exists = false;
  if (!bound.ok()) return Value::Failed();
  if (bound[0]->is_none()) return call.runtime.Fail("must be str, not NoneType");
  if (!bound.Text(0, &what) || !Window(call, &bound, 1, &window, &exists)) return Value::Failed();
  if (!exists) return Value::Int(0);
  if (!call.runtime.ChargeBytes(call.text().size() * 2)) return Value::Failed();
  if (what.empty()) return Value::Int(static_cast<int64_t>(CountCharacters(window)) + 1);
  int64_t count = 0;
  for (size_t at = FindIn(window, what, 0); at != kNpos;
       at = FindIn(window, what, at + what.size())) {
    ++count;
    if (!call.runtime.ChargeBytes(what.size())) return Value::Failed();
  }
  return Value::Int(count);
}

Value BeginsOrEnds(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"prefix", "start", "end"}, 1);
  std::string_view window;
  bool exists = false;
  if (!bound.ok() || !Window(call, &bound, 1, &window, &exists)) return Value::Failed();
  const bool begins = call.name == "startswith";
  std::span<const Value> choices(bound[0], 1);
  if (bound[0]->Is(Kind::kTuple)) choices = bound[0]->list->all();
  for (const Value& choice : choices) {
    if (!choice.is_string()) {
      if (choice.is_undefined() && !bound[0]->Is(Kind::kTuple)) {
        return call.runtime.Fail(
            fmt::format("{} first arg must be str or a tuple of str, not "
                        "Undefined ('{}' is undefined)",
                        call.name, choice.str()));
      }
      return call.runtime.Fail(fmt::format("{} first arg must be str or a tuple of str, not {}",
                                           call.name, TypeName(choice)));
    }
    if (!call.runtime.ChargeBytes(choice.size)) return Value::Failed();
    if (exists && (begins ? window.starts_with(choice.str()) : window.ends_with(choice.str()))) {
      return Value::Bool(true);
    }
  }
  return Value::Bool(false);
}

// Changes.

Value Replace(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"old", "new", "count"}, 2);
  int64_t most = -1;
  if (!bound.ok() || !bound.Int(2, &most)) return Value::Failed();
  for (size_t i = 0; i < 2; ++i) {
    if (!bound[i]->is_string()) {
      return call.runtime.Fail(
          fmt::format("replace() argument {} must be str, not {}", i + 1, TypeName(*bound[i])));
    }
  }
  const Value to = TextFor(call.runtime, call.self, *bound[1]);
  if (to.failed()) return Value::Failed();
  const std::string_view text = call.text(), old = bound[0]->str(), fresh = to.str();
  std::string out;
  size_t done = 0;
  for (size_t at = FindIn(text, old, 0); at != kNpos && most != 0; --most) {
    if (!call.runtime.ChargeBytes(at - done + fresh.size() + old.size())) return Value::Failed();
    out.append(text.substr(done, at - done)).append(fresh);
    done = at + old.size();
    if (out.size() > call.runtime.limits().heap_bytes) {
      return call.runtime.Fail("a replaced text is too large", Code::kResourceExhausted);
    }
    if (old.empty()) {  // before every character and at the end
      if (at == text.size()) {
        at = kNpos;
        continue;
      }
      NextCharacter(text, &at);
    } else {
      at = FindIn(text, old, done);
    }
  }
  if (!call.runtime.ChargeBytes(text.size())) return Value::Failed();
  out.append(text.substr(done));
  return call.Make(out);
}

Value RemoveEnd(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"text"}, 1);
  std::string_view what;
  if (!bound.ok() || !bound.Text(0, &what)) return Value::Failed();
  if (bound.IsNone(0))
    return call.runtime.Fail(fmt::format("{}() argument must be str", call.name));
  std::string_view text = call.text();
  if (call.name == "removeprefix") {
    if (text.starts_with(what)) text.remove_prefix(what.size());
  } else if (text.ends_with(what)) {
    text.remove_suffix(what.size());
  }
  return call.Make(text);
}

Value Pad(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"width", "fillchar"}, 1);
  int64_t width = 0;
  std::string_view fill = " ";
  if (!bound.ok() || !bound.Int(0, &width) || !bound.Text(1, &fill)) return Value::Failed();
  if (CountCharacters(fill) != 1) {
    return call.runtime.Fail("The fill character must be exactly one character long");
  }
  const auto size = static_cast<int64_t>(CountCharacters(call.text()));
  std::string out;
  bool done = true;
  if (call.name == "center" && width > size) {
    const int64_t missing = width - size;
    const int64_t left = missing / 2 + (missing & width & 1);
    done = AppendPadded(call.runtime, call.text(), size + left, '>', fill, &out);
    if (done) {
      std::string whole;
      done = AppendPadded(call.runtime, out, width, '<', fill, &whole);
      out = std::move(whole);
    }
  } else {
    done = AppendPadded(call.runtime, call.text(), width, call.name == "rjust" ? '>' : '<', fill,
                        &out);
  }
  return done ? call.Make(out) : Value::Failed();
}

Value ZeroFill(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"width"}, 1);
  int64_t width = 0;
  if (!bound.ok() || !bound.Int(0, &width)) return Value::Failed();
  std::string_view text = call.text();
  std::string out;
  if (text.starts_with('-') || text.starts_with('+')) {
    out.push_back(text[0]);
    text.remove_prefix(1);
    width = std::max<int64_t>(width, 1) - 1;
  }
  if (!AppendPadded(call.runtime, text, width, '>', "0", &out)) return Value::Failed();
  return call.Make(out);
}

Value ExpandTabs(const Call& call) {
  Bound bound(call.runtime, call.name, call.arguments, {"tabsize"});
  int64_t size = 8;
  if (!bound.ok() || !bound.Int(0, &size)) return Value::Failed();
  if (size > 64) return call.runtime.Fail("expandtabs() takes at most 64");
  if (!call.runtime.ChargeBytes(call.text().size() * 8)) return Value::Failed();
  std::string out;
  int64_t column = 0;
  for (const char c : call.text()) {
    if (c == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      out.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else {
      out.push_back(c);
      if ((static_cast<uint8_t>(c) & 0xc0) != 0x80) ++column;
      if (c == '\n' || c == '\r') column = 0;
    }
  }
  return call.Make(out);
}

Value Format(const Call& call) { return BraceFormat(call.runtime, call.self, call.arguments); }

Value FormatMap(const Call& call) {
  const Bound bound(call.runtime, call.name, call.arguments, {"mapping"}, 1);
  if (!bound.ok()) return Value::Failed();
  if (!bound[0]->Is(Kind::kDict)) {
    return call.runtime.Fail("format_map() takes a dict");
  }
  std::vector<Keyword> keywords;
  for (const Entry& entry : bound[0]->dict->all()) {
    if (entry.key.is_string()) keywords.push_back({entry.key.str(), entry.value});
  }
  return BraceFormat(call.runtime, call.self, {{}, keywords});
}

Value NotSupported(const Call& call) {
  return call.runtime.Fail(fmt::format("str.{}() is not supported", call.name));
}

struct MethodEntry {
  std::string_view name;
  Value (*function)(const Call& call);
};

constexpr MethodEntry kMethods[] = {
    {"capitalize", ChangeCase},
    {"casefold", NotSupported},
    {"center", Pad},
    {"count", CountText},
    {"encode", NotSupported},
    {"endswith", BeginsOrEnds},
    {"expandtabs", ExpandTabs},
    {"find", FindText},
    {"format", Format},
    {"format_map", FormatMap},
    {"index", FindText},
    {"isalnum", Predicate},
    {"isalpha", Predicate},
    {"isascii", Predicate},
    {"isdecimal", Predicate},
    {"isdigit", Predicate},
    {"isidentifier", Predicate},
    {"islower", Predicate},
    {"isnumeric", Predicate},
    {"isprintable", Predicate},
    {"isspace", Predicate},
    {"istitle", Predicate},
    {"isupper", Predicate},
    {"join", Join},
    {"ljust", Pad},
    {"lower", ChangeCase},
    {"lstrip", Strip},
    {"maketrans", NotSupported},
    {"partition", Partition},
    {"removeprefix", RemoveEnd},
    {"removesuffix", RemoveEnd},
    {"replace", Replace},
    {"rfind", FindText},
    {"rindex", FindText},
    {"rjust", Pad},
    {"rpartition", Partition},
    {"rsplit", Split},
    {"rstrip", Strip},
    {"split", Split},
    {"splitlines", Lines},
    {"startswith", BeginsOrEnds},
    {"strip", Strip},
    {"swapcase", ChangeCase},
    {"title", ChangeCase},
    {"translate", NotSupported},
    {"upper", ChangeCase},
    {"zfill", ZeroFill},
};
static_assert(std::ranges::is_sorted(kMethods, {}, &MethodEntry::name));

const MethodEntry* FindMethod(std::string_view name) {
  const auto it = std::ranges::lower_bound(kMethods, name, {}, &MethodEntry::name);
  return it != std::end(kMethods) && it->name == name ? it : nullptr;
}

}  // namespace

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = NextCharacter(text, &at);
    if (!IsLineEnd(c)) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

bool IsStringMethod(std::string_view name) { return FindMethod(name) != nullptr; }

Value CallStringMethod(Runtime& runtime, std::string_view name, const Value& self,
                       const CallArguments& arguments) {
  for (const Value& value : arguments.positional) {
    // No method of str takes an undefined value; the error names it.
    if (value.is_undefined() && name != "format" && name != "join" && name != "startswith" &&
        name != "endswith" && name != "splitlines") {
      return FailUndefined(runtime, value);
    }
  }
  return FindMethod(name)->function({runtime, name, self, arguments});
}

}  // namespace penstock::tokens::jinja
