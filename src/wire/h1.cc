#include "wire/h1.h"

#include <array>
#include <cstring>

#include "core/text.h"

namespace penstock::wire {
namespace {

enum CharClass : uint8_t { kToken = 1, kValue = 2, kTarget = 4, kHost = 8 };

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> table{};
  for (int c = 0; c < 256; ++c) {
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    uint8_t bits = alnum ? kToken | kHost : 0;
    if ((c >= 0x20 && c != 0x7f) || c == '\t') bits |= kValue;
    if (c > 0x20 && c < 0x7f && c != '#') bits |= kTarget;
    table[c] = bits;
  }
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<uint8_t>(c)] |= kToken;
  for (char c : std::string_view("-._~%!$&'()*+;=:[]")) table[static_cast<uint8_t>(c)] |= kHost;
  return table;
}
constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

bool Is(char c, CharClass mask) { return (kClasses[static_cast<uint8_t>(c)] & mask) != 0; }

bool All(std::string_view text, CharClass mask) {
  uint8_t seen = mask;
  for (char c : text) seen &= kClasses[static_cast<uint8_t>(c)];
  return (seen & mask) != 0;
}

H1Error Malformed(std::string_view code, std::string_view message) { return {400, code, message}; }

std::string_view TrimBlanks(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

template <class Visit>
void ForEachInList(std::string_view list, Visit visit) {
  while (true) {
    const size_t comma = list.find(',');
    visit(TrimBlanks(list.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

// The header fields that framing depends on, and the rules of each.
class FieldReader {
 public:
  FieldReader(H1Kind kind, std::vector<H1Header>& headers, H1Framing& framing, bool* expect)
      : kind_(kind), headers_(headers), framing_(framing), expect_continue_(expect) {}

  // `text` is every header line with its CRLF, then the empty line.
  std::optional<H1Error> Read(std::string_view text) {
    while (text.size() > 2) {
      const size_t end = text.find("\r\n");
      if (end == std::string_view::npos) return Malformed("bad_header", "A header has no end.");
      if (auto error = ReadLine(text.substr(0, end))) return error;
      text.remove_prefix(end + 2);
    }
    return Judge();
  }

 private:
  std::optional<H1Error> ReadLine(std::string_view line) {
    if (line.empty() || line[0] == ' ' || line[0] == '\t')
      return Malformed("folded_header", "A header is folded over two lines.");
    size_t colon = 0;
    while (colon < line.size() && Is(line[colon], kToken)) ++colon;
    if (colon == 0 || colon == line.size() || line[colon] != ':')
      return Malformed("bad_header_name", "A header's name is not a token followed by a colon.");
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = TrimBlanks(line.substr(colon + 1));
    if (!All(value, kValue))
      return Malformed("bad_header_value", "A header's value holds a control character.");
    headers_.push_back({name, value});
    return Look(name, value);
  }

  std::optional<H1Error> Look(std::string_view name, std::string_view value) {
    switch (name.size()) {
      case 4:
        if (EqualsIgnoreCase(name, "host")) return LookHost(value);
        break;
      case 6:
        if (expect_continue_ != nullptr && EqualsIgnoreCase(name, "expect"))
          *expect_continue_ = EqualsIgnoreCase(value, "100-continue");
        break;
      case 10:
        if (EqualsIgnoreCase(name, "connection")) LookConnection(value);
        break;
      case 14:
        if (EqualsIgnoreCase(name, "content-length")) return LookLength(value);
        break;
      case 17:
        if (EqualsIgnoreCase(name, "transfer-encoding")) return LookCoding(value);
        break;
    }
    return std::nullopt;
  }

  std::optional<H1Error> LookHost(std::string_view value) {
    if (++hosts_ > 1 && kind_ == H1Kind::kRequest)
      return Malformed("repeated_host", "There is more than one Host header.");
    if (kind_ == H1Kind::kRequest && !All(value, kHost))
      return Malformed("bad_host", "The Host header is not a host.");
    return std::nullopt;
  }

  void LookConnection(std::string_view value) {
    ForEachInList(value, [this](std::string_view option) {
      if (EqualsIgnoreCase(option, "close")) framing_.close = true;
      if (EqualsIgnoreCase(option, "keep-alive")) framing_.keep_alive = true;
    });
  }

  std::optional<H1Error> LookLength(std::string_view value) {
    if (framing_.has_length)
      return Malformed("repeated_length", "There is more than one Content-Length header.");
    const std::optional<uint64_t> length = ParseUint(value);
    if (!length || value.size() > 19)
      return Malformed("bad_length", "The Content-Length header is not a plain number.");
    framing_.has_length = true;
    framing_.content_length = *length;
    return std::nullopt;
  }

  std::optional<H1Error> LookCoding(std::string_view value) {
    if (++codings_ > 1)
      return Malformed("repeated_coding", "There is more than one Transfer-Encoding header.");
    if (!EqualsIgnoreCase(value, "chunked"))
      return H1Error{501, "unknown_coding", "The only transfer coding served is 'chunked'."};
    framing_.chunked = true;
    return std::nullopt;
  }

  std::optional<H1Error> Judge() const {
    if (framing_.chunked && framing_.has_length)
      return Malformed("length_and_coding",
                       "There are both a Content-Length and a Transfer-Encoding header.");
    if (framing_.chunked && framing_.minor_version == 0)
      return Malformed("coding_in_http_1_0", "HTTP/1.0 has no Transfer-Encoding.");
    if (kind_ == H1Kind::kRequest && hosts_ == 0 && framing_.minor_version >= 1)
      return Malformed("no_host", "There is no Host header.");
    return std::nullopt;
  }

  H1Kind kind_;
  std::vector<H1Header>& headers_;
  H1Framing& framing_;
  bool* expect_continue_;
  int hosts_ = 0;
  int codings_ = 0;
};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// "HTTP/1.x" gives x.
std::optional<H1Error> ReadVersion(std::string_view text, uint8_t* minor) {
  if (text.size() != 8 || !text.starts_with("HTTP/") || !IsDigit(text[5]) || text[6] != '.' ||
      !IsDigit(text[7]))
    return Malformed("bad_start_line", "The first line is not HTTP.");
  if (text[5] != '1' || text[7] > '1')
    return H1Error{505, "unknown_version", "Only HTTP/1.0 and HTTP/1.1 are served."};
  *minor = static_cast<uint8_t>(text[7] - '0');
  return std::nullopt;
}

// The path of a target in origin, absolute or asterisk form.
std::optional<std::string_view> PathOf(std::string_view method, std::string_view target) {
  if (target == "*") return method == "OPTIONS" ? std::optional(target) : std::nullopt;
  if (!target.starts_with('/')) {
    const size_t scheme_end = target.find("://");
    if (scheme_end == std::string_view::npos) return std::nullopt;
    const std::string_view scheme = target.substr(0, scheme_end);
    if (!EqualsIgnoreCase(scheme, "http") && !EqualsIgnoreCase(scheme, "https"))
      return std::nullopt;
    target.remove_prefix(scheme_end + 3);
    const size_t authority_end = target.find_first_of("/?");
    const std::string_view authority = target.substr(0, authority_end);
    if (authority.empty() || !All(authority, kHost)) return std::nullopt;
    if (authority_end == std::string_view::npos || target[authority_end] == '?') return "/";
    target.remove_prefix(authority_end);
  }
  return target.substr(0, target.find('?'));
}

std::optional<H1Error> ReadRequestLine(std::string_view line, H1Request* out) {
  const size_t method_end = line.find(' ');
  const size_t target_end = line.rfind(' ');
  if (method_end == std::string_view::npos || target_end == method_end)
    return Malformed("bad_start_line", "The first line is not 'METHOD target HTTP/1.1'.");
  out->method = line.substr(0, method_end);
  if (out->method.empty() || !All(out->method, kToken))
    return Malformed("bad_method", "The method is not a token.");
  // Its answer would end without a body, and what follows be a tunnel's.
  if (out->method == "CONNECT")
    return H1Error{501, "unknown_method", "There are no tunnels here: CONNECT is not served."};
  out->target = line.substr(method_end + 1, target_end - method_end - 1);
  if (out->target.empty() || !All(out->target, kTarget))
    return Malformed("bad_target", "The request target holds a character that must be escaped.");
  if (auto error = ReadVersion(line.substr(target_end + 1), &out->framing.minor_version))
    return error;
  const auto path = PathOf(out->method, out->target);
  if (!path) return Malformed("bad_target", "The request target is neither a path nor a URL.");
  out->path = *path;
  return std::nullopt;
}

std::optional<H1Error> ReadStatusLine(std::string_view line, H1Response* out) {
  if (auto error = ReadVersion(line.substr(0, 8), &out->framing.minor_version)) return error;
  line.remove_prefix(8);
  if (line.size() < 4 || line[0] != ' ' || !IsDigit(line[1]) || !IsDigit(line[2]) ||
      !IsDigit(line[3]) || line[1] == '0' || (line.size() > 4 && line[4] != ' '))
    return Malformed("bad_start_line", "The status is not a number of three digits.");
  out->status = (line[1] - '0') * 100 + (line[2] - '0') * 10 + (line[3] - '0');
  out->reason = line.size() > 5 ? line.substr(5) : std::string_view();
  if (!All(out->reason, kValue))
    return Malformed("bad_start_line", "The reason phrase holds a control character.");
  return std::nullopt;
}

// Takes the first line off `head`; empty lines before it are skipped.
std::optional<std::string_view> TakeStartLine(std::string_view* head) {
  while (head->starts_with("\r\n")) head->remove_prefix(2);
  const size_t end = head->find("\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = head->substr(0, end);
  head->remove_prefix(end + 2);
  return line;
}

}  // namespace

bool IsTokenChar(char c) { return Is(c, kToken); }
bool IsHeaderValue(std::string_view value) { return All(value, kValue); }

void H1HeadScanner::Reset() {
  at_ = scanned_ = lines_ = 0;
  begun_ = false;
}

H1HeadScanner::State H1HeadScanner::Refuse(H1Error error) {
  error_ = error;
  return State::kError;
}

H1HeadScanner::State H1HeadScanner::TooLarge() {
  if (kind_ == H1Kind::kRequest && lines_ == 0)
    return Refuse({414, "target_too_long", "The request line is longer than the limit."});
  return Refuse({431, "headers_too_large", "The headers are larger than the limit."});
}

H1HeadScanner::State H1HeadScanner::Scan(std::string_view text) {
  while (true) {
    if (lines_ == 0 && at_ < text.size()) {
      const char first = text[at_];
      const bool fits = kind_ == H1Kind::kResponse
                            ? first == 'H'
                            : IsTokenChar(first) || first == '\r' || first == '\n';
      if (!fits) return Refuse(Malformed("bad_start_line", "The first line is not HTTP."));
      if (first != '\r' && first != '\n') begun_ = true;
    }
    const void* found = scanned_ < text.size()
                            ? std::memchr(text.data() + scanned_, '\n', text.size() - scanned_)
                            : nullptr;
    if (found == nullptr) {
      scanned_ = text.size();
      return text.size() > limits_.max_head_bytes ? TooLarge() : State::kMore;
    }
    const size_t feed = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    if (feed >= limits_.max_head_bytes) return TooLarge();
    if (feed == at_ || text[feed - 1] != '\r')
      return Refuse(Malformed("bare_line_feed", "A line ends in a line feed alone."));
    const bool is_empty = feed == at_ + 1;
    at_ = scanned_ = feed + 1;
    if (is_empty && lines_ > 0) return State::kDone;
    if (!is_empty && ++lines_ > limits_.max_headers + 1)
      return Refuse({431, "too_many_headers", "There are more headers than the limit."});
  }
}

std::optional<H1Error> ParseRequestHead(std::string_view head, H1Request* out) {
  out->headers.clear();
  out->framing = {};
  out->expect_continue = false;
  const auto line = TakeStartLine(&head);
  if (!line) return Malformed("bad_start_line", "The first line has no end.");
  if (auto error = ReadRequestLine(*line, out)) return error;
  return FieldReader(H1Kind::kRequest, out->headers, out->framing, &out->expect_continue)
      .Read(head);
}

std::optional<H1Error> ParseResponseHead(std::string_view head, H1Response* out) {
  out->headers.clear();
  out->framing = {};
  const auto line = TakeStartLine(&head);
  if (!line) return Malformed("bad_start_line", "The first line has no end.");
  if (auto error = ReadStatusLine(*line, out)) return error;
  return FieldReader(H1Kind::kResponse, out->headers, out->framing, nullptr).Read(head);
}

}  // namespace penstock::wire
