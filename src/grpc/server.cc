#include "grpc/server.h"

#include <array>
#include <utility>

#include "grpc/connection.h"
#include "grpc/server_loop.h"
#include "net/server.h"

namespace penstock::grpc {

std::string_view StatusName(Status status) {
  constexpr std::array<std::string_view, 17> kNames = {"OK",
                                                       "CANCELLED",
                                                       "UNKNOWN",
                                                       "INVALID_ARGUMENT",
                                                       "DEADLINE_EXCEEDED",
                                                       "NOT_FOUND",
                                                       "ALREADY_EXISTS",
                                                       "PERMISSION_DENIED",
                                                       "RESOURCE_EXHAUSTED",
                                                       "FAILED_PRECONDITION",
                                                       "ABORTED",
                                                       "OUT_OF_RANGE",
                                                       "UNIMPLEMENTED",
                                                       "INTERNAL",
                                                       "UNAVAILABLE",
                                                       "DATA_LOSS",
                                                       "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(status);
  return index < kNames.size() ? kNames[index] : "UNKNOWN";
}

ServerLoop::ServerLoop(net::Loop& loop, const ServerOptions& options,
                       std::atomic<uint64_t>& buffered, std::unique_ptr<Handler> handler)
    : net::ServerLoop(loop, {options.max_connections, options.tls}),
      options_(options),
      buffered_(buffered),
      handler_(std::move(handler)),
      scratch_(std::make_unique_for_overwrite<char[]>(kScratchBytes)) {}

net::Ref<net::ServedStream> ServerLoop::MakeStream(const net::Address&) {
  return net::Ref<net::ServedStream>(new Connection(*this));
}

namespace {

class ServerImpl final : public Server {
 public:
  ServerImpl(net::LoopPool& loops, const ServerOptions& options)
      : options_(options), loops_(loops) {}

  Result<> Open(std::string_view host, uint16_t port,
                const std::function<std::unique_ptr<Handler>(net::Loop&)>& make_handler) {
    return loops_.Open(host, port, [&](net::Loop& loop) {
      return std::make_unique<ServerLoop>(loop, options_, buffered_, make_handler(loop));
    });
  }

  uint16_t port() const override { return loops_.port(); }

  void Drain(Duration limit, std::function<void()> done) override {
    loops_.Drain(limit, std::move(done));
  }

  ServerStats Stats() const override {
    ServerStats sum;
    for (const auto& part : loops_.parts()) {
      const ServerCounters& c = static_cast<const ServerLoop&>(*part).counters();
      sum.connections_accepted += part->accepted();
      sum.connections_open += part->open();
      sum.refused_connections += part->refused();
      sum.bad_connections += c.bad_connections.load(std::memory_order_relaxed);
      sum.calls += c.calls.load(std::memory_order_relaxed);
      sum.calls_open += c.calls_open.load(std::memory_order_relaxed);
      sum.refused_calls += c.refused_calls.load(std::memory_order_relaxed);
      sum.bad_messages += c.bad_messages.load(std::memory_order_relaxed);
      sum.deadlines += c.deadlines.load(std::memory_order_relaxed);
      sum.clients_gone += c.clients_gone.load(std::memory_order_relaxed);
    }
    if (options_.tls != nullptr) sum.failed_handshakes = options_.tls->Stats().failed_handshakes;
    sum.buffered_bytes = buffered_.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  const ServerOptions options_;
  std::atomic<uint64_t> buffered_{0};
  net::ServerLoops loops_;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::Create(
    net::LoopPool& loops, std::string_view host, uint16_t port, const ServerOptions& options,
    std::function<std::unique_ptr<Handler>(net::Loop&)> make_handler) {
  auto server = std::make_unique<ServerImpl>(loops, options);
  if (auto opened = server->Open(host, port, make_handler); !opened) {
    return std::unexpected(opened.error());
  }
  return server;
}

}  // namespace penstock::grpc
