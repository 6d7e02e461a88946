// A listening TCP socket on a loop.
//
// THREADS: loop-bound, apart from Bind. OWNS: the socket.
#pragma once

#include <functional>
#include <memory>

#include "core/result.h"
#include "net/address.h"
#include "net/loop.h"

namespace penstock::net {

// Makes a listening socket with SO_REUSEPORT, so that every loop can have its own. Returns its
// descriptor. On any thread.
Result<int> BindListener(const Address& address);
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
