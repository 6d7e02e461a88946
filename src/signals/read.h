// One kind of GET to one engine, again and again: with a limit of size and time for the whole
// answer, never two at once.
//
// THREADS: loop-bound. OWNS: the running call; its destruction cancels.
// COST: one string per read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/time.h"
#include "http/client.h"
#include "signals/scrape_metrics.h"

namespace penstock::signals {

class Read : public http::CallListener {
 public:
  struct Outcome {
    ReadResult result = ReadResult::kOk;
    int status = 0;      // 0: no answer
    std::string reason;  // for people; empty when kOk
    Duration took{};
  };
  struct Limits {
    size_t bytes = 0;
    Duration time{};
  };

  // `path` outlives it.
  Read(http::Client& client, std::string_view path, std::string_view accept, Limits limits);

  // Sets whom to ask, and by which TLS (null: none); a running call is cancelled.
  void Aim(std::string host, uint16_t port, std::shared_ptr<net::TlsClientContext> tls);
  // REQUIRES: !is_running().
  void Begin(Time now);
  bool is_running() const { return call_ != nullptr; }
  // Ends a call that takes too long.
  void CheckTime(Time now);

  const std::string& host() const { return host_; }
  uint16_t port() const { return port_; }
  const net::TlsClientContext* tls() const { return tls_.get(); }

 protected:
  // A piece of the body of a 200.
  virtual void OnPiece(std::string_view piece) = 0;
  // Once per Begin, never inside it; Begin may be called again in here.
  virtual void OnDone(Outcome outcome) = 0;
  virtual Time Now() const = 0;

 private:
  void OnHead(const http::ResponseHead& head) final;
  void OnBody(std::string_view piece) final;
  void OnEnd() final;
  void OnFailure(http::CallFailure failure, std::string_view message) final;
  void End(ReadResult result, std::string reason, Time now);

  http::Client& client_;
  const std::string_view path_;
  const std::string_view accept_;
  const Limits limits_;
  std::string host_;
  uint16_t port_ = 0;
  std::shared_ptr<net::TlsClientContext> tls_;
  std::string request_;
  std::unique_ptr<http::Call> call_;
  Time began_;
  int status_ = 0;
  size_t bytes_ = 0;
};

}  // namespace penstock::signals
