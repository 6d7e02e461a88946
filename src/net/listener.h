// A listening TCP socket on a loop.
//
// THREADS: loop-bound, apart from Bind. OWNS: the socket.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/result.h"
#include "net/address.h"
#include "net/loop.h"

namespace penstock::net {

// Makes `count` listening sockets on one port, so that every loop can have its own (SO_REUSEPORT;
// port 0: any free one, the same for all). A port that anybody else listens on is refused, also by
// the same user with SO_REUSEPORT: two programs would get a part of each other's connections.
// Returns the descriptors. On any thread. REQUIRES: count > 0.
Result<std::vector<int>> BindListeners(Address address, size_t count);
// The port that a socket is bound to.
uint16_t PortOf(int fd);

class Listener {
 public:
  // Takes over `fd`. `on_accept` gets a connected non-blocking descriptor, which it owns.
  Listener(Loop& loop, int fd, std::function<void(int fd, const Address& peer)> on_accept);
  ~Listener();
  // Hands over the connections that wait, then closes.
  void Close();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace penstock::net
