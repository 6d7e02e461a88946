#include "net/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/internal_asio.h"
#include "telemetry/log.h"

namespace penstock::net {
namespace {

using asio::ip::tcp;

constexpr int kBacklog = 4096;
// Between two tries when the process has no descriptor left.
constexpr Duration kRetryDelay = milliseconds(50);

enum class Port { kIsFree, kIsOurs };

Result<int> BindOne(const Address& address, Port port) {
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  const auto share = [&] {
    return ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0;
  };
  // The first socket is bound before it shares the port: so the system finds whoever has it.
  if (fd >= 0 && ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      (port == Port::kIsFree || share()) &&
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0 &&
      (port == Port::kIsOurs || share()) && ::listen(fd, kBacklog) == 0) {
    return fd;
  }
  const int error = errno;
  if (fd >= 0) ::close(fd);
  return Fail(Code::kUnavailable, "cannot listen on " + address.host() + " port " +
                                      std::to_string(address.port()) + ": " + std::strerror(error));
}

}  // namespace

Result<std::vector<int>> BindListeners(Address address, size_t count) {
  std::vector<int> descriptors;
  while (descriptors.size() < count) {
    auto fd = BindOne(address, descriptors.empty() ? Port::kIsFree : Port::kIsOurs);
    if (!fd) {
      for (const int bound : descriptors) ::close(bound);
      return std::unexpected(fd.error());
    }
    if (descriptors.empty()) address.set_port(PortOf(*fd));
    descriptors.push_back(*fd);
  }
  return descriptors;
}

uint16_t PortOf(int fd) {
  Address address;
  address.size = sizeof(address.storage);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.size);
  return address.port();
}

struct Listener::Impl : std::enable_shared_from_this<Listener::Impl> {
  Impl(Loop& l, std::function<void(int, const Address&)> f)
      : on_accept(std::move(f)), acceptor(l.impl().io.get_executor()), retry(l, [this] {
          const auto keep = shared_from_this();  // the listener may go inside on_accept
          AcceptAll();
        }) {}

  void Wait() {
    acceptor.async_wait(tcp::acceptor::wait_read,
                        [self = shared_from_this()](boost::system::error_code error) {
                          if (error || !self->acceptor.is_open()) return;
                          self->AcceptAll();
                        });
  }

  // Returns whether the queue was emptied.
  bool TakeWaiting() {
    while (acceptor.is_open()) {
      Address peer;
      peer.size = sizeof(peer.storage);
      const int fd = ::accept4(acceptor.native_handle(), reinterpret_cast<sockaddr*>(&peer.storage),
                               &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        on_accept(fd, peer);
        continue;
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
      // These concern the one connection that broke before it was accepted.
      if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO) continue;
      telemetry::log::Warn("connections wait: none can be accepted",
                           {{"reason", std::strerror(errno)}});
      return false;
    }
    return true;
  }

  void AcceptAll() {
    const bool is_done = TakeWaiting();
    if (!acceptor.is_open()) return;
    if (is_done) {
      Wait();
    } else {
      retry.Start(kRetryDelay);
    }
  }

  std::function<void(int, const Address&)> on_accept;
  asio::basic_socket_acceptor<tcp, Executor> acceptor;
  Timer retry;
};

Listener::Listener(Loop& loop, int fd, std::function<void(int, const Address&)> on_accept)
    : impl_(std::make_shared<Impl>(loop, std::move(on_accept))) {
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
  boost::system::error_code error;
  impl_->acceptor.assign(name.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), fd, error);
  if (error) {
    telemetry::log::Err("a listening socket cannot be watched", {{"reason", error.message()}});
    ::close(fd);
    return;
  }
  impl_->Wait();
}

Listener::~Listener() {
  boost::system::error_code ignored;  // the descriptor is gone whatever close says
  impl_->retry.Cancel();
  impl_->acceptor.close(ignored);
}

void Listener::Close() {
  const std::shared_ptr<Impl> impl = impl_;  // the listener may go inside on_accept
  if (!impl->acceptor.is_open()) return;
  impl->TakeWaiting();
  boost::system::error_code ignored;
  impl->retry.Cancel();
  impl->acceptor.close(ignored);
}

}  // namespace penstock::net
