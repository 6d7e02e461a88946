// What tests of the client need: engines that follow a script on blocking sockets, a loop on a
// thread, and a listener that remembers.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/time.h"
#include "http/client.h"
#include "http/dns_cache.h"
#include "net/loop.h"

namespace penstock::http::testing {

// Ends a test that hangs; no test waits this long otherwise.
inline constexpr seconds kPatience{60};

// The engine's end of a connection, used on the thread of its script.
class Peer {
 public:
  explicit Peer(int fd);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // A request's head, with its empty line; "" at the end of the connection.
  std::string ReadHead();
  std::string Read(size_t bytes);
  // Head and body, by its content-length.
  std::string ReadRequest();
  // Reads over what comes; returns when the connection ends, in whatever way.
  void WaitForEnd();
  // False when the connection is gone.
  bool Write(std::string_view bytes);
  void Close();
  void Reset();
  int fd() const { return fd_; }

 private:
  friend class RawServer;
  bool Fill();

  int fd_;
  std::string buffer_;
};

// Listens on a port of 127.0.0.1; each connection has its script on a thread of its own. The script
// gets the connection and its number, from 0; the connection closes when it returns.
class RawServer {
 public:
  using Script = std::function<void(Peer&, int)>;
  // With `host` and `port`, there instead.
  explicit RawServer(Script script, const char* host = "127.0.0.1", uint16_t port = 0);
  ~RawServer();
  uint16_t port() const { return port_; }
  int accepted() const;

 private:
  void Accept();

  Script script_;
  int fd_ = -1;
  uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Peer>> peers_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// A port that nobody listens on.
uint16_t UnusedPort();

// A listening socket that answers no further connection: its queue is full.
class BlackHole {
 public:
  explicit BlackHole(const char* host = "127.0.0.1", uint16_t port = 0);
  ~BlackHole();
  uint16_t port() const { return port_; }

 private:
  std::vector<int> descriptors_;
  uint16_t port_ = 0;
};

// A flag that one thread raises and another waits for.
class Signal {
 public:
  void Raise();
  void Wait();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_raised_ = false;
};

// Remembers what it is told, and does what a test wants inside each callback. The hooks run on the
// loop; everything else is for the test's thread.
class Recorder : public CallListener {
 public:
  struct Heard {
    int heads = 0;
    int status = 0;
    std::string reason;
    std::vector<std::pair<std::string, std::string>> headers;
    bool has_length = false;
    uint64_t content_length = 0;
    std::string body;
    int pieces = 0;
    int ends = 0;
    int failures = 0;
    CallFailure failure{};
    std::string message;
    bool is_over() const { return ends + failures > 0; }
  };

  std::function<void()> on_head, on_body, on_end, on_failure;

  Heard heard() const;
  // Returns what was heard when `is_enough` holds for it.
  Heard WaitFor(const std::function<bool(const Heard&)>& is_enough);
  Heard WaitForEnd();
  std::string body() const { return heard().body; }

  void OnHead(const ResponseHead& head) override;
  void OnBody(std::string_view piece) override;
  void OnEnd() override;
  void OnFailure(CallFailure failure, std::string_view message) override;

 private:
  void Change(const std::function<void(Heard&)>& change);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Heard heard_;
};

// A listener and its call, which is used on the loop only.
struct Request : Recorder {
  std::unique_ptr<Call> call;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest();
  ~ClientTest() override;

  // Replaces the client.
  void MakeClient(ClientOptions options, DnsCache::Resolve resolve = nullptr);
  void On(std::move_only_function<void()> task) { loop().RunAndWait(std::move(task)); }
  net::Loop& loop() { return loops_.at(0); }
  // A new request, sent on the loop; its hooks can be set in `prepare`. Lives as long as the test.
  Request& Send(uint16_t port, std::string head, std::vector<std::string_view> body = {},
                const CallOptions& options = {},
                const std::function<void(Request&)>& prepare = nullptr,
                std::string_view host = "127.0.0.1");
  // Sends a request that is kept by the caller. On the loop.
  void SendOnLoop(Request& request, uint16_t port, std::string head,
                  std::vector<std::string_view> body = {}, const CallOptions& options = {},
                  std::string_view host = "127.0.0.1");
  // Asks the loop again and again until `holds`.
  void Eventually(const std::function<bool()>& holds);
  ClientStats Stats() { return client_->Stats(); }

  net::LoopPool loops_{1};
  std::unique_ptr<Client> client_;
  std::list<Request> requests_;
};

std::string Get(std::string_view path = "/");
std::string Post(size_t body_bytes);
// "HTTP/1.1 200 OK" with a length.
std::string Answer(std::string_view body);

}  // namespace penstock::http::testing
