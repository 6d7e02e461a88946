// gRPC's own layer over HTTP/2: messages in a stream of bytes, time limits, texts in trailers.
//
// THREADS: belongs to its caller. SOURCE: grpc doc/PROTOCOL-HTTP2.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/time.h"

namespace penstock::grpc {

inline constexpr size_t kPrefixBytes = 5;

// Appends a message with its prefix. REQUIRES: less than 4 GiB.
void AppendMessage(std::string_view message, std::string* out);

// Cuts a stream of bytes into messages. A message that has come whole is handed out where it
// stands; what is split is put together in a buffer that grows with what has come, not with what
// is announced.
class MessageReader {
 public:
  enum class Next : uint8_t {
    kMessage,
    kMore,        // nothing whole is left
    kCompressed,  // the stream cannot be read on
    kTooLarge,    // so too
  };

  explicit MessageReader(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Gives it bytes that stay until Take has said something else than kMessage.
  void Feed(std::string_view bytes) { rest_ = bytes; }
  // The next message, valid until the next call.
  Next Take(std::string_view* message);
  // Whether the stream stands between two messages.
  bool is_between() const { return pending_.empty() && rest_.empty(); }
  size_t buffered_bytes() const { return pending_.capacity(); }

 private:
  const size_t max_bytes_;
  std::string_view rest_;
  std::string pending_;  // the beginning of a message with its prefix
  bool is_handed_out_ = false;
};

// "100m", "5S": the value of grpc-timeout. Nothing for what is none.
std::optional<Duration> ParseTimeout(std::string_view text);
// The value of grpc-message for a text: what is not printable ASCII, and '%', as %XX.
std::string EncodeMessage(std::string_view text);

}  // namespace penstock::grpc
