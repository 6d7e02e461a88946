// What one loop of a gRPC server shares beside its connections.
//
// THREADS: loop-bound; counters are read from any thread.
#pragma once

#include <atomic>
#include <memory>

#include "grpc/connection.h"
#include "grpc/server.h"
#include "net/server.h"

namespace penstock::grpc {

struct ServerCounters {
  std::atomic<uint64_t> bad_connections{0}, calls{0}, calls_open{0}, refused_calls{0},
      bad_messages{0}, deadlines{0}, clients_gone{0};
};

inline void Count(std::atomic<uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

class ServerLoop final : public net::ServerLoop {
 public:
  static constexpr size_t kScratchBytes = 64 << 10;

  // `buffered` is shared by the loops of the server.
  ServerLoop(net::Loop& loop, const ServerOptions& options, std::atomic<uint64_t>& buffered,
             std::unique_ptr<Handler> handler);
  ~ServerLoop() override { Close(); }

  const ServerOptions& options() const { return options_; }
  Handler& handler() { return *handler_; }
  ServerCounters& counters() { return counters_; }
  const ServerCounters& counters() const { return counters_; }
  std::atomic<uint64_t>& buffered() { return buffered_; }
  bool IsFull() const {
    return buffered_.load(std::memory_order_relaxed) > options_.max_buffered_bytes;
  }
  char* scratch() { return scratch_.get(); }

 private:
  net::Ref<net::ServedStream> MakeStream(const net::Address& peer) override;

  const ServerOptions& options_;
  std::atomic<uint64_t>& buffered_;
  std::unique_ptr<Handler> handler_;
  ServerCounters counters_;
  std::unique_ptr<char[]> scratch_;
};

}  // namespace penstock::grpc
