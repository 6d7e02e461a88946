// Socket addresses and their names.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "net/loop.h"

namespace penstock::net {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  bool is_ipv6() const { return storage.ss_family == AF_INET6; }
  uint16_t port() const;
  void set_port(uint16_t port);
  // "10.0.0.1", "::1"; without the port.
  std::string host() const;
};

// An IPv4 or IPv6 address in digits, the latter with or without brackets. Nothing for a name.
std::optional<Address> ParseAddress(std::string_view host, uint16_t port);

// Turns names into addresses on a thread of its own. THREADS: loop-bound; callbacks on the loop.
class Resolver {
 public:
  using Done = std::move_only_function<void(Result<std::vector<Address>>)>;
  explicit Resolver(Loop& loop);
  ~Resolver();  // the callbacks that are outstanding do not come
  // `done` is called later, never inside. Addresses in the order of preference, at least one.
  void Resolve(std::string host, uint16_t port, Done done);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// Resolves on the calling thread, for listeners. "" and "*" are every interface.
Result<Address> ResolveNow(std::string_view host, uint16_t port);

}  // namespace penstock::net
