// Load for measuring a proxy: a fixed number of requests over a fixed number of connections, each
// connection asking again as soon as it has its answer. Prints one JSON line: what was answered,
// and the events seen in streams.
//
//   gateway_load PORT CONNECTIONS REQUESTS BODY_BYTES [stream|burst]
//
// Every body is a chat whose prompt begins with the request's number: no two have a prefix in
// common.
//
// THREADS: one.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kWords = "every engine holds some blocks of what was asked before and ";
constexpr size_t kNumberDigits = 10;
constexpr int kStallMs = 20'000;

struct Connection {
  int fd = -1;
  std::string request;
  size_t number_at = 0;  // where the number stands in `request`
  size_t sent = 0;
  std::string head;
  uint64_t body_left = 0;
  bool in_body = false;
  bool chunked = false;
  char tail[5] = {};  // last bytes of a chunked body
  bool busy = false;
};

struct Totals {
  uint64_t answered = 0, events = 0, errors = 0, bytes = 0;
};

class Load {
 public:
  // `stream` is the query that asks the engine for a kind of stream, or "".
  Load(uint16_t port, size_t connections, uint64_t requests, size_t body_bytes,
       std::string_view stream)
      : port_(port), left_(requests), wanted_(requests), connections_(connections) {
    epoll_ = epoll_create1(0);
    for (size_t i = 0; i < connections; ++i) {
      BuildRequest(connections_[i], body_bytes, stream);
      Connect(i);
    }
  }

  Totals Run() {
    for (size_t i = 0; i < connections_.size(); ++i) Next(i);
    std::vector<epoll_event> events(256);
    while (totals_.answered + totals_.errors < wanted_) {
      const int count =
          epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), kStallMs);
      if (count <= 0) {
        totals_.errors = wanted_ - totals_.answered;  // nothing moves any more
        break;
      }
      for (int e = 0; e < count; ++e) {
        const size_t i = events[e].data.u64;
        if (events[e].events & EPOLLOUT) Write(i);
        if (events[e].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) Read(i);
      }
    }
    return totals_;
  }

 private:
  static void BuildRequest(Connection& c, size_t body_bytes, std::string_view stream) {
    std::string body = R"({"model":"canned","max_tokens":100,)";
    if (!stream.empty()) body += R"("stream":true,)";
    body += R"("messages":[{"role":"user","content":")";
    const size_t number_in_body = body.size();
    body.append(kNumberDigits, '0').push_back(' ');
    const std::string_view end = R"("}]})";
    while (body.size() + end.size() < body_bytes) {
      body += kWords.substr(0, std::min(kWords.size(), body_bytes - body.size() - end.size()));
    }
    body += end;
    c.request =
        std::string("POST /v1/chat/completions") + (stream.empty() ? "" : "?") +
        std::string(stream) +
        " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nUser-Agent: bench\r\n"
        "Accept: */*\r\nAuthorization: Bearer none\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n";
    c.number_at = c.request.size() + number_in_body;
    c.request += body;
  }

  void Connect(size_t i) {
    Connection& c = connections_[i];
    c.fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    if (connect(c.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      std::perror("gateway_load");
      std::exit(1);
    }
    const int on = 1;
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Arm(i, EPOLLIN, EPOLL_CTL_ADD);
  }

  void Arm(size_t i, uint32_t what, int operation) {
    epoll_event event{};
    event.events = what;
    event.data.u64 = i;
    epoll_ctl(epoll_, operation, connections_[i].fd, &event);
  }

  void Next(size_t i) {
    Connection& c = connections_[i];
    c.busy = left_ > 0;
    if (!c.busy) return;
    uint64_t number = left_--;
    for (size_t digit = kNumberDigits; digit-- > 0; number /= 10) {
      c.request[c.number_at + digit] = static_cast<char>('0' + number % 10);
    }
    c.sent = 0;
    c.head.clear();
    c.in_body = c.chunked = false;
    std::memset(c.tail, 0, sizeof c.tail);
    Write(i);
  }

  void Write(size_t i) {
    Connection& c = connections_[i];
    const ssize_t count =
        send(c.fd, c.request.data() + c.sent, c.request.size() - c.sent, MSG_DONTWAIT);
    const bool was_whole = c.sent == 0;
    if (count > 0) c.sent += static_cast<size_t>(count);
    if (c.sent < c.request.size()) {
      Arm(i, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    } else if (!was_whole || count < static_cast<ssize_t>(c.request.size())) {
      Arm(i, EPOLLIN, EPOLL_CTL_MOD);
    }
  }

  void Fail(size_t i) {
    Connection& c = connections_[i];
    close(c.fd);
    if (c.busy) ++totals_.errors;
    Connect(i);
    Next(i);
  }

  void Read(size_t i) {
    static char buffer[256 * 1024];
    Connection& c = connections_[i];
    const ssize_t count = recv(c.fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return Fail(i);
    std::string_view data(buffer, static_cast<size_t>(count));
    totals_.bytes += data.size();
    if (!c.in_body) {
      c.head += data;
      const size_t end = c.head.find("\r\n\r\n");
      if (end == std::string::npos) return;
      data.remove_prefix(data.size() - (c.head.size() - end - 4));
      if (!ReadHead(c, end)) return Fail(i);
    }
    if (Body(c, data)) {
      ++totals_.answered;
      Next(i);
    }
  }

  static bool ReadHead(Connection& c, size_t end) {
    c.head.resize(end);
    for (char& ch : c.head) ch = static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
    if (!c.head.starts_with("http/1.1 200")) {
      std::fprintf(stderr, "gateway_load: answer: %s\n",
                   c.head.substr(0, c.head.find('\r')).c_str());
      return false;
    }
    const size_t length = c.head.find("\r\ncontent-length:");
    c.chunked = length == std::string::npos;
    c.body_left = c.chunked ? 0 : std::strtoull(c.head.c_str() + length + 17, nullptr, 10);
    c.in_body = true;
    return true;
  }

  // True when the answer is complete.
  bool Body(Connection& c, std::string_view data) {
    if (!c.chunked) {
      c.body_left -= std::min<uint64_t>(c.body_left, data.size());
      return c.body_left == 0;
    }
    for (size_t at = data.find("data: "); at != std::string_view::npos;
         at = data.find("data: ", at + 6)) {
      ++totals_.events;
    }
    if (data.size() >= sizeof c.tail) {
      std::memcpy(c.tail, data.data() + data.size() - sizeof c.tail, sizeof c.tail);
    } else {
      std::memmove(c.tail, c.tail + data.size(), sizeof c.tail - data.size());
      std::memcpy(c.tail + sizeof c.tail - data.size(), data.data(), data.size());
    }
    return std::string_view(c.tail, sizeof c.tail) == "0\r\n\r\n";
  }

  const uint16_t port_;
  uint64_t left_;
  const uint64_t wanted_;
  int epoll_ = -1;
  std::vector<Connection> connections_;
  Totals totals_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::fprintf(stderr,
                 "usage: gateway_load PORT CONNECTIONS REQUESTS BODY_BYTES [stream|burst]\n");
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  Load load(static_cast<uint16_t>(std::atoi(argv[1])), std::strtoul(argv[2], nullptr, 10),
            std::strtoull(argv[3], nullptr, 10), std::strtoul(argv[4], nullptr, 10),
            argc == 6 ? argv[5] : "");
  const auto began = Clock::now();
  const Totals totals = load.Run();
  std::printf(
      "{\"answered\": %llu, \"events\": %llu, \"errors\": %llu, \"bytes\": %llu, \"seconds\": "
      "%.3f}\n",
      static_cast<unsigned long long>(totals.answered),
      static_cast<unsigned long long>(totals.events),
      static_cast<unsigned long long>(totals.errors), static_cast<unsigned long long>(totals.bytes),
      std::chrono::duration<double>(Clock::now() - began).count());
  return totals.errors == 0 ? 0 : 1;
}
