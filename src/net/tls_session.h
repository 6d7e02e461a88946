// TLS on one socket, as its server or its client. For .cc files of this module only.
//
// A server's handshake is part of reading: Read does it, and says EAGAIN until it is over; Write
// says EAGAIN until then. A client's is done by ShakeHands, before anything else.
//
// THREADS: loop-bound. OWNS: OpenSSL's connection; borrows the socket.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "net/stream.h"
#include "net/tls.h"
#include "net/tls_client.h"

struct bio_st;

namespace penstock::net {

class TlsSession {
 public:
  // Null when there is no memory.
  static std::unique_ptr<TlsSession> Accept(const std::shared_ptr<TlsContext>& context, int fd);
  // `host` is whom the socket was connected to. Null also when it is no possible name.
  static std::unique_ptr<TlsSession> Connect(const std::shared_ptr<TlsClientContext>& context,
                                             std::string_view host, int fd);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // A client's: 0 when the handshake is over, EAGAIN when it waits for the socket (wants_write), or
  // why it failed, which reason() tells in words.
  int ShakeHands();
  const std::string& reason() const { return reason_; }

  // As of a socket: as much as has come and has room.
  IoResult Read(char* at, size_t bytes);
  // As of a socket, but a caller that is told EAGAIN must come again with the bytes that were not
  // taken; it may bring more.
  IoResult Write(std::span<const iovec> pieces);
  // Tells the peer that nothing follows, if it can be told at once.
  void ShutdownWrite();
  // Every Read, Write and ShakeHands ends with `error` from now on.
  void Fail(int error, std::string_view reason);

  // The handshake is over.
  bool is_established() const { return is_established_; }
  // Read has something to say that the socket does not announce.
  bool has_more() const { return has_more_; }
  // Read goes on when the socket takes bytes, not when it has some.
  bool wants_write() const { return wants_write_; }
  Duration handshake_timeout() const { return terms_.handshake_timeout; }

 private:
  struct Socket;  // OpenSSL's view of it
  // What it has of the context that it comes from.
  struct Terms {
    std::shared_ptr<const void> owner;  // of the rest
    TlsCounters& counters;
    bool is_client;
    bool needs_protocol;  // a peer that chose none by ALPN is refused
    Duration handshake_timeout;
  };

  static std::unique_ptr<TlsSession> Make(Terms terms, ssl_st* ssl, int fd);
  TlsSession(Terms terms, ssl_st* ssl, int fd);
  void Establish();
  void OnNothing(int result);
  void Note(bio_st* bio, int error, int direction);

  const Terms terms_;
  ssl_st* const ssl_;
  const int fd_;
  int socket_error_ = 0;
  int error_ = 0;
  std::string reason_;
  bool is_established_ = false;
  bool is_socket_at_end_ = false;
  bool is_at_end_ = false;
  bool has_more_ = false;
  bool wants_write_ = false;
};

}  // namespace penstock::net
