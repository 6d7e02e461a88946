// Engines that only answer /metrics, with a page as vLLM shows it, and /v1/models: what a scraper
// is measured with. Listens on 127.0.0.1, 127.0.0.2, ... on one port, so that each is an address of
// its own. One thread, one epoll.
//
//   metrics_engines PORT COUNT      COUNT up to 250
//
// THREADS: one. COST: about 15 us a page of 50 KB.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "vllm_page.h"

namespace {

constexpr int kPages = 64;  // different ones, in turn
constexpr int kMaxEngines = 250;
constexpr std::string_view kModels =
    R"({"object":"list","data":[{"id":"canned","object":"model","created":1,"owned_by":"bench"}]})";

std::string Whole(std::string_view type, std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: " + std::string(type) +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

class Engines {
 public:
  Engines(uint16_t port, int count) {
    epoll_ = epoll_create1(0);
    for (int i = 1; i <= count; ++i) Listen(INADDR_LOOPBACK - 1 + static_cast<uint32_t>(i), port);
    for (int i = 0; i < kPages; ++i) {
      pages_.push_back(Whole("text/plain; version=0.0.4", penstock::bench::VllmPage::Make(i)));
    }
    models_ = Whole("application/json", kModels);
  }

  [[noreturn]] void Run() {
    std::vector<epoll_event> events(256);
    for (;;) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        listeners_.contains(fd) ? Accept(fd) : Read(fd);
      }
    }
  }

 private:
  void Listen(uint32_t address, uint16_t port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(address);
    name.sin_port = htons(port);
    if (bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 || listen(fd, 64) != 0) {
      std::perror("metrics_engines");
      std::exit(1);
    }
    listeners_.insert(fd);
    Watch(fd);
  }

  void Watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void Accept(int listener) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd < 0) return;
    const int on = 1;
    const int buffer_bytes = 512 * 1024;  // a page must fit
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    unread_[fd].clear();
    Watch(fd);
  }

  void Close(int fd) {
    unread_.erase(fd);
    close(fd);
  }

  void Read(int fd) {
    char buffer[4096];
    const ssize_t count = read(fd, buffer, sizeof buffer);
    if (count <= 0) return Close(fd);
    std::string& unread = unread_[fd];
    unread.append(buffer, static_cast<size_t>(count));
    if (!unread.ends_with("\r\n\r\n")) return;
    const bool is_metrics = unread.starts_with("GET /metrics ");
    unread.clear();
    const std::string& answer = is_metrics ? pages_[served_++ % kPages] : models_;
    if (write(fd, answer.data(), answer.size()) != static_cast<ssize_t>(answer.size())) Close(fd);
  }

  int epoll_ = -1;
  uint64_t served_ = 0;
  std::vector<std::string> pages_;
  std::string models_;
  std::unordered_set<int> listeners_;
  std::unordered_map<int, std::string> unread_;
};

}  // namespace

int main(int argc, char** argv) {
  const int count = argc == 3 ? std::atoi(argv[2]) : 0;
  if (count < 1 || count > kMaxEngines) {
    std::fprintf(stderr, "usage: metrics_engines PORT COUNT      COUNT from 1 to %d\n",
                 kMaxEngines);
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  Engines(static_cast<uint16_t>(std::atoi(argv[1])), count).Run();
}
