// What one loop of a server shares: its connections, its handler, its counters.
//
// THREADS: loop-bound; counters are read from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/byte_budget.h"
#include "http/server.h"
#include "http/server_connection.h"
#include "net/listener.h"

namespace penstock::http {

struct ServerCounters {
  std::atomic<uint64_t> connections_accepted{0}, connections_open{0}, requests{0}, bad_requests{0},
      timeouts{0}, too_large{0}, clients_gone{0}, refused_connections{0}, dropped_headers{0},
      overloaded{0};
};

class ServerLoop {
 public:
  static constexpr size_t kScratchBytes = 64 * 1024;
  static constexpr size_t kMaxSpareBytes = 1 << 20;

  // `budget` is shared by the loops of the server.
  ServerLoop(net::Loop& loop, const ServerOptions& options, ByteBudget& budget,
             std::unique_ptr<Handler> handler);
  ~ServerLoop();
  ServerLoop(const ServerLoop&) = delete;
  ServerLoop& operator=(const ServerLoop&) = delete;

  void Listen(int fd);
  void Drain(Duration limit, std::function<void()> done);
  // Closes everything, at once.
  void Close();

  void Remove(ServerConnection& connection);
  // The body and head of an error that the server itself answers with.
  std::string RenderError(int status, std::string_view code, std::string_view message) const;
  // "Tue, 15 Nov 1994 08:12:31 GMT", of this second.
  std::string_view Date();
  char* scratch() { return scratch_.get(); }
  ByteBudget& budget() { return budget_; }
  // A large body buffer that is reused: at most one is kept, outside of the budget.
  std::string& spare_body() { return spare_body_; }

  net::Loop& loop() { return loop_; }
  const ServerOptions& options() const { return options_; }
  Handler& handler() { return *handler_; }
  ServerCounters& counters() { return counters_; }
  const ServerCounters& counters() const { return counters_; }

 private:
  void OnAccept(int fd, const net::Address& peer);
  void Refuse(int fd);
  void ReportDrained();

  net::Loop& loop_;
  const ServerOptions& options_;
  ByteBudget& budget_;
  std::unique_ptr<Handler> handler_;
  std::unique_ptr<net::Listener> listener_;
  std::vector<net::Ref<ServerConnection>> connections_;
  ServerCounters counters_;
  std::unique_ptr<char[]> scratch_;
  std::string spare_body_;
  bool is_draining_ = false;
  net::Timer drain_limit_;
  std::function<void()> on_drained_;
  int64_t date_second_ = -1;
  char date_[32] = {};
};

}  // namespace penstock::http
