// TLS on one accepted socket. For .cc files of this module only.
//
// The handshake is part of reading: Read does it, and says EAGAIN until it is over. Write says
// EAGAIN until then.
//
// THREADS: loop-bound. OWNS: OpenSSL's connection; borrows the socket.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>

#include "net/stream.h"
#include "net/tls.h"

struct bio_st;

namespace penstock::net {

class TlsSession {
 public:
  // Null when there is no memory.
  static std::unique_ptr<TlsSession> Make(std::shared_ptr<TlsContext> context, int fd);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // As of a socket: as much as has come and has room.
  IoResult Read(char* at, size_t bytes);
  // As of a socket, but a caller that is told EAGAIN must come again with the bytes that were not
  // taken; it may bring more.
  IoResult Write(std::span<const iovec> pieces);
  // Tells the peer that nothing follows, if it can be told at once.
  void ShutdownWrite();
  // Every Read and Write ends with `error` from now on.
  void Fail(int error, const char* reason);

  // The handshake is over.
  bool is_established() const { return is_established_; }
  // Read has something to say that the socket does not announce.
  bool has_more() const { return has_more_; }
  // Read goes on when the socket takes bytes, not when it has some.
  bool wants_write() const { return wants_write_; }
  Duration handshake_timeout() const { return context_->options_.handshake_timeout; }

 private:
  struct Socket;  // OpenSSL's view of it

  TlsSession(std::shared_ptr<TlsContext> context, ssl_st* ssl, int fd);
  void Establish();
  void OnNothing(int result);
  void Note(bio_st* bio, int error, int direction);

  const std::shared_ptr<TlsContext> context_;
  ssl_st* const ssl_;
  const int fd_;
  int socket_error_ = 0;
  int error_ = 0;
  bool is_established_ = false;
  bool is_socket_at_end_ = false;
  bool is_at_end_ = false;
  bool has_more_ = false;
  bool wants_write_ = false;
};

}  // namespace penstock::net
