// What the connections of one client share: the pools by endpoint, the read buffer, the counters.
//
// THREADS: loop-bound; counters are read from any thread. OWNS: the connections.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "http/client.h"
#include "http/client_connection.h"
#include "http/dns_cache.h"
#include "net/address.h"
#include "net/loop.h"
#include "wire/h1.h"

namespace penstock::http {

struct ClientCounters {
  std::atomic<uint64_t> connections_open{0}, connections_idle{0}, connections_opened{0},
      requests{0}, reused{0}, replaced_stale{0}, idle_closed{0}, garbage{0}, cancelled{0};
  std::atomic<uint64_t> failures[kCallFailures]{};
};

// Only the loop's thread writes a counter, so a plain addition will do.
inline void Count(std::atomic<uint64_t>& counter, int64_t change = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + static_cast<uint64_t>(change),
                std::memory_order_relaxed);
}

// The connections to one endpoint. It exists while there is one.
struct ClientPool {
  std::string host;
  uint16_t port = 0;
  std::shared_ptr<net::TlsClientContext> tls;  // null: plain
  std::vector<ClientConnection*> idle;         // the one used last is at the end
  size_t connections = 0;
  uint32_t epoch = 0;  // connections of an earlier one are not kept
};

class ClientLoop final : public Client {
 public:
  // `resolve` looks names up; it goes with the client.
  ClientLoop(net::Loop& loop, ClientOptions options, DnsCache::Resolve resolve);
  ~ClientLoop() override;

  // Client
  std::unique_ptr<Call> Send(std::string_view host, uint16_t port, std::string head,
                             std::vector<std::string_view> body, const CallOptions& options,
                             CallListener& listener) override;
  void Forget(std::string_view host, uint16_t port) override;
  size_t idle_connections() const override;
  ClientStats Stats() const override;

  // For connections.
  void SendFresh(ClientCall& call, ClientPool& pool);
  // Whether the connection was taken into the pool.
  bool Keep(ClientConnection& connection);
  void RemoveIdle(ClientConnection& connection);
  void Remove(ClientConnection& connection);

  net::Loop& loop() { return loop_; }
  const ClientOptions& options() const { return options_; }
  ClientCounters& counters() { return counters_; }
  DnsCache& names() { return names_; }
  char* buffer() { return buffer_.get(); }
  size_t buffer_bytes() const { return buffer_bytes_; }
  // Heads are read one at a time, so their vectors are kept here.
  wire::H1Response& parsed() { return parsed_; }
  ResponseHead& head() { return head_; }

 private:
  struct Key {
    std::string_view host;  // of the pool
    uint16_t port;
    const net::TlsClientContext* tls;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const {
      return std::hash<std::string_view>()(key.host) * 31 + key.port;
    }
  };
  ClientPool& PoolOf(std::string_view host, uint16_t port,
                     const std::shared_ptr<net::TlsClientContext>& tls);

  net::Loop& loop_;
  const ClientOptions options_;
  const size_t buffer_bytes_;
  std::unique_ptr<char[]> buffer_;
  ClientCounters counters_;
  wire::H1Response parsed_;
  ResponseHead head_;
  std::unordered_map<Key, std::unique_ptr<ClientPool>, Hash> pools_;
  std::vector<net::Ref<ClientConnection>> connections_;
  DnsCache names_;
};

}  // namespace penstock::http
