// An engine that costs almost nothing: canned answers and paced streams, for measuring a proxy in
// front of it. One thread, one epoll; request bodies are read and dropped.
//
//   canned_engine PORT [CHUNKS GAP_US]      POST: one JSON answer; with "?stream": CHUNKS events,
//   one every GAP_US; with "?burst": ten every GAP_US, each a chunk of its own, in one write
//
// THREADS: one. COST: about 6 us a request, 4 us a chunk.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kModels =
    R"({"object":"list","data":[{"id":"canned","object":"model","created":1,"owned_by":"bench"}]})";
constexpr std::string_view kMetrics =
    "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"canned\"} 0\n"
    "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"canned\"} 0\n"
    "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{model_name=\"canned\"} 0\n";
constexpr std::string_view kAnswer =
    R"({"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"canned","choices":[{"index":0,)"
    R"("message":{"role":"assistant","content":"A short answer."},"finish_reason":"stop"}],"usage":)"
    R"({"prompt_tokens":12,"completion_tokens":4,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":0}}})";
constexpr std::string_view kEvent =
    R"(data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"canned","choices":)"
    R"([{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]})"
    "\n\n";
constexpr std::string_view kLastEvents =
    R"(data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"canned","choices":[],)"
    R"("usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16}})"
    "\n\ndata: [DONE]\n\n";
// Streams begin at different moments, so that chunks travel alone.
constexpr uint64_t kPhases = 200;
constexpr int kBurst = 10;

std::string Whole(std::string_view type, std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: " + std::string(type) +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

std::string Chunk(std::string_view data) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", data.size());
  return size + std::string(data) + "\r\n";
}

struct Connection {
  std::string head;         // of the request that is being read
  uint64_t body_left = 0;   // bytes to drop
  std::string answer_path;  // target of the request whose body is being dropped
  int chunks_left = 0;
  int burst = 1;  // chunks sent together
  uint64_t generation = 0;
};

struct Due {
  Clock::time_point at;
  int fd;
  uint64_t generation;
  bool operator>(const Due& other) const { return at > other.at; }
};

class Engine {
 public:
  Engine(uint16_t port, int chunks, std::chrono::microseconds gap) : chunks_(chunks), gap_(gap) {
    epoll_ = epoll_create1(0);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener_, 1024) != 0) {
      std::perror("canned_engine");
      std::exit(1);
    }
    Watch(listener_);
  }

  [[noreturn]] void Run() {
    std::vector<epoll_event> events(256);
    for (;;) {
      timespec wait{};
      const bool is_due = SendDue(&wait);
      const int count = epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()),
                                     is_due ? &wait : nullptr, nullptr);
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        fd == listener_ ? Accept() : Read(fd);
      }
    }
  }

 private:
  void Watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void Accept() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      connections_[fd].generation = ++generations_;
      Watch(fd);
    }
  }

  void Close(int fd) {
    connections_.erase(fd);
    close(fd);
  }

  // Answers are far smaller than a socket's buffer: a short write means a stuck peer.
  void Send(int fd, const std::string& data) {
    if (write(fd, data.data(), data.size()) != static_cast<ssize_t>(data.size())) Close(fd);
  }

  void Read(int fd) {
    static char buffer[256 * 1024];
    const ssize_t count = read(fd, buffer, sizeof buffer);
    if (count == 0 || (count < 0 && errno != EAGAIN)) return Close(fd);
    if (count > 0) Feed(fd, std::string_view(buffer, static_cast<size_t>(count)));
  }

  void Feed(int fd, std::string_view data) {
    while (!data.empty()) {
      const auto it = connections_.find(fd);
      if (it == connections_.end()) return;
      Connection& c = it->second;
      if (c.body_left > 0) {
        const uint64_t used = std::min<uint64_t>(c.body_left, data.size());
        c.body_left -= used;
        data.remove_prefix(used);
        if (c.body_left == 0) Answer(fd, c);
        continue;
      }
      const size_t before = c.head.size();
      c.head += data;
      const size_t end = c.head.find("\r\n\r\n", before < 3 ? 0 : before - 3);
      if (end == std::string::npos) return;
      data.remove_prefix(end + 4 - before);
      c.head.resize(end + 4);
      ReadHead(c);
      if (c.body_left == 0) Answer(fd, c);
    }
  }

  static void ReadHead(Connection& c) {
    for (char& ch : c.head) ch = static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
    const size_t begin = c.head.find(' ') + 1;
    c.answer_path = c.head.substr(begin, c.head.find(' ', begin) - begin);
    const size_t length = c.head.find("\r\ncontent-length:");
    c.body_left =
        length == std::string::npos ? 0 : std::strtoull(c.head.c_str() + length + 17, nullptr, 10);
    c.head.clear();
  }

  void Answer(int fd, Connection& c) {
    static const std::string answer = Whole("application/json", kAnswer);
    static const std::string models = Whole("application/json", kModels);
    static const std::string metrics = Whole("text/plain; version=0.0.4", kMetrics);
    if (c.answer_path == "/metrics") return Send(fd, metrics);
    if (c.answer_path == "/v1/models") return Send(fd, models);
    const bool is_burst = c.answer_path.ends_with("?burst");
    if (!is_burst && !c.answer_path.ends_with("?stream")) return Send(fd, answer);
    c.chunks_left = chunks_;
    c.burst = is_burst ? kBurst : 1;
    due_.push({Clock::now() + gap_ * (streams_++ % kPhases) / kPhases, fd, c.generation});
    Send(fd,
         "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
         "chunked\r\n\r\n");
  }

  // Sends what is due; sets the time until the next, or returns false when there is none.
  bool SendDue(timespec* until_next) {
    static const std::string event = Chunk(kEvent);
    static const std::string last = Chunk(kLastEvents) + "0\r\n\r\n";
    while (!due_.empty()) {
      const Due due = due_.top();
      const auto wait = std::chrono::nanoseconds(due.at - Clock::now()).count();
      if (wait > 0) {
        *until_next = {wait / 1'000'000'000, wait % 1'000'000'000};
        return true;
      }
      due_.pop();
      const auto it = connections_.find(due.fd);
      if (it == connections_.end() || it->second.generation != due.generation) continue;
      Connection& c = it->second;
      std::string chunks;
      for (int i = 0; i < c.burst && c.chunks_left > 0; ++i) {
        chunks += --c.chunks_left > 0 ? event : last;
      }
      if (c.chunks_left > 0) due_.push({due.at + gap_, due.fd, due.generation});
      Send(due.fd, chunks);
    }
    return false;
  }

  const int chunks_;
  const std::chrono::microseconds gap_;
  int epoll_ = -1;
  int listener_ = -1;
  uint64_t generations_ = 0;
  uint64_t streams_ = 0;
  std::unordered_map<int, Connection> connections_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) {
    std::fprintf(stderr, "usage: canned_engine PORT [CHUNKS GAP_US]\n");
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  const int chunks = argc == 4 ? std::atoi(argv[2]) : 100;
  const int gap_us = argc == 4 ? std::atoi(argv[3]) : 20'000;
  Engine(static_cast<uint16_t>(std::atoi(argv[1])), chunks, std::chrono::microseconds(gap_us))
      .Run();
}
