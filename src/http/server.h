// HTTP/1.1 server, with TLS or without: reads whole requests, hands them to a Handler, relays
// responses chunk by chunk.
//
// Ownership is a tree: Server > connection > Exchange > ExchangeListener. A handler that needs to
// stay around attaches a listener; the exchange destroys it when the exchange ends (response
// finished, aborted, or client gone), so whatever the listener owns is cancelled with it.
//
// Bad input ends in an error response made by ServerOptions::render_error and a counter: 400
// malformed, 408 too slow, 413 body too large, 414 target too long, 431 headers too large, 501
// unknown transfer coding, 503 no memory for the body, 505 version. Refused as malformed: both
// Content-Length and Transfer-Encoding, repeated or odd lengths, bare LF, folded headers, space
// before the colon, no Host or two.
//
// A client that ends its side of the connection (FIN) while an exchange runs counts as gone, as
// with nginx: nothing tells it from one that has closed, and an engine must not generate for
// nobody. What it sent before its end is still served as long as the handler answers it inside
// Handle, and a response that is finished is sent to the end. A client that pipelines more than the
// input buffer holds (16 KiB) is not read until the running exchange ends; its end is noticed then,
// its reset when a write fails.
//
// THREADS: loop-bound, except Server::Create/Drain/Close, which are called from the thread that
// made it. COST: one allocation-free pass per message after the connection's first; a response
// whose pieces are written in one callback leaves in one system call. SOURCE: RFC 9112.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "http/message.h"
#include "net/loop.h"
#include "net/tls.h"

namespace penstock::http {

class ExchangeListener {
 public:
  virtual ~ExchangeListener() = default;
  // The client closed or reset the connection before the response was finished. The listener is
  // destroyed after this call.
  virtual void OnClientGone() {}
  // unsent_bytes() fell to the low watermark after it had been above the high one.
  virtual void OnDrained() {}
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const RequestHead& head() const = 0;  // valid until the exchange ends
  // The whole body. Has at least 64 readable bytes of slack behind its end (capacity), as simdjson
  // wants. May be moved from or edited; it stays valid until the exchange ends.
  virtual std::string& body() = 0;
  // Empties body() and gives its memory back, for a handler that needs it no longer.
  virtual void ReleaseBody() = 0;
  virtual net::Loop& loop() = 0;
  virtual std::string_view client_address() const = 0;
  virtual Time received() const = 0;  // when the request head was complete

  // Must be called before Handle returns if the response is not finished by then; otherwise the
  // client gets a 500.
  virtual void SetListener(std::unique_ptr<ExchangeListener> listener) = 0;

  // A complete response with Content-Length. `headers` need no Content-Length, Connection or Date.
  // Ends the exchange: the listener may be destroyed before this returns, so return right after.
  virtual void Respond(int status, std::span<const Header> headers, std::string_view body) = 0;

  // A response in pieces: chunked when `content_length` is empty (until-close for HTTP/1.0).
  // `headers` are treated as in Respond: those that describe the connection or the length are left
  // out, and so are those whose name or value cannot be sent (counted, logged).
  virtual void Start(int status, std::span<const Header> headers,
                     std::optional<uint64_t> content_length) = 0;
  // Copies what the socket does not take at once. Pieces written in one loop callback are
  // coalesced. A HEAD request's body is dropped.
  virtual void Write(std::string_view piece) = 0;
  // Bytes accepted by Write that the client has not taken; stop writing above high_watermark until
  // OnDrained.
  virtual size_t unsent_bytes() const = 0;
  virtual bool above_high_watermark() const = 0;
  // Ends the exchange well; as Abort does when less than the announced length was written. The
  // listener may be destroyed before this returns.
  virtual void Finish() = 0;
  // Ends it badly after Start: what was written is sent, then the connection is closed without the
  // final chunk (until-close: reset), so that the client notices.
  virtual void Abort() = 0;
};

class Handler {
 public:
  virtual ~Handler() = default;
  // On the connection's loop, once the whole request is there.
  virtual void Handle(Exchange& exchange) = 0;
};

// A client that sends its body more slowly holds memory for too long.
inline constexpr uint64_t kMinBodyBytesPerSecond = 16 * 1024;

struct ServerOptions {
  std::string name = "http";             // label of counters and logs
  std::shared_ptr<net::TlsContext> tls;  // null: none
  size_t max_header_bytes = 64 * 1024;
  size_t max_headers = 200;
  uint64_t max_body_bytes = 64ull << 20;
  // Memory of all bodies above 16 KiB at a time, over all loops: beyond it a request gets 503
  // "overloaded". A body that grows holds its old and its new memory for a moment, so one of
  // max_body_bytes needs up to twice that.
  uint64_t max_buffered_bytes = 4ull << 30;
  size_t max_connections = 20'000;  // per loop; beyond it a new connection gets 503 and is closed
  Duration header_timeout = seconds(10);  // first byte of a request to the end of its head
  // Between two reads of a body, and for a body as a whole, which has a second more for every
  // kMinBodyBytesPerSecond that have come.
  Duration body_timeout = seconds(60);
  Duration idle_timeout = seconds(300);  // keep-alive
  Duration write_timeout = seconds(60);  // no progress towards a client that does not read
  size_t high_watermark = 256 * 1024;    // bytes unsent
  size_t low_watermark = 64 * 1024;
  // Body and content type of an error that the server itself answers with. `code` is a short word
  // ("body_too_large").
  std::function<std::string(int status, std::string_view code, std::string_view message)>
      render_error;
};

struct ServerStats {  // monotonic, for telemetry
  uint64_t connections_accepted = 0, connections_open = 0, requests = 0;
  uint64_t bad_requests = 0, timeouts = 0, too_large = 0, clients_gone = 0, refused_connections = 0;
  uint64_t failed_handshakes = 0;  // of TLS
  uint64_t dropped_headers = 0;    // of responses, because they could not be sent
  uint64_t overloaded = 0;         // requests refused because max_buffered_bytes was used up
  uint64_t buffered_bytes = 0;     // of max_buffered_bytes, now
};

class Server {
 public:
  // Listens on host:port (port 0: any free one) on every loop of the pool, SO_REUSEPORT.
  // `make_handler` is called once per loop, on the calling thread; handlers live as long as the
  // server. kUnavailable names the address that cannot be bound or that another server has.
  static Result<std::unique_ptr<Server>> Create(
      net::LoopPool& loops, std::string_view host, uint16_t port, ServerOptions options,
      std::function<std::unique_ptr<Handler>(net::Loop&)> make_handler);
  virtual ~Server() = default;
  virtual uint16_t port() const = 0;
  // Stops accepting, closes idle connections, lets running exchanges end (with Connection: close);
  // `done` is posted to loop 0 when none is left or after `limit`, when the rest is cut.
  virtual void Drain(Duration limit, std::function<void()> done) = 0;
  virtual ServerStats Stats() const = 0;  // from any thread
};

}  // namespace penstock::http
