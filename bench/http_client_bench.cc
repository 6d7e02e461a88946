// What the HTTP client costs the thread that it runs on: one small request and its answer, and one
// lone chunk of a stream. The engine is a thread with blocking sockets; its time does not count.
//
//   cmake --preset bench && cmake --build build/bench --target http_client_bench
//   build/bench/bin/http_client_bench
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "http/client.h"
#include "net/loop.h"

namespace penstock::http {
namespace {

double ThreadSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Answers each request of one connection.
class Engine {
 public:
  explicit Engine(std::function<void(int fd)> answer) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listener_, 1);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this, answer = std::move(answer)] {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      char bytes[8192];
      while (::recv(fd, bytes, sizeof(bytes), 0) > 0) answer(fd);
      ::close(fd);
    });
  }
  // REQUIRES: its client is gone.
  ~Engine() {
    thread_.join();
    ::close(listener_);
  }

  uint16_t port = 0;

 private:
  int listener_;
  std::thread thread_;
};

void Say(int fd, std::string_view text) {
  (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
}

const std::string kBody(400, 'x');
const std::string kHead =
    "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\naccept: */*\r\n"
    "content-type: application/json\r\nx-request-id: 0123456789abcdef\r\ncontent-length: 400\r\n"
    "\r\n";

// Sends one request after the other until it has heard `count` pieces.
class Load : public CallListener {
 public:
  Load(net::Loop& loop, Client& client, uint16_t port, int64_t count)
      : loop_(loop), client_(client), port_(port), left_(count) {}
  void SendNext() { call_ = client_.Send("127.0.0.1", port_, kHead, {kBody}, {}, *this); }
  void OnHead(const ResponseHead&) override {}
  void OnBody(std::string_view piece) override {
    benchmark::DoNotOptimize(piece.data());
    --left_;
  }
  void OnEnd() override {
    if (left_ <= 0) return loop_.Stop();
    SendNext();
  }
  void OnFailure(CallFailure, std::string_view) override {
    failed = true;
    loop_.Stop();
  }
  bool failed = false;
  int64_t left() const { return left_; }

 private:
  net::Loop& loop_;
  Client& client_;
  const uint16_t port_;
  int64_t left_;
  std::unique_ptr<Call> call_;
};

// Sets the time of an iteration to the CPU of one piece.
void Measure(benchmark::State& state, int64_t pieces, const std::function<void(int)>& answer) {
  for (auto _ : state) {
    Engine engine(answer);
    net::Loop loop;
    const auto client = Client::Create(loop);
    Load load(loop, *client, engine.port, pieces);
    load.SendNext();
    const double before = ThreadSeconds();
    loop.Run();
    const auto heard = static_cast<double>(pieces - load.left());
    state.SetIterationTime((ThreadSeconds() - before) / heard);
    if (load.failed) state.SkipWithError("a request failed");
  }
}

void BM_SmallRequest(benchmark::State& state) {
  const std::string answer =
      "HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\nserver: uvicorn\r\n"
      "content-length: 300\r\ncontent-type: application/json\r\n\r\n" +
      std::string(300, 'y');
  Measure(state, 20'000, [&](int fd) { Say(fd, answer); });
}
BENCHMARK(BM_SmallRequest)->UseManualTime()->Iterations(5)->Unit(benchmark::kMicrosecond);

void BM_LoneChunk(benchmark::State& state) {
  constexpr int kChunks = 20'000;
  const std::string chunk = "fa\r\n" + std::string(250, 'z') + "\r\n";
  Measure(state, kChunks, [&](int fd) {
    Say(fd, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    for (int i = 0; i < kChunks; ++i) {
      Say(fd, chunk);
      // Without sleeping, which would be coarser than the gap.
      const auto next = std::chrono::steady_clock::now() + std::chrono::microseconds(40);
      while (std::chrono::steady_clock::now() < next) {
      }
    }
    Say(fd, "0\r\n\r\n");
  });
}
BENCHMARK(BM_LoneChunk)->UseManualTime()->Iterations(3)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace penstock::http
