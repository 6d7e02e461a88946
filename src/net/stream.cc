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

  Io(Loop& loop, Stream& stream)
      : impl(loop.impl()), socket(impl.io.get_executor()), deadline(loop, stream) {}

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
  asio::basic_stream_socket<tcp, Executor> socket;
  Deadline deadline;
};

Stream::Stream(Loop& loop) : loop_(loop), io_(std::make_unique<Io>(loop, *this)) {}

Stream::~Stream() = default;

bool Stream::is_open() const { return io_->socket.is_open(); }

int Stream::Adopt(int fd, bool is_ipv6) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  error_code error;
  io_->socket.assign(is_ipv6 ? tcp::v6() : tcp::v4(), fd, error);
  return ErrnoOf(error);
}

void Stream::Connect(const Address& address) {
  tcp::endpoint endpoint;
  endpoint.resize(address.size);
  std::memcpy(endpoint.data(), &address.storage, address.size);
  error_code error;
  io_->socket.open(address.is_ipv6() ? tcp::v6() : tcp::v4(), error);
  if (!error) io_->socket.set_option(tcp::no_delay(true), error);
  auto on_done = [self = Ref<Stream>(this), generation = generation_,
                  is_ipv6 = address.is_ipv6()](error_code result) {
    if (generation != self->generation_) return;
    if (!result) result = self->io_->WatchAnew(is_ipv6);
    self->OnConnect(ErrnoOf(result));
  };
  if (error) {
    asio::post(io_->impl.io, [on_done = std::move(on_done), error] { on_done(error); });
  } else {
    io_->socket.async_connect(endpoint, std::move(on_done));
  }
}

void Stream::StartRead(char* at, size_t bytes) {
  is_reading_ = true;
  io_->socket.async_receive(
      asio::buffer(at, bytes),
      [self = Ref<Stream>(this), generation = generation_](error_code error, size_t got) {
        if (generation != self->generation_) return;
        self->is_reading_ = false;
        const bool is_end = error == asio::error::eof;
        self->OnRead({got, is_end ? 0 : ErrnoOf(error)});
      });
}

void Stream::WaitReadable() {
  if (std::exchange(waits_readable_, true)) return;
  io_->socket.async_wait(tcp::socket::wait_read,
                         [self = Ref<Stream>(this), generation = generation_](error_code) {
                           if (generation != self->generation_) return;
                           self->waits_readable_ = false;
                           self->OnReadable();  // an error shows itself in the read that follows
                         });
}

IoResult Stream::ReadNow(char* at, size_t bytes) {
  ssize_t got;
  do {
    got = ::recv(io_->socket.native_handle(), at, bytes, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return {0, errno};
  return {static_cast<size_t>(got), 0};
}

IoResult Stream::WriteNow(std::span<const iovec> pieces) {
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
  if (std::exchange(waits_writable_, true)) return;
  io_->socket.async_wait(tcp::socket::wait_write,
                         [self = Ref<Stream>(this), generation = generation_](error_code) {
                           if (generation != self->generation_) return;
                           self->waits_writable_ = false;
                           self->OnWritable();  // an error shows itself in the write that follows
                         });
}

void Stream::ShutdownWrite() { ::shutdown(io_->socket.native_handle(), SHUT_WR); }

void Stream::Close() {
  ++generation_;
  is_reading_ = waits_readable_ = waits_writable_ = false;
  ClearDeadline();
  io_->deadline.Cancel();
  if (!is_open()) return;
  error_code ignored;  // the descriptor is gone whatever close says
  io_->socket.close(ignored);
}

void Stream::CloseWithReset() {
  const linger at_once{1, 0};
  if (is_open())
    ::setsockopt(io_->socket.native_handle(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  Close();
}

void Stream::Defer() { io_->impl.turns.Add(*this); }

void Stream::SetDeadline(Time when) {
  Io::Deadline& deadline = io_->deadline;
  deadline.due = when;
  if (!deadline.pending() || deadline.when() > when) deadline.Start(when);
}

void Stream::ClearDeadline() { io_->deadline.due = Time::max(); }

}  // namespace penstock::net
