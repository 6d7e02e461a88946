#include "net/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/internal_asio.h"
#include "net/tls_session.h"

namespace penstock::net {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

int ErrnoOf(const error_code& error) {
  if (!error) return 0;
  return error.category() == boost::system::system_category() ? error.value() : ECONNABORTED;
}

}  // namespace

struct Stream::Io {
  using Socket = asio::basic_stream_socket<tcp, Executor>;

  struct Deadline : TimerNode {
    Deadline(Loop& loop, Stream& s) : TimerNode(loop), stream(s) {}
    void Fire() override {
      if (due > std::chrono::steady_clock::now()) {
        if (due != Time::max()) Start(due);
        return;
      }
      due = Time::max();
      Ref<Stream> keep(&stream);
      stream.OnDeadline();
    }
    Stream& stream;
    Time due = Time::max();
  };

  // TLS on the socket, and how long its beginning may take.
  struct Tls : TimerNode {
    Tls(Loop& loop, std::unique_ptr<TlsSession> s, Socket& on)
        : TimerNode(loop), session(std::move(s)), socket(on) {
      Start(loop.Now() + session->handshake_timeout());
    }
    // Whoever waits for the socket is told, and reads the error.
    void Fire() override {
      session->Fail(ETIMEDOUT, "it took too long");
      error_code ignored;  // without waiters there is nobody to tell
      socket.cancel(ignored);
    }
    std::unique_ptr<TlsSession> session;
    Socket& socket;
  };

  Io(Loop& loop, Stream& stream)
      : impl(loop.impl()), socket(impl.io.get_executor()), deadline(loop, stream) {}

  IoResult Read(char* at, size_t bytes) {
    if (tls != nullptr) return tls->session->Read(at, bytes);
    ssize_t got;
    do {
      got = ::recv(socket.native_handle(), at, bytes, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return {0, errno};
    return {static_cast<size_t>(got), 0};
  }

  // `then` is called once when there is something to read, also an error.
  template <class Then>
  void AwaitInput(Then then) {
    if (tls != nullptr && tls->session->has_more()) {
      asio::post(impl.io, [then = std::move(then)]() mutable { then(error_code()); });
    } else {
      const bool wants_write = tls != nullptr && tls->session->wants_write();
      socket.async_wait(wants_write ? Socket::wait_write : Socket::wait_read, std::move(then));
    }
  }

  // Connecting has the reactor watch for writability, and then every wait for readability is
  // answered once more in vain: 1.6 epoll_wait a message instead of 1. Watched anew, the socket is
  // watched for writability only after WaitWritable.
  error_code WatchAnew(bool is_ipv6) {
    error_code error;
    const int fd = socket.release(error);
    if (error) return error;
    socket.assign(is_ipv6 ? tcp::v6() : tcp::v4(), fd, error);
    if (error) ::close(fd);
    return error;
  }

  Loop::Impl& impl;
  Socket socket;
  Deadline deadline;
  std::unique_ptr<Tls> tls;
};

Stream::Stream(Loop& loop) : loop_(loop), io_(std::make_unique<Io>(loop, *this)) {}

Stream::~Stream() = default;

bool Stream::is_open() const { return io_->socket.is_open(); }

int Stream::Adopt(int fd, bool is_ipv6, const std::shared_ptr<TlsContext>& tls) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  std::unique_ptr<TlsSession> session;
  if (tls != nullptr) {
    session = TlsSession::Accept(tls, fd);
    if (session == nullptr) return ENOMEM;
  }
  error_code error;
  io_->socket.assign(is_ipv6 ? tcp::v6() : tcp::v4(), fd, error);
  if (error) return ErrnoOf(error);
  if (session != nullptr) {
    io_->tls = std::make_unique<Io::Tls>(loop_, std::move(session), io_->socket);
  }
  return 0;
}

void Stream::Connect(const Address& address, std::shared_ptr<TlsClientContext> tls,
                     std::string host) {
  tcp::endpoint endpoint;
  endpoint.resize(address.size);
  std::memcpy(endpoint.data(), &address.storage, address.size);
  error_code error;
  io_->socket.open(address.is_ipv6() ? tcp::v6() : tcp::v4(), error);
  if (!error) io_->socket.set_option(tcp::no_delay(true), error);
  auto on_done = [self = Ref<Stream>(this), generation = generation_, is_ipv6 = address.is_ipv6(),
                  tls = std::move(tls), host = std::move(host)](error_code result) {
    if (generation != self->generation_) return;
    if (!result) result = self->io_->WatchAnew(is_ipv6);
    if (!result && tls != nullptr) return self->BeginTls(tls, host);
    self->OnConnect(ErrnoOf(result));
  };
  if (error) {
    asio::post(io_->impl.io, [on_done = std::move(on_done), error] { on_done(error); });
  } else {
    io_->socket.async_connect(endpoint, std::move(on_done));
  }
}

void Stream::BeginTls(const std::shared_ptr<TlsClientContext>& tls, std::string_view host) {
  auto session = TlsSession::Connect(tls, host, io_->socket.native_handle());
  if (session == nullptr) return OnConnect(ENOMEM);
  io_->tls = std::make_unique<Io::Tls>(loop_, std::move(session), io_->socket);
  ShakeHands();
}

void Stream::ShakeHands() {
  TlsSession& session = *io_->tls->session;
  const int error = session.ShakeHands();
  if (error == EAGAIN) {
    io_->socket.async_wait(session.wants_write() ? tcp::socket::wait_write : tcp::socket::wait_read,
                           [self = Ref<Stream>(this), generation = generation_](error_code) {
                             if (generation == self->generation_) self->ShakeHands();
                           });
    return;
  }
  io_->tls->Cancel();
  OnConnect(error);
}

std::string Stream::TlsFailure() const {
  return io_->tls == nullptr ? "" : io_->tls->session->reason();
}

void Stream::StartRead(char* at, size_t bytes) {
  is_reading_ = true;
  if (io_->tls != nullptr) return ReadWhenReadable(at, bytes);
  io_->socket.async_receive(
      asio::buffer(at, bytes),
      [self = Ref<Stream>(this), generation = generation_](error_code error, size_t got) {
        if (generation != self->generation_) return;
        self->is_reading_ = false;
        const bool is_end = error == asio::error::eof;
        self->OnRead({got, is_end ? 0 : ErrnoOf(error)});
      });
}

void Stream::ReadWhenReadable(char* at, size_t bytes) {
  io_->AwaitInput([self = Ref<Stream>(this), generation = generation_, at, bytes](error_code) {
    if (generation != self->generation_) return;
    const IoResult result = self->ReadNow(at, bytes);
    if (result.error == EAGAIN) return self->ReadWhenReadable(at, bytes);
    self->is_reading_ = false;
    self->OnRead(result);
  });
}

void Stream::WaitReadable() {
  if (std::exchange(waits_readable_, true)) return;
  io_->AwaitInput([self = Ref<Stream>(this), generation = generation_](error_code) {
    if (generation != self->generation_) return;
    self->waits_readable_ = false;
    self->OnReadable();  // an error shows itself in the read that follows
  });
}

IoResult Stream::ReadNow(char* at, size_t bytes) {
  const bool was_blocked = is_shaking_hands();
  const IoResult result = io_->Read(at, bytes);
  if (was_blocked && !is_shaking_hands()) {
    io_->tls->Cancel();
    if (std::exchange(waits_writable_, false)) WaitWritable();
  }
  return result;
}

bool Stream::is_shaking_hands() const {
  return io_->tls != nullptr && !io_->tls->session->is_established();
}

IoResult Stream::WriteNow(std::span<const iovec> pieces) {
  if (io_->tls != nullptr) return io_->tls->session->Write(pieces);
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  ssize_t sent;
  do {
    sent = ::sendmsg(io_->socket.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return {0, errno};
  return {static_cast<size_t>(sent), 0};
}

void Stream::WaitWritable() {
  if (std::exchange(waits_writable_, true) || is_shaking_hands()) return;
  io_->socket.async_wait(tcp::socket::wait_write,
                         [self = Ref<Stream>(this), generation = generation_](error_code) {
                           if (generation != self->generation_) return;
                           self->waits_writable_ = false;
                           self->OnWritable();  // an error shows itself in the write that follows
                         });
}

void Stream::ShutdownWrite() {
  if (io_->tls != nullptr) io_->tls->session->ShutdownWrite();
  ::shutdown(io_->socket.native_handle(), SHUT_WR);
}

void Stream::Close() {
  if (io_->tls != nullptr) io_->tls->session->ShutdownWrite();
  Abandon();
}

void Stream::Abandon() {
  ++generation_;
  is_reading_ = waits_readable_ = waits_writable_ = false;
  ClearDeadline();
  io_->deadline.Cancel();
  io_->tls.reset();
  if (!is_open()) return;
  error_code ignored;  // the descriptor is gone whatever close says
  io_->socket.close(ignored);
}

void Stream::CloseWithReset() {
  const linger at_once{1, 0};
  if (is_open())
    ::setsockopt(io_->socket.native_handle(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  Abandon();
}

void Stream::Defer() { io_->impl.turns.Add(*this); }

void Stream::SetDeadline(Time when) {
  Io::Deadline& deadline = io_->deadline;
  deadline.due = when;
  if (!deadline.pending() || deadline.when() > when) deadline.Start(when);
}

void Stream::ClearDeadline() { io_->deadline.due = Time::max(); }

}  // namespace penstock::net
