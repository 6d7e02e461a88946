// A gRPC server on HTTP/2, with TLS or without (h2c with prior knowledge): RPCs come in as
// messages, go out as messages and a status. Whatever the messages hold is the handler's.
//
// Time limits of the client, sizes, compressed messages (which are refused), clients that go away,
// the age of connections and draining are seen to here.
//
// THREADS: the Server belongs to the thread that made it; a Handler and its calls to their loop.
// OWNS: listeners and connections. COST: a small unary RPC is one read and one write.
// SOURCE: grpc doc/PROTOCOL-HTTP2.md; HTTP/2 by nghttp2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "core/result.h"
#include "core/time.h"
#include "grpc/status.h"
#include "net/loop.h"
#include "net/tls.h"

namespace penstock::grpc {

struct ServerOptions {
  std::shared_ptr<net::TlsContext> tls;             // null: none
  size_t max_message_bytes = 4 << 20;               // of one message from a client
  uint64_t max_buffered_bytes = uint64_t{1} << 30;  // of all calls that hold more than a little
  // At a time of one loop, then RESOURCE_EXHAUSTED. Connections are told no limit: a proxy that has
  // not heard of it yet (Envoy) puts more streams on a new one, and those fail.
  uint32_t max_calls = 100'000;
  size_t max_connections = 1000;                    // per loop
  size_t max_metadata_bytes = 16 << 10;             // of one RPC
  Duration keep_alive = seconds(30);                // a silent client is asked whether it is there
  Duration keep_alive_timeout = seconds(20);        // and has this long to answer
  Duration write_timeout = seconds(60);             // a client that takes nothing is cut off
  Duration drain_wait = seconds(5);                 // for a client to hear that it is to go
  Duration max_connection_age = Duration::max();    // about; then it is told to come anew
  Duration connection_age_grace = Duration::max();  // for its RPCs to end
};

// One RPC. May be used from its begin to its end, on its loop, also outside of callbacks. Nothing
// that is called here runs a callback.
class Call {
 public:
  virtual ~Call() = default;
  virtual std::string_view path() const = 0;  // "/package.Service/Method"
  // The first value of a name in lower case, or "".
  virtual std::string_view Metadata(std::string_view name) const = 0;
  virtual net::Loop& loop() = 0;
  // Copies the message. Ignored after Finish.
  virtual void Send(std::string_view message) = 0;
  // More than a client takes is on its way; OnDrained follows when it is less. Until then the
  // client may send what its window still allows, and no more.
  virtual bool above_high_watermark() const = 0;
  // Ends the RPC when everything sent is out. Once; no callback follows.
  virtual void Finish(Status status, std::string_view message = {}) = 0;
};

// What happens to an RPC. Destroyed after its end.
class CallListener {
 public:
  virtual ~CallListener() = default;
  // Valid during the call.
  virtual void OnMessage(std::string_view message) = 0;
  // The client has sent all that it will.
  virtual void OnHalfClose() = 0;
  // It ended without Finish: the client or the connection is gone, or time is up. Last.
  virtual void OnCancel() = 0;
  virtual void OnDrained() {}
  // Everything that it was for has been said: a client that resets it now has not gone too early.
  virtual bool is_done() const { return false; }
};

// One per loop.
class Handler {
 public:
  virtual ~Handler() = default;
  // Null: there is no such method; the client is told so.
  virtual std::unique_ptr<CallListener> OnCall(Call& call) = 0;
};

struct ServerStats {
  uint64_t connections_accepted = 0;
  uint64_t connections_open = 0;
  uint64_t refused_connections = 0;  // beyond max_connections
  uint64_t bad_connections = 0;      // that did not speak HTTP/2
  uint64_t failed_handshakes = 0;    // of TLS
  uint64_t calls = 0;
  uint64_t calls_open = 0;
  uint64_t refused_calls = 0;  // no gRPC, no such method, or one too many
  uint64_t bad_messages = 0;   // compressed, too large, or cut short
  uint64_t deadlines = 0;      // that passed
  uint64_t clients_gone = 0;   // before an RPC was done
  uint64_t buffered_bytes = 0;
};

class Server {
 public:
  virtual ~Server() = default;
  // Listens on every loop at once. `make_handler` is called once for each loop.
  static Result<std::unique_ptr<Server>> Create(
      net::LoopPool& loops, std::string_view host, uint16_t port, const ServerOptions& options,
      std::function<std::unique_ptr<Handler>(net::Loop&)> make_handler);
  virtual uint16_t port() const = 0;
  // Takes no new connections and tells clients to begin no RPCs; lets running ones, and those that
  // are on their way, end within `limit`; then calls `done`, once, on a loop.
  virtual void Drain(Duration limit, std::function<void()> done) = 0;
  virtual ServerStats Stats() const = 0;
};

}  // namespace penstock::grpc
