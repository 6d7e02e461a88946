// An engine for tests that answers what it is told to, byte by byte, on a thread of its own.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace penstock::signals {

// Waits for a condition; the deadline only ends a test that would hang.
inline bool Eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

struct ScriptedAnswer {
  enum class Then { kKeep, kClose };
  std::string bytes;  // "": never an answer
  Then then = Then::kKeep;
};

inline ScriptedAnswer HttpAnswer(int status, std::string_view body) {
  return {"HTTP/1.1 " + std::to_string(status) + " Status\r\nContent-Length: " +
          std::to_string(body.size()) + "\r\n\r\n" + std::string(body)};
}

inline ScriptedAnswer VllmAnswer(int waiting) {
  return HttpAnswer(200, "vllm:num_requests_waiting{engine=\"0\"} " + std::to_string(waiting) +
                             "\nvllm:num_requests_running 1\nvllm:kv_cache_usage_perc 0.5\n");
}

inline ScriptedAnswer ModelsAnswer(std::string_view id) {
  return HttpAnswer(200, "{\"data\":[{\"id\":\"" + std::string(id) + "\",\"parent\":null}]}");
}

// THREADS: all methods from any thread.
class ScriptedEngine {
 public:
  ScriptedEngine() {
    answers_["/metrics"] = VllmAnswer(3);
    answers_["/v1/models"] = ModelsAnswer("m");
    stop_ = eventfd(0, EFD_CLOEXEC);
    Listen();
  }
  ~ScriptedEngine() {
    Stop();
    close(stop_);
  }
  ScriptedEngine(const ScriptedEngine&) = delete;
  ScriptedEngine& operator=(const ScriptedEngine&) = delete;

  // Listens (again, on the same port).
  void Listen() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    socklen_t size = sizeof address;
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 64) != 0) {
      std::abort();
    }
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, fd] { Run(fd); });
  }

  // Closes everything.
  void Stop() {
    if (!thread_.joinable()) return;
    const uint64_t one = 1;
    if (write(stop_, &one, sizeof one) != sizeof one) std::abort();
    thread_.join();
  }

  uint16_t port() const { return port_; }
  void Answer(const std::string& path, ScriptedAnswer answer) {
    std::lock_guard lock(mutex_);
    answers_[path] = std::move(answer);
  }
  int requests(const std::string& path) const {
    std::lock_guard lock(mutex_);
    const auto found = requests_.find(path);
    return found == requests_.end() ? 0 : found->second;
  }
  int connections() const {
    std::lock_guard lock(mutex_);
    return connections_;
  }
  // Requests that came while another of the same path was not answered.
  int overlaps() const {
    std::lock_guard lock(mutex_);
    return overlaps_;
  }
  std::string last_head() const {
    std::lock_guard lock(mutex_);
    return last_head_;
  }

 private:
  struct Peer {
    int fd;
    std::string unread;
    std::string unanswered;  // path
  };

  void Run(int listener) {
    std::vector<Peer> peers;
    for (;;) {
      std::vector<pollfd> fds = {{stop_, POLLIN, 0}, {listener, POLLIN, 0}};
      for (const Peer& peer : peers) fds.push_back({peer.fd, POLLIN, 0});
      poll(fds.data(), fds.size(), -1);
      if (fds[0].revents != 0) break;
      for (size_t i = peers.size(); i-- > 0;) {
        if (fds[i + 2].revents != 0 && !Serve(peers[i], peers)) {
          close(peers[i].fd);
          peers.erase(peers.begin() + static_cast<ptrdiff_t>(i));
        }
      }
      if (fds[1].revents != 0) {
        peers.push_back({accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), {}, {}});
        std::lock_guard lock(mutex_);
        ++connections_;
      }
    }
    for (const Peer& peer : peers) close(peer.fd);
    close(listener);
    uint64_t count = 0;
    if (read(stop_, &count, sizeof count) != sizeof count) std::abort();
  }

  // Returns whether the connection stays.
  bool Serve(Peer& peer, const std::vector<Peer>& peers) {
    char buffer[4096];
    const ssize_t count = recv(peer.fd, buffer, sizeof buffer, 0);
    if (count <= 0) return false;
    peer.unread.append(buffer, static_cast<size_t>(count));
    const size_t end = peer.unread.find("\r\n\r\n");
    if (end == std::string::npos) return true;
    const size_t space = peer.unread.find(' ');
    const std::string path =
        peer.unread.substr(space + 1, peer.unread.find(' ', space + 1) - space - 1);
    ScriptedAnswer answer;
    {
      std::lock_guard lock(mutex_);
      ++requests_[path];
      last_head_ = peer.unread.substr(0, end + 4);
      overlaps_ += static_cast<int>(std::count_if(
          peers.begin(), peers.end(), [&](const Peer& p) { return p.unanswered == path; }));
      answer = answers_[path];
    }
    peer.unread.erase(0, end + 4);
    if (answer.bytes.empty()) {
      peer.unanswered = path;
      return true;
    }
    size_t sent = 0;
    while (sent < answer.bytes.size()) {
      const ssize_t n =
          send(peer.fd, answer.bytes.data() + sent, answer.bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return answer.then == ScriptedAnswer::Then::kKeep;
  }

  mutable std::mutex mutex_;
  std::map<std::string, ScriptedAnswer> answers_;
  std::map<std::string, int> requests_;
  int connections_ = 0;
  int overlaps_ = 0;
  std::string last_head_;
  uint16_t port_ = 0;
  int stop_ = -1;
  std::thread thread_;
};

}  // namespace penstock::signals
