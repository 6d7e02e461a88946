// HTTP/1.1 client for one loop: keep-alive connections per endpoint, responses relayed piece by
// piece.
//
// THREADS: loop-bound, apart from Stats. Names are resolved on a helper thread, cached for 30 s.
// OWNS: connections. A Call that is destroyed before its end closes its connection at once, which
// is how an engine learns that nobody waits any more. A Call that outlives its Client hears nothing
// more.
// COST: per request one allocation (the Call), one sendmsg, one recv per readiness; per connection
// about 1 KiB, the kernel's buffers apart.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "http/message.h"
#include "net/loop.h"
#include "net/tls_client.h"

namespace penstock::http {

enum class CallFailure : uint8_t {
  kLocal,    // no connection for want of descriptors, ports or memory here: not the engine's fault
  kConnect,  // no connection: refused, unreachable, not resolved, connect timeout
  kReset,    // the connection ended or broke before the first byte of the response
  kTruncated,    // it ended inside the response
  kBadResponse,  // not HTTP, or a head above the limit
  kTimeout,      // no first byte, or silence inside the body, for too long
  kTls,          // no connection: the TLS handshake failed, or a certificate was not accepted
};
inline constexpr size_t kCallFailures = 7;
// A lower-case word for counters: "connect", "bad_response".
std::string_view CallFailureName(CallFailure failure);

class CallListener {
 public:
  virtual ~CallListener() = default;
  virtual void OnHead(const ResponseHead& head) = 0;
  // A piece of the body, without chunk framing; valid during the call only. Chunks that arrive
  // together are one piece.
  virtual void OnBody(std::string_view piece) = 0;
  virtual void OnEnd() = 0;
  // Terminal, like OnEnd. The Call may be destroyed inside any callback.
  virtual void OnFailure(CallFailure failure, std::string_view message) = 0;
};

class Call {
 public:
  virtual ~Call() = default;  // cancels
  // Back-pressure: while paused nothing is read from the engine, whose TCP window closes, and
  // the listener hears nothing but a failure. Allowed at any time; idempotent.
  virtual void Pause() = 0;
  // Never calls back inside: what was read before goes on when the turn ends.
  virtual void Resume() = 0;
};

struct CallOptions {
  // Speaks TLS, and keeps connections of different contexts apart; null: plain.
  std::shared_ptr<net::TlsClientContext> tls;
  // Name resolution, all addresses and TLS handshakes together.
  Duration connect_timeout = seconds(2);
  // From the last byte of the request that could be sent to the first one of the answer; interim
  // answers (1xx) do not count.
  Duration first_byte_timeout = seconds(600);
  Duration idle_timeout = seconds(120);  // between two reads of a body, not counted while paused
};

struct ClientOptions {
  size_t max_idle_per_endpoint = 256;
  Duration idle_connection_timeout = seconds(50);
  size_t max_response_header_bytes = 64 * 1024;
  size_t read_buffer_bytes = 64 * 1024;  // one per loop, shared by all connections
};

struct ClientStats {
  uint64_t connections_open = 0;
  uint64_t connections_idle = 0;
  uint64_t connections_opened = 0;  // ever, connected
  uint64_t requests = 0;
  uint64_t reused = 0;          // requests that went out on a kept connection
  uint64_t replaced_stale = 0;  // of them: the connection was dead, and a fresh one took over
  uint64_t idle_closed = 0;     // kept connections closed: by the engine, by age, by Forget
  uint64_t garbage = 0;         // connections on which more came than the answer
  uint64_t cancelled = 0;       // Calls destroyed before their end
  uint64_t failures[kCallFailures] = {};  // by CallFailure
};

class Client {
 public:
  static std::unique_ptr<Client> Create(net::Loop& loop, ClientOptions options = {});
  virtual ~Client() = default;

  // Sends one request. `head` is the complete request line and headers with the final CRLF CRLF
  // (the caller writes Host and Content-Length); `body` pieces must stay valid until OnHead or a
  // terminal callback. A reused connection that turns out to be closed before any response byte is
  // replaced once by a fresh one, unseen by the listener. `listener` must outlive the Call. No
  // callback happens inside Send. `host` is a name or an address in digits.
  virtual std::unique_ptr<Call> Send(std::string_view host, uint16_t port, std::string head,
                                     std::vector<std::string_view> body, const CallOptions& options,
                                     CallListener& listener) = 0;
  // Closes the idle connections, with and without TLS, to an endpoint that left. Those in use close
  // after their answer.
  virtual void Forget(std::string_view host, uint16_t port) = 0;
  virtual size_t idle_connections() const = 0;
  // From any thread.
  virtual ClientStats Stats() const = 0;
};

}  // namespace penstock::http
