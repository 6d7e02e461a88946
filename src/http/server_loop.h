// What one loop of an HTTP server shares beside its connections: its handler, its counters.
//
// THREADS: loop-bound; counters are read from any thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "core/byte_budget.h"
#include "http/server.h"
#include "http/server_connection.h"
#include "net/server.h"

namespace penstock::http {

struct ServerCounters {
  std::atomic<uint64_t> requests{0}, bad_requests{0}, timeouts{0}, too_large{0}, clients_gone{0},
      dropped_headers{0}, overloaded{0};
};

class ServerLoop final : public net::ServerLoop {
 public:
  static constexpr size_t kScratchBytes = 64 * 1024;
  static constexpr size_t kMaxSpareBytes = 1 << 20;

  // `budget` is shared by the loops of the server.
  ServerLoop(net::Loop& loop, const ServerOptions& options, ByteBudget& budget,
             std::unique_ptr<Handler> handler);
  ~ServerLoop() override { Close(); }

  // The body and head of an error that the server itself answers with.
  std::string RenderError(int status, std::string_view code, std::string_view message) const;
  // "Tue, 15 Nov 1994 08:12:31 GMT", of this second.
  std::string_view Date();
  char* scratch() { return scratch_.get(); }
  ByteBudget& budget() { return budget_; }
  // A large body buffer that is reused: at most one is kept, outside of the budget.
  std::string& spare_body() { return spare_body_; }

  const ServerOptions& options() const { return options_; }
  Handler& handler() { return *handler_; }
  ServerCounters& counters() { return counters_; }
  const ServerCounters& counters() const { return counters_; }

 private:
  net::Ref<net::ServedStream> MakeStream(const net::Address& peer) override;
  void ExplainRefusal(int fd) override;

  const ServerOptions& options_;
  ByteBudget& budget_;
  std::unique_ptr<Handler> handler_;
  ServerCounters counters_;
  std::unique_ptr<char[]> scratch_;
  std::string spare_body_;
  int64_t date_second_ = -1;
  char date_[32] = {};
};

}  // namespace penstock::http
