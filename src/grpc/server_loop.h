// What one loop of a gRPC server shares.
//
// THREADS: loop-bound; counters are read from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "grpc/connection.h"
#include "grpc/server.h"
#include "net/listener.h"

namespace penstock::grpc {

struct ServerCounters {
  std::atomic<uint64_t> connections_accepted{0}, connections_open{0}, refused_connections{0},
      bad_connections{0}, calls{0}, calls_open{0}, refused_calls{0}, bad_messages{0}, deadlines{0},
      clients_gone{0};
};

inline void Count(std::atomic<uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

class ServerLoop {
 public:
  static constexpr size_t kScratchBytes = 64 << 10;

  // `buffered` is shared by the loops of the server.
  ServerLoop(net::Loop& loop, const ServerOptions& options, std::atomic<uint64_t>& buffered,
             std::unique_ptr<Handler> handler);
  ~ServerLoop();
  ServerLoop(const ServerLoop&) = delete;
  ServerLoop& operator=(const ServerLoop&) = delete;

  void Listen(int fd);
  void Drain(Duration limit, std::function<void()> done);
  void Close();
  void Remove(Connection& connection);

  net::Loop& loop() { return loop_; }
  const ServerOptions& options() const { return options_; }
  Handler& handler() { return *handler_; }
  ServerCounters& counters() { return counters_; }
  const ServerCounters& counters() const { return counters_; }
  std::atomic<uint64_t>& buffered() { return buffered_; }
  char* scratch() { return scratch_.get(); }

 private:
  void OnAccept(int fd, const net::Address& peer);
  void ReportDrained();

  net::Loop& loop_;
  const ServerOptions& options_;
  std::atomic<uint64_t>& buffered_;
  std::unique_ptr<Handler> handler_;
  std::unique_ptr<net::Listener> listener_;
  std::vector<net::Ref<Connection>> connections_;
  ServerCounters counters_;
  std::unique_ptr<char[]> scratch_;
  bool is_draining_ = false;
  net::Timer drain_limit_;
  std::function<void()> on_drained_;
};

}  // namespace penstock::grpc
