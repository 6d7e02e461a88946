#include "net/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "net/tls_reason.h"
#include "telemetry/log.h"

namespace penstock::net {
namespace {

constexpr size_t kRecordBytes = 16 << 10;

void Count(std::atomic<uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

// Pieces one after the other, in records that are as large as they may be.
class Gatherer {
 public:
  explicit Gatherer(std::span<const iovec> pieces) : pieces_(pieces) {}

  // What comes next, valid until the next call; empty at the end.
  std::string_view Next() {
    while (!pieces_.empty() && offset_ == pieces_.front().iov_len) Advance();
    if (pieces_.empty()) return {};
    const std::string_view first = Rest(0, offset_);
    if (pieces_.size() == 1 || first.size() >= kRecordBytes) return first;
    static thread_local std::array<char, kRecordBytes> buffer;
    size_t filled = 0;
    for (size_t i = 0; i < pieces_.size() && filled < kRecordBytes; ++i) {
      const std::string_view rest = Rest(i, i == 0 ? offset_ : 0);
      if (rest.empty()) continue;
      const size_t size = std::min(rest.size(), kRecordBytes - filled);
      std::memcpy(buffer.data() + filled, rest.data(), size);
      filled += size;
    }
    return {buffer.data(), filled};
  }
  void Take(size_t bytes) {
    while (bytes > 0) {
      const size_t size = std::min(bytes, pieces_.front().iov_len - offset_);
      offset_ += size;
      bytes -= size;
      if (offset_ == pieces_.front().iov_len) Advance();
    }
  }

 private:
  std::string_view Rest(size_t index, size_t from) const {
    const iovec& piece = pieces_[index];
    return {static_cast<const char*>(piece.iov_base) + from, piece.iov_len - from};
  }
  void Advance() {
    pieces_ = pieces_.subspan(1);
    offset_ = 0;
  }

  std::span<const iovec> pieces_;
  size_t offset_ = 0;
};

}  // namespace

// OpenSSL's own socket would raise SIGPIPE.
struct TlsSession::Socket {
  static TlsSession& Of(BIO* bio) { return *static_cast<TlsSession*>(BIO_get_data(bio)); }

  static int Read(BIO* bio, char* at, int bytes) {
    BIO_clear_retry_flags(bio);
    TlsSession& session = Of(bio);
    ssize_t got;
    do {
      got = ::recv(session.fd_, at, static_cast<size_t>(bytes), MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got == 0) session.is_socket_at_end_ = true;
    if (got < 0) session.Note(bio, errno, BIO_FLAGS_READ);
    return static_cast<int>(got);
  }

  static int Write(BIO* bio, const char* at, int bytes) {
    BIO_clear_retry_flags(bio);
    TlsSession& session = Of(bio);
    ssize_t sent;
    do {
      sent = ::send(session.fd_, at, static_cast<size_t>(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) session.Note(bio, errno, BIO_FLAGS_WRITE);
    return static_cast<int>(sent);
  }

  static long Control(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_EOF) return Of(bio).is_socket_at_end_ ? 1 : 0;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static BIO_METHOD* Make() {
    BIO_METHOD* const method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    BIO_meth_set_read(method, Read);
    BIO_meth_set_write(method, Write);
    BIO_meth_set_ctrl(method, Control);
    return method;
  }
};

void TlsSession::Note(bio_st* bio, int error, int direction) {
  if (error == EAGAIN || error == EWOULDBLOCK) {
    BIO_set_flags(bio, direction | BIO_FLAGS_SHOULD_RETRY);
  } else {
    socket_error_ = error;
  }
}

std::unique_ptr<TlsSession> TlsSession::Make(Terms terms, ssl_st* ssl, int fd) {
  static BIO_METHOD* const method = Socket::Make();
  BIO* const bio = method == nullptr ? nullptr : BIO_new(method);
  if (ssl == nullptr || bio == nullptr) {
    SSL_free(ssl);
    BIO_free(bio);
    return nullptr;
  }
  std::unique_ptr<TlsSession> session(new TlsSession(std::move(terms), ssl, fd));
  BIO_set_data(bio, session.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  return session;
}

std::unique_ptr<TlsSession> TlsSession::Accept(const std::shared_ptr<TlsContext>& context, int fd) {
  const TlsOptions& options = context->options_;
  auto session = Make(
      {context, context->counters_, false, !options.protocol.empty(), options.handshake_timeout},
      context->NewConnection(), fd);
  if (session != nullptr) SSL_set_accept_state(session->ssl_);
  return session;
}

std::unique_ptr<TlsSession> TlsSession::Connect(const std::shared_ptr<TlsClientContext>& context,
                                                std::string_view host, int fd) {
  auto session =
      Make({context, context->counters_, true, false, context->options_.handshake_timeout},
           context->NewConnection(host), fd);
  if (session != nullptr) SSL_set_connect_state(session->ssl_);
  return session;
}

TlsSession::TlsSession(Terms terms, ssl_st* ssl, int fd)
    : terms_(std::move(terms)), ssl_(ssl), fd_(fd) {}

TlsSession::~TlsSession() {
  // A client that gives up counts as one whose handshake failed; a server says why it closes.
  if (terms_.is_client && !is_established_) Fail(ECANCELED, "given up");
  SSL_free(ssl_);
}

void TlsSession::Fail(int error, std::string_view reason) {
  if (error_ != 0) return;
  error_ = error;
  reason_ = reason;
  if (is_established_) return;
  Count(terms_.counters.failed);
  if (error == ETIMEDOUT) Count(terms_.counters.late);
  telemetry::log::Debug("a TLS handshake failed", {{"reason", reason}});
}

void TlsSession::Establish() {
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &protocol, &size);
  if (size == 0 && terms_.needs_protocol) {
    return Fail(EPROTO, "the client offers no protocol by ALPN");
  }
  is_established_ = true;
  Count(terms_.counters.handshakes);
}

int TlsSession::ShakeHands() {
  wants_write_ = false;
  if (error_ != 0 || is_established_) return error_;
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result != 1) {
    OnNothing(result);
    return error_ != 0 ? error_ : EAGAIN;
  }
  Establish();
  // What came with the end of the handshake is announced by no socket.
  has_more_ = SSL_has_pending(ssl_) == 1;
  return error_;
}

// Deals with a call of OpenSSL's that gave nothing.
void TlsSession::OnNothing(int result) {
  const int kind = SSL_get_error(ssl_, result);
  if (kind == SSL_ERROR_WANT_READ) return;
  if (kind == SSL_ERROR_WANT_WRITE) {
    wants_write_ = true;
  } else if (is_established_ && (kind == SSL_ERROR_ZERO_RETURN || is_socket_at_end_)) {
    is_at_end_ = true;
  } else if (is_socket_at_end_) {
    Fail(ECONNRESET, terms_.is_client ? "the connection was closed in the TLS handshake"
                                      : "the client went away");
  } else if (socket_error_ != 0) {
    Fail(socket_error_, std::strerror(socket_error_));
  } else {
    Fail(EPROTO, terms_.is_client ? ClientReason(ssl_) : TlsReason());
  }
}

IoResult TlsSession::Read(char* at, size_t bytes) {
  has_more_ = wants_write_ = false;
  size_t got = 0;
  while (error_ == 0 && !is_at_end_ && got < bytes) {
    ERR_clear_error();
    size_t count = 0;
    const int result = SSL_read_ex(ssl_, at + got, bytes - got, &count);
    if (!is_established_ && SSL_is_init_finished(ssl_) == 1) Establish();
    if (error_ != 0) break;
    if (result != 1) {
      OnNothing(result);
      break;
    }
    got += count;
  }
  has_more_ = got > 0 && (got == bytes || error_ != 0 || is_at_end_);
  if (got > 0) return {got, 0};
  if (error_ != 0) return {0, error_};
  return {0, is_at_end_ ? 0 : EAGAIN};
}

IoResult TlsSession::Write(std::span<const iovec> pieces) {
  if (error_ != 0) return {0, error_};
  if (!is_established_) return {0, EAGAIN};
  size_t sent = 0;
  Gatherer gatherer(pieces);
  while (true) {
    const std::string_view next = gatherer.Next();
    if (next.empty()) return {sent, 0};
    ERR_clear_error();
    size_t count = 0;
    const int result = SSL_write_ex(ssl_, next.data(), next.size(), &count);
    if (result == 1) {
      gatherer.Take(count);
      sent += count;
      continue;
    }
    if (const int kind = SSL_get_error(ssl_, result);
        kind != SSL_ERROR_WANT_WRITE && kind != SSL_ERROR_WANT_READ) {
      Fail(socket_error_ != 0 ? socket_error_ : EPROTO, "");
    }
    if (sent > 0) return {sent, 0};
    return {0, error_ != 0 ? error_ : EAGAIN};
  }
}

void TlsSession::ShutdownWrite() {
  if (!is_established_ || error_ != 0) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

}  // namespace penstock::net
