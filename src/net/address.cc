#include "net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <boost/asio/ip/basic_resolver.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstring>
#include <utility>

#include "net/internal_asio.h"

namespace penstock::net {
namespace {

using asio::ip::tcp;

Address FromRaw(const void* data, size_t size) {
  Address address;
  std::memcpy(&address.storage, data, size);
  address.size = static_cast<socklen_t>(size);
  return address;
}

Error CannotResolve(std::string_view host, std::string_view why) {
  return {Code::kUnavailable,
          "host '" + std::string(host) + "' cannot be resolved: " + std::string(why)};
}

}  // namespace

uint16_t Address::port() const {
  return ntohs(is_ipv6() ? reinterpret_cast<const sockaddr_in6&>(storage).sin6_port
                         : reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}

void Address::set_port(uint16_t port) {
  if (is_ipv6()) {
    reinterpret_cast<sockaddr_in6&>(storage).sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in&>(storage).sin_port = htons(port);
  }
}

std::string Address::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  const void* raw =
      is_ipv6()
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr)
          : &reinterpret_cast<const sockaddr_in&>(storage).sin_addr;
  ::inet_ntop(storage.ss_family, raw, text, sizeof(text));
  return text;
}

std::optional<Address> ParseAddress(std::string_view host, uint16_t port) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  const std::string text(host);
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) return FromRaw(&v4, sizeof(v4));
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) return FromRaw(&v6, sizeof(v6));
  return std::nullopt;
}

Result<Address> ResolveNow(std::string_view host, uint16_t port) {
  if (host.empty() || host == "*") host = "0.0.0.0";
  if (auto address = ParseAddress(host, port)) return *address;
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(std::string(host).c_str(), nullptr, &hints, &found))
    return std::unexpected(CannotResolve(host, ::gai_strerror(error)));
  Address address = FromRaw(found->ai_addr, found->ai_addrlen);
  ::freeaddrinfo(found);
  address.set_port(port);
  return address;
}

struct Resolver::Impl {
  explicit Impl(Loop& loop) : resolver(loop.impl().io.get_executor()) {}
  asio::ip::basic_resolver<tcp, Executor> resolver;
};

Resolver::Resolver(Loop& loop) : impl_(std::make_unique<Impl>(loop)) {}
Resolver::~Resolver() = default;

void Resolver::Resolve(std::string host, uint16_t port, Done done) {
  // Cancelled look-ups may be handed over as successes when they were done already: the alive mark
  // tells whether the resolver is still there.
  impl_->resolver.async_resolve(
      host, std::to_string(port), asio::ip::resolver_base::numeric_service,
      [alive = std::weak_ptr<bool>(alive_), host, done = std::move(done)](
          boost::system::error_code error, tcp::resolver::results_type results) mutable {
        if (alive.expired()) return;
        if (error || results.empty())
          return done(std::unexpected(CannotResolve(host, error.message())));
        std::vector<Address> addresses;
        for (const auto& entry : results) {
          const tcp::endpoint endpoint = entry.endpoint();
          addresses.push_back(FromRaw(endpoint.data(), endpoint.size()));
        }
        done(std::move(addresses));
      });
}

}  // namespace penstock::net
