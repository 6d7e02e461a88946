#include "grpc/server.h"

#include <unistd.h>

#include <array>
#include <utility>

#include "grpc/connection.h"
#include "grpc/server_loop.h"
#include "net/address.h"

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
    : loop_(loop),
      options_(options),
      buffered_(buffered),
      handler_(std::move(handler)),
      scratch_(std::make_unique_for_overwrite<char[]>(kScratchBytes)),
      drain_limit_(loop, [this] {
        Close();
        ReportDrained();
      }) {}

ServerLoop::~ServerLoop() { Close(); }

void ServerLoop::Listen(int fd) {
  listener_ = std::make_unique<net::Listener>(
      loop_, fd, [this](int accepted, const net::Address& peer) { OnAccept(accepted, peer); });
}

void ServerLoop::OnAccept(int fd, const net::Address& peer) {
  if (connections_.size() >= options_.max_connections) {
    Count(counters_.refused_connections);
    ::close(fd);
    return;
  }
  net::Ref<Connection> connection(new Connection(*this));
  connection->index = connections_.size();
  connections_.push_back(connection);
  Count(counters_.connections_accepted);
  Count(counters_.connections_open);
  connection->Open(fd, peer.is_ipv6());
}

void ServerLoop::Remove(Connection& connection) {
  const size_t index = connection.index;
  if (index + 1 < connections_.size()) {
    connections_[index].swap(connections_.back());
    connections_[index]->index = index;
  }
  const net::Ref<Connection> keep = std::move(connections_.back());
  connections_.pop_back();
  counters_.connections_open.fetch_sub(1, std::memory_order_relaxed);
  if (is_draining_ && connections_.empty()) ReportDrained();
}

void ServerLoop::Drain(Duration limit, std::function<void()> done) {
  on_drained_ = std::move(done);
  if (listener_ != nullptr) listener_->Close();
  is_draining_ = true;
  for (const net::Ref<Connection>& connection : connections_) connection->Drain();
  if (connections_.empty()) return ReportDrained();
  drain_limit_.Start(limit);
}

void ServerLoop::ReportDrained() {
  drain_limit_.Cancel();
  if (on_drained_) std::exchange(on_drained_, nullptr)();
}

void ServerLoop::Close() {
  listener_.reset();
  while (!connections_.empty()) net::Ref<Connection>(connections_.back())->Cut();
}

namespace {

class ServerImpl final : public Server {
 public:
  ServerImpl(net::LoopPool& loops, const ServerOptions& options)
      : loops_(loops), options_(options) {}

  ~ServerImpl() override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      loops_.at(i).RunAndWait([this, i] { parts_[i].reset(); });
    }
  }

  Result<> Open(std::string_view host, uint16_t port,
                const std::function<std::unique_ptr<Handler>(net::Loop&)>& make_handler) {
    const auto address = net::ResolveNow(host, port);
    if (!address) return std::unexpected(address.error());
    const auto descriptors = net::BindListeners(*address, loops_.size());
    if (!descriptors) return std::unexpected(descriptors.error());
    port_ = net::PortOf(descriptors->front());
    for (size_t i = 0; i < loops_.size(); ++i) {
      net::Loop& loop = loops_.at(i);
      parts_.push_back(std::make_unique<ServerLoop>(loop, options_, buffered_, make_handler(loop)));
    }
    for (size_t i = 0; i < loops_.size(); ++i) {
      loops_.at(i).RunAndWait([this, i, &descriptors] { parts_[i]->Listen((*descriptors)[i]); });
    }
    return {};
  }

  uint16_t port() const override { return port_; }

  void Drain(Duration limit, std::function<void()> done) override {
    struct Latch {
      std::atomic<size_t> left;
      std::function<void()> done;
    };
    auto latch = std::make_shared<Latch>();
    latch->left = parts_.size();
    latch->done = std::move(done);
    for (size_t i = 0; i < parts_.size(); ++i) {
      loops_.at(i).Post([this, i, limit, latch] {
        if (parts_[i] == nullptr) return;
        parts_[i]->Drain(limit, [this, latch] {
          if (latch->left.fetch_sub(1) > 1) return;
          loops_.at(0).Post([latch] { latch->done(); });
        });
      });
    }
  }

  ServerStats Stats() const override {
    ServerStats sum;
    for (const auto& part : parts_) {
      const ServerCounters& c = part->counters();
      sum.connections_accepted += c.connections_accepted.load(std::memory_order_relaxed);
      sum.connections_open += c.connections_open.load(std::memory_order_relaxed);
      sum.refused_connections += c.refused_connections.load(std::memory_order_relaxed);
      sum.bad_connections += c.bad_connections.load(std::memory_order_relaxed);
      sum.calls += c.calls.load(std::memory_order_relaxed);
      sum.calls_open += c.calls_open.load(std::memory_order_relaxed);
      sum.refused_calls += c.refused_calls.load(std::memory_order_relaxed);
      sum.bad_messages += c.bad_messages.load(std::memory_order_relaxed);
      sum.deadlines += c.deadlines.load(std::memory_order_relaxed);
      sum.clients_gone += c.clients_gone.load(std::memory_order_relaxed);
    }
    sum.buffered_bytes = buffered_.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  net::LoopPool& loops_;
  const ServerOptions options_;
  std::atomic<uint64_t> buffered_{0};
  uint16_t port_ = 0;
  std::vector<std::unique_ptr<ServerLoop>> parts_;
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
