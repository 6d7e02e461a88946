#include "tokens/jinja_lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "tokens/jinja_unicode.h"

namespace penstock::tokens::jinja {
namespace {

constexpr std::string_view kLongOperators[] = {"//", "**", "==", "!=", ">=", "<="};
constexpr std::string_view kShortOperators = "+-/*%~[](){}<>=.:|,;";

// Every line end as "\n", and the last one gone.
std::string Normalized(std::string_view source, bool drop_last) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (drop_last && out.ends_with('\n')) out.pop_back();
  return out;
}

bool IsDigitByte(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(Normalized(source, true)) {}

  Result<std::vector<Token>> Run() {
    while (at_ < source_.size()) {
      if (const auto done = Root(); !done) return std::unexpected(done.error());
    }
    Add(TokenKind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  std::unexpected<Error> Failure(std::string_view what) const {
    return Fail(Code::kInvalidArgument, fmt::format("line {}: {}", line_, what));
  }

  Token& Add(TokenKind kind, std::string text) {
    Token token;
    token.kind = kind;
    token.line = line_;
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  bool At(size_t at, std::string_view text) const {
    return std::string_view(source_).substr(at, text.size()) == text;
  }

  // Moves to `to`, counting lines.
  void MoveTo(size_t to) {
    line_ += static_cast<uint32_t>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                              source_.begin() + static_cast<ptrdiff_t>(to), '\n'));
    if (to > at_) line_starting_ = source_[to - 1] == '\n';
    at_ = to;
  }

  size_t PastSpace(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!IsSpace(NextCharacter(source_, &next))) break;
      at = next;
    }
    return at;
  }

  // Where the end mark at `at` ends, with the white space that it takes along; 0 when there is
  // none. A "+" before it keeps the line end.
  size_t PastEnd(size_t at, std::string_view mark, bool trims) const {
    if (at >= source_.size()) return 0;
    if (source_[at] == '-' && At(at + 1, mark)) return PastSpace(at + 1 + mark.size());
    if (trims && source_[at] == '+' && At(at + 1, mark)) return at + 1 + mark.size();
    if (!At(at, mark)) return 0;
    const size_t end = at + mark.size();
    return trims && end < source_.size() && source_[end] == '\n' ? end + 1 : end;
  }

  // If `at`, a "{%", begins a raw block: where its text begins. 0 when it does not.
  size_t PastRawBegin(size_t at) const {
    size_t i = at + 2;
    if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) ++i;
    i = PastSpace(i);
    if (!At(i, "raw")) return 0;
    i = PastSpace(i + 3);
    if (At(i, "-%}")) return PastSpace(i + 3);
    return At(i, "%}") ? i + 2 : 0;
  }

  // Text before a mark, without the white space that the mark takes away.
  std::string_view Stripped(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') return StripSpace(text, Side::kRight);
    if (sign == '+' || is_variable) return text;
    const size_t newline = text.rfind('\n');
    const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (begin == 0 && !line_starting_) return text;
    return StripSpace(text.substr(begin), Side::kRight).empty() ? text.substr(0, begin) : text;
  }

  void AddText(std::string_view text) {
    if (!text.empty()) Add(TokenKind::kText, std::string(text));
  }

  char SignAt(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  Result<> Root() {
    size_t mark = at_;
    while (true) {
      mark = source_.find('{', mark);
      if (mark == std::string::npos) {
        AddText(std::string_view(source_).substr(at_));
        MoveTo(source_.size());
        return {};
      }
      const char next = mark + 1 < source_.size() ? source_[mark + 1] : '\0';
      if (next == '%' || next == '{' || next == '#') break;
      ++mark;
    }
    const char type = source_[mark + 1];
    const char sign = SignAt(mark + 2);
    AddText(Stripped(std::string_view(source_).substr(at_, mark - at_), sign, type == '{'));
    if (type == '#') return Comment(mark);
    if (type == '%') {
      if (const size_t text = PastRawBegin(mark); text != 0) return Raw(mark, text);
    }
    MoveTo(mark);
    Add(type == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, {});
    MoveTo(mark + (sign == '\0' ? 2 : 3));
    return Inside(type == '{');
  }

  Result<> Comment(size_t mark) {
    MoveTo(mark);
    const char sign = SignAt(mark + 2);
    for (size_t i = mark + (sign == '\0' ? 2 : 3); i < source_.size(); ++i) {
      if (const size_t end = PastEnd(i, "#}", true); end != 0) {
        MoveTo(end);
        return {};
      }
    }
    return Failure("Missing end of comment tag");
  }

  Result<> Raw(size_t mark, size_t text) {
    MoveTo(mark);
    const uint32_t begun = line_;
    MoveTo(text);
    for (size_t i = source_.find("{%", text); i != std::string::npos;
         i = source_.find("{%", i + 1)) {
      const char sign = SignAt(i + 2);
      size_t end = PastSpace(i + (sign == '\0' ? 2 : 3));
      if (!At(end, "endraw")) continue;
      end = PastEnd(PastSpace(end + 6), "%}", true);
      if (end == 0) continue;
      AddText(Stripped(std::string_view(source_).substr(text, i - text), sign, false));
      MoveTo(end);
      return {};
    }
    line_ = begun;
    return Failure("Missing end of raw directive");
  }

  // Tokens up to the end mark of a block or a variable.
  Result<> Inside(bool is_variable) {
    brackets_.clear();
    while (at_ < source_.size()) {
      if (brackets_.empty()) {
        const size_t end = PastEnd(at_, is_variable ? "}}" : "%}", !is_variable);
        if (end != 0) {
          Add(is_variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, {});
          MoveTo(end);
          return {};
        }
      }
      if (const auto done = Next(); !done) return done;
    }
    return {};
  }

  Result<> Next() {
    const size_t space = PastSpace(at_);
    if (space > at_) {
      MoveTo(space);
      return {};
    }
    const char c = source_[at_];
    if (IsDigitByte(c)) return Number();
    if (c == '\'' || c == '"') return String(c);
    if (c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        static_cast<uint8_t>(c) >= 0x80) {
      return Name();
    }
    return Punctuation();
  }

  Result<> Name() {
    size_t end = at_;
    while (end < source_.size()) {
      size_t next = end;
      const char32_t c = NextCharacter(source_, &next);
      if (c != '_' && !IsAlnum(c)) break;
      end = next;
    }
    if (end == at_) return Unexpected();
    Add(TokenKind::kName, source_.substr(at_, end - at_));
    MoveTo(end);
    return {};
  }

  std::unexpected<Error> Unexpected() const {
    size_t end = at_;
    NextCharacter(source_, &end);
    return Failure(fmt::format("unexpected char '{}'", source_.substr(at_, end - at_)));
  }

  // Digits that may have single underscores between them. The end, or `at` when there are none.
  template <class IsOne>
  size_t PastDigits(size_t at, IsOne is_one) const {
    size_t end = at;
    while (end < source_.size()) {
      if (is_one(source_[end])) {
        ++end;
      } else if (source_[end] == '_' && end > at && end + 1 < source_.size() &&
                 is_one(source_[end + 1])) {
        end += 2;
      } else {
        break;
      }
    }
    return end;
  }

  // Where a float that begins here ends; 0 when this is none.
  size_t PastFloat() const {
    if (at_ > 0 && source_[at_ - 1] == '.') return 0;
    const size_t whole = PastDigits(at_, IsDigitByte);
    size_t end = whole;
    if (end + 1 < source_.size() && source_[end] == '.' && IsDigitByte(source_[end + 1])) {
      end = PastDigits(end + 1, IsDigitByte);
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      size_t digits = end + 1;
      if (digits < source_.size() && (source_[digits] == '+' || source_[digits] == '-')) ++digits;
      const size_t exponent = PastDigits(digits, IsDigitByte);
      if (exponent > digits) end = exponent;
    }
    return end == whole ? 0 : end;
  }

  Result<> Number() {
    size_t end = PastFloat();
    if (end != 0) {
      std::string text = source_.substr(at_, end - at_);
      std::erase(text, '_');
      Add(TokenKind::kFloat, text).number = std::strtod(text.c_str(), nullptr);
      MoveTo(end);
      return {};
    }
    int base = 10;
    size_t begin = at_;
    end = at_;
    if (source_[at_] == '0') {
      const char mark = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : ' ';
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      const auto is_one = [base](char c) {
        if (base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))) return true;
        return c >= '0' && c < '0' + std::min(base, 10);
      };
      if (base != 10) {
        begin = at_ + 2;
        if (begin < source_.size() && source_[begin] == '_') ++begin;
        end = PastDigits(begin, is_one);
      }
      if (end <= begin) {
        base = 10;
        begin = at_;
        end = PastDigits(at_, [](char c) { return c == '0'; });
      }
    } else {
      end = PastDigits(at_, IsDigitByte);
    }
    std::string text = source_.substr(begin, end - begin);
    std::erase(text, '_');
    int64_t value = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (read.ec != std::errc()) {
      return Failure(fmt::format("{} is beyond the integers of 64 bits", text));
    }
    Add(TokenKind::kInteger, text).integer = value;
    MoveTo(end);
    return {};
  }

  Result<> String(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return Unexpected();
    auto text = Unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1));
    if (!text) return std::unexpected(text.error());
    Add(TokenKind::kString, *std::move(text));
    MoveTo(end + 1);
    return {};
  }

  // Python's escapes; one that Python does not know stays with its backslash.
  Result<std::string> Unescaped(std::string_view text) const {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 >= text.size()) {
        out.push_back(text[i]);
        continue;
      }
      const char c = text[++i];
      constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
      if (const size_t known = kFrom.find(c); known != std::string_view::npos) {
        out.push_back(kTo[known]);
      } else if (c == '\n') {
        continue;
      } else if (c >= '0' && c <= '7') {
        size_t count = 1;
        while (count < 3 && i + count < text.size() && text[i + count] >= '0' &&
               text[i + count] <= '7') {
          ++count;
        }
        uint32_t code = 0;
        std::from_chars(text.data() + i, text.data() + i + count, code, 8);
        AppendCharacter(code, &out);
        i += count - 1;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        uint32_t code = 0;
        const char* first = text.data() + i + 1;
        const auto read = i + count < text.size()
                              ? std::from_chars(first, first + count, code, 16)
                              : std::from_chars_result{first, std::errc::invalid_argument};
        if (read.ec != std::errc() || read.ptr != first + count) {
          return Failure(fmt::format("truncated \\{} escape", c));
        }
        if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
          return Failure(fmt::format("\\{} escape {:x} is no character", c, code));
        }
        AppendCharacter(code, &out);
        i += count;
      } else if (c == 'N') {
        return Failure("\\N{...} escapes are not supported; write the character itself");
      } else {
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return out;
  }

  Result<> Punctuation() {
    for (const std::string_view op : kLongOperators) {
      if (At(at_, op)) {
        Add(TokenKind::kOperator, std::string(op));
        MoveTo(at_ + 2);
        return {};
      }
    }
    const char c = source_[at_];
    if (kShortOperators.find(c) == std::string_view::npos) return Unexpected();
    if (c == '{' || c == '(' || c == '[')
      brackets_.push_back(c == '{' ? '}' : c == '(' ? ')' : ']');
    if (c == '}' || c == ')' || c == ']') {
      if (brackets_.empty()) return Failure(fmt::format("unexpected '{}'", c));
      if (brackets_.back() != c) {
        return Failure(fmt::format("unexpected '{}', expected '{}'", c, brackets_.back()));
      }
      brackets_.pop_back();
    }
    Add(TokenKind::kOperator, std::string(1, c));
    MoveTo(at_ + 1);
    return {};
  }

  std::string source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;
  std::string brackets_;  // the closing ones that are awaited
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(source).Run(); }

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "end of template";
    case TokenKind::kText:
      return "text";
    case TokenKind::kVariableBegin:
      return "'{{'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace penstock::tokens::jinja
