// HTTP/1.1 message heads as bytes: where a head ends, and what it says. Strict on purpose: whatever
// two programs could read in two ways is refused, so nothing can be smuggled through.
//
// A reader appends bytes to its buffer and calls H1HeadScanner::Scan with the whole of it; once the
// scan knows the size, Parse*Head reads the head in one pass. The outcome does not depend on how
// the bytes were cut.
//
// THREADS: plain values. OWNS: nothing; views point into the caller's bytes.
// COST: one memchr per line for the scan, one pass for the parse; allocates only to grow `headers`.
// SOURCE: RFC 9110, RFC 9112.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace penstock::wire {

// Why a message is refused. `code` is a short word for counters and clients, `message` a sentence.
struct H1Error {
  int status = 400;
  std::string_view code;
  std::string_view message;
};

struct H1Limits {
  size_t max_head_bytes = 64 * 1024;
  size_t max_headers = 200;
};

enum class H1Kind : uint8_t { kRequest, kResponse };

class H1HeadScanner {
 public:
  enum class State : uint8_t { kMore, kDone, kError };

  H1HeadScanner(H1Kind kind, H1Limits limits) : kind_(kind), limits_(limits) {}
  // `text` begins with the bytes of every earlier call since Reset. kDone sets head_bytes(), kError
  // error().
  State Scan(std::string_view text);
  void Reset();
  // Size of the head up to and with its empty line.
  size_t head_bytes() const { return at_; }
  // Whether anything but empty lines before a request has been seen.
  bool begun() const { return begun_; }
  const H1Error& error() const { return error_; }

 private:
  State Refuse(H1Error error);
  State TooLarge();

  H1Kind kind_;
  bool begun_ = false;
  H1Limits limits_;
  size_t at_ = 0;       // begin of the line that is not complete
  size_t scanned_ = 0;  // no line feed in [at_, scanned_)
  size_t lines_ = 0;    // complete ones, the start line included
  H1Error error_;
};

struct H1Header {
  std::string_view name;
  std::string_view value;
};

// What the headers say about the message's end and the connection's.
struct H1Framing {
  uint8_t minor_version = 1;  // of HTTP/1
  bool has_length = false;
  bool chunked = false;
  bool close = false;
  bool keep_alive = false;
  uint64_t content_length = 0;  // when has_length

  // Whether the connection may carry another message after this one.
  bool persistent() const { return !close && (minor_version >= 1 || keep_alive); }
};

struct H1Request {
  std::string_view method;
  std::string_view target;  // as sent
  std::string_view path;    // of the target, without query, scheme and authority
  std::vector<H1Header> headers;
  H1Framing framing;
  bool expect_continue = false;
};

struct H1Response {
  int status = 0;
  std::string_view reason;
  std::vector<H1Header> headers;
  H1Framing framing;
};

// Read a complete head, as H1HeadScanner found it. `out` is reused: its vector keeps its memory.
std::optional<H1Error> ParseRequestHead(std::string_view head, H1Request* out);
std::optional<H1Error> ParseResponseHead(std::string_view head, H1Response* out);

// Whether `c` may stand in a token (methods, header names).
bool IsTokenChar(char c);
// Whether `value` can be sent as a header's value: no control character but the tab.
bool IsHeaderValue(std::string_view value);

}  // namespace penstock::wire
