#include "http/client.h"

#include <algorithm>
#include <utility>

#include "http/client_loop.h"

namespace penstock::http {
namespace {

// A head that has reached its limit without an end leaves room for the byte that goes beyond it.
size_t BufferBytes(const ClientOptions& options) {
  return std::max(options.read_buffer_bytes, options.max_response_header_bytes + 4096);
}

}  // namespace

std::string_view CallFailureName(CallFailure failure) {
  switch (failure) {
    case CallFailure::kLocal:
      return "local";
    case CallFailure::kConnect:
      return "connect";
    case CallFailure::kReset:
      return "reset";
    case CallFailure::kTruncated:
      return "truncated";
    case CallFailure::kBadResponse:
      return "bad_response";
    case CallFailure::kTimeout:
      return "timeout";
    case CallFailure::kTls:
      return "tls";
  }
  return "";
}

std::unique_ptr<Client> Client::Create(net::Loop& loop, ClientOptions options) {
  auto resolve = [resolver = std::make_unique<net::Resolver>(loop)](std::string host,
                                                                    net::Resolver::Done done) {
    resolver->Resolve(std::move(host), 0, std::move(done));
  };
  return std::make_unique<ClientLoop>(loop, std::move(options), std::move(resolve));
}

ClientLoop::ClientLoop(net::Loop& loop, ClientOptions options, DnsCache::Resolve resolve)
    : loop_(loop),
      options_(std::move(options)),
      buffer_bytes_(BufferBytes(options_)),
      buffer_(std::make_unique_for_overwrite<char[]>(buffer_bytes_)),
      names_(std::move(resolve), [&loop] { return loop.Now(); }) {}

ClientLoop::~ClientLoop() {
  while (!connections_.empty()) connections_.back()->Abandon();
}

ClientPool& ClientLoop::PoolOf(std::string_view host, uint16_t port,
                               const std::shared_ptr<net::TlsClientContext>& tls) {
  const auto it = pools_.find({host, port, tls.get()});
  if (it != pools_.end()) return *it->second;
  auto pool = std::make_unique<ClientPool>();
  pool->host = host;
  pool->port = port;
  pool->tls = tls;
  const Key key{pool->host, port, tls.get()};
  return *pools_.emplace(key, std::move(pool)).first->second;
}

std::unique_ptr<Call> ClientLoop::Send(std::string_view host, uint16_t port, std::string head,
                                       std::vector<std::string_view> body,
                                       const CallOptions& options, CallListener& listener) {
  auto call = std::make_unique<ClientCall>(std::move(head), std::move(body), options, listener);
  Count(counters_.requests);
  ClientPool& pool = PoolOf(host, port, options.tls);
  if (pool.idle.empty()) {
    SendFresh(*call, pool);
    return call;
  }
  ClientConnection& connection = *pool.idle.back();
  pool.idle.pop_back();
  Count(counters_.connections_idle, -1);
  Count(counters_.reused);
  connection.Reuse(*call);
  return call;
}

void ClientLoop::SendFresh(ClientCall& call, ClientPool& pool) {
  net::Ref<ClientConnection> connection(new ClientConnection(*this, pool));
  connection->index = connections_.size();
  connections_.push_back(connection);
  ++pool.connections;
  Count(counters_.connections_open);
  connection->Open(call);
}

bool ClientLoop::Keep(ClientConnection& connection) {
  ClientPool& pool = connection.pool();
  if (connection.epoch() != pool.epoch || pool.idle.size() >= options_.max_idle_per_endpoint)
    return false;
  pool.idle.push_back(&connection);
  Count(counters_.connections_idle);
  return true;
}

void ClientLoop::RemoveIdle(ClientConnection& connection) {
  if (std::erase(connection.pool().idle, &connection) == 0) return;
  Count(counters_.connections_idle, -1);
  Count(counters_.idle_closed);
}

void ClientLoop::Remove(ClientConnection& connection) {
  ClientPool& pool = connection.pool();
  if (--pool.connections == 0) pools_.erase({pool.host, pool.port, pool.tls.get()});
  const size_t index = connection.index;
  if (index + 1 < connections_.size()) {
    connections_[index].swap(connections_.back());
    connections_[index]->index = index;
  }
  const net::Ref<ClientConnection> keep = std::move(connections_.back());
  connections_.pop_back();
  Count(counters_.connections_open, -1);
}

void ClientLoop::Forget(std::string_view host, uint16_t port) {
  std::vector<ClientConnection*> idle;  // a pool goes with its last connection
  for (const auto& [key, pool] : pools_) {
    if (key.host != host || key.port != port) continue;
    ++pool->epoch;
    idle.insert(idle.end(), pool->idle.begin(), pool->idle.end());
  }
  for (ClientConnection* connection : idle) connection->CloseIdle();
}

size_t ClientLoop::idle_connections() const {
  return counters_.connections_idle.load(std::memory_order_relaxed);
}

ClientStats ClientLoop::Stats() const {
  const auto read = [](const std::atomic<uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  ClientStats stats;
  stats.connections_open = read(counters_.connections_open);
  stats.connections_idle = read(counters_.connections_idle);
  stats.connections_opened = read(counters_.connections_opened);
  stats.requests = read(counters_.requests);
  stats.reused = read(counters_.reused);
  stats.replaced_stale = read(counters_.replaced_stale);
  stats.idle_closed = read(counters_.idle_closed);
  stats.garbage = read(counters_.garbage);
  stats.cancelled = read(counters_.cancelled);
  for (size_t i = 0; i < kCallFailures; ++i) stats.failures[i] = read(counters_.failures[i]);
  return stats;
}

}  // namespace penstock::http
