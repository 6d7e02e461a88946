// What servers have in common, whatever they speak: they listen on every loop, have so many
// connections at most, speak TLS or not, and drain.
//
// A ServedStream is one client's connection; a ServerLoop is what one loop of a server shares; a
// ServerLoops is all of them. Protocols derive the first two.
//
// THREADS: a ServerLoop and its streams are loop-bound, their counters are read from any thread; a
// ServerLoops belongs to the thread that made it. OWNS: listeners and connections.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"

namespace penstock::net {

class ServedStream : public Stream {
 public:
  // Ends it when what is running has ended.
  virtual void Drain() = 0;
  // Ends everything at once. REQUIRES of the implementation: calls ServerLoop::Remove, once.
  virtual void Cut() = 0;

 protected:
  using Stream::Stream;

 private:
  friend class ServerLoop;
  // The socket is adopted: the conversation may begin.
  virtual void OnOpen() = 0;
  size_t index_ = 0;  // the ServerLoop's place for it
};

struct ServerLoopOptions {
  size_t max_connections;
  std::shared_ptr<TlsContext> tls;  // null: none
};

class ServerLoop {
 public:
  ServerLoop(Loop& loop, ServerLoopOptions options);
  virtual ~ServerLoop();  // REQUIRES: Close was called, by the derived class's destructor
  ServerLoop(const ServerLoop&) = delete;
  ServerLoop& operator=(const ServerLoop&) = delete;

  // Takes over a listening socket.
  void Listen(int fd);
  // Takes no new connections, drains those that are there, and closes the rest after `limit`; then
  // `done` is called, once.
  void Drain(Duration limit, std::function<void()> done);
  // Closes everything, at once.
  void Close();
  // A stream has closed; it may be destroyed before this returns.
  void Remove(ServedStream& stream);

  Loop& loop() const { return loop_; }
  uint64_t accepted() const { return accepted_.load(std::memory_order_relaxed); }
  uint64_t open() const { return open_.load(std::memory_order_relaxed); }
  // Beyond max_connections.
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  virtual Ref<ServedStream> MakeStream(const Address& peer) = 0;
  // Says why a connection is refused, on a socket that is closed afterwards. Not called with TLS.
  virtual void ExplainRefusal(int) {}
  void OnAccept(int fd, const Address& peer);
  void ReportDrained();

  Loop& loop_;
  const ServerLoopOptions options_;
  std::unique_ptr<Listener> listener_;
  std::vector<Ref<ServedStream>> streams_;
  std::atomic<uint64_t> accepted_{0}, open_{0}, refused_{0};
  bool is_draining_ = false;
  Timer drain_limit_;
  std::function<void()> on_drained_;
};

class ServerLoops {
 public:
  explicit ServerLoops(LoopPool& loops) : loops_(loops) {}
  ~ServerLoops();  // destroys each part on its loop

  // Listens on host:port (port 0: any free one) on every loop, or on none. `make` is called once
  // per loop, on the calling thread. kUnavailable names the address that cannot be bound.
  Result<> Open(std::string_view host, uint16_t port,
                const std::function<std::unique_ptr<ServerLoop>(Loop&)>& make);
  uint16_t port() const { return port_; }
  // `done` is called once, on loop 0, when every part has drained.
  void Drain(Duration limit, std::function<void()> done);
  const std::vector<std::unique_ptr<ServerLoop>>& parts() const { return parts_; }

 private:
  LoopPool& loops_;
  uint16_t port_ = 0;
  std::vector<std::unique_ptr<ServerLoop>> parts_;
};

}  // namespace penstock::net
