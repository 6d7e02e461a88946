// What the tests of this module share: a server over a function, and a client on a raw socket.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "http/server.h"
#include "net/loop.h"

namespace penstock::http::testing {

// Nothing is awaited longer; reached only when a test fails.
constexpr auto kPatience = std::chrono::seconds(60);

// What happened on the loop, told to the test's thread.
class Events {
 public:
  void Add(std::string event) {
    const std::lock_guard lock(mutex_);
    list_.push_back(std::move(event));
    changed_.notify_all();
  }
  // Until `event` has happened `times` times.
  [[nodiscard]] bool Await(std::string_view event, long times = 1) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(
        lock, kPatience, [&] { return std::count(list_.begin(), list_.end(), event) >= times; });
  }
  long Count(std::string_view event) {
    const std::lock_guard lock(mutex_);
    return std::count(list_.begin(), list_.end(), event);
  }
  std::vector<std::string> all() {
    const std::lock_guard lock(mutex_);
    return list_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> list_;
};

// Tells of its life as "gone", "drained" and "destroyed".
class Probe : public ExchangeListener {
 public:
  explicit Probe(Events& events, std::function<void()> on_drained = nullptr)
      : events_(events), on_drained_(std::move(on_drained)) {}
  ~Probe() override { events_.Add("destroyed"); }
  void OnClientGone() override { events_.Add("gone"); }
  void OnDrained() override {
    events_.Add("drained");
    if (on_drained_) on_drained_();
  }

 private:
  Events& events_;
  std::function<void()> on_drained_;
};

using HandleFunction = std::function<void(Exchange&)>;

class FunctionHandler : public Handler {
 public:
  explicit FunctionHandler(HandleFunction handle) : handle_(std::move(handle)) {}
  void Handle(Exchange& exchange) override { handle_(exchange); }

 private:
  HandleFunction handle_;
};

class TestServer {
 public:
  explicit TestServer(HandleFunction handle, ServerOptions options = {}, size_t loops = 1)
      : pool_(loops) {
    pool_.Start();
    auto server = Server::Create(pool_, "127.0.0.1", 0, std::move(options), [&handle](net::Loop&) {
      return std::make_unique<FunctionHandler>(handle);
    });
    EXPECT_TRUE(server.has_value());
    server_ = std::move(*server);
  }
  ~TestServer() {
    server_.reset();
    pool_.StopAndJoin();
  }

  Server& operator*() { return *server_; }
  Server* operator->() { return server_.get(); }
  net::Loop& loop() { return pool_.at(0); }
  void OnLoop(std::function<void()> task) { loop().RunAndWait(std::move(task)); }
  void Close() { server_.reset(); }

 private:
  net::LoopPool pool_;
  std::unique_ptr<Server> server_;
};

struct Response {
  int status = 0;
  std::map<std::string, std::string> headers;
  std::string body;
  std::vector<std::string> chunks;
  bool complete = false;
};

// Blocking, on the test's thread.
class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer > 0)
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const timeval patience{std::chrono::seconds(kPatience).count(), 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    is_connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  Client(Client&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}
  ~Client() { Close(); }

  bool is_connected() const { return is_connected_; }
  // Whether everything was taken.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // Until the server's socket has all that was sent.
  void AwaitDelivery() {
    int unacknowledged = 1;
    while (::ioctl(fd_, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 0)
      std::this_thread::yield();
  }
  void FinishSending() { ::shutdown(fd_, SHUT_WR); }
  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void Reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    Close();
  }

  // False at the end of the stream and after an error, whose errno is then in last_error().
  bool ReadMore() {
    char bytes[64 * 1024];
    const ssize_t got = ::recv(fd_, bytes, sizeof(bytes), 0);
    last_error_ = got < 0 ? errno : 0;
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(got));
    return true;
  }
  int last_error() const { return last_error_; }
  // The next `bytes`, or fewer at the end.
  std::string Read(size_t bytes) {
    while (buffer_.size() < bytes && ReadMore()) {
    }
    std::string taken = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return taken;
  }
  std::string ReadUntil(std::string_view mark) {
    size_t at;
    while ((at = buffer_.find(mark)) == std::string::npos) {
      if (!ReadMore()) return std::exchange(buffer_, "");
    }
    std::string taken = buffer_.substr(0, at + mark.size());
    buffer_.erase(0, taken.size());
    return taken;
  }
  std::string ReadAll() {
    while (ReadMore()) {
    }
    return std::exchange(buffer_, "");
  }
  // Whether the server ends the connection, with nothing more to read.
  bool AtEnd() { return buffer_.empty() && !ReadMore() && last_error_ == 0; }

  Response ReadHead() {
    Response response;
    std::string head = ReadUntil("\r\n\r\n");
    if (!head.starts_with("HTTP/1.1 ") || head.size() < 12) return response;
    response.status = std::stoi(head.substr(9, 3));
    size_t at = head.find("\r\n") + 2;
    while (at + 2 < head.size()) {
      const size_t end = head.find("\r\n", at);
      const size_t colon = head.find(": ", at);
      response.headers[head.substr(at, colon - at)] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    return response;
  }
  // Nothing when the connection ends inside; "" for the last one.
  std::optional<std::string> ReadChunk() {
    const std::string line = ReadUntil("\r\n");
    if (!line.ends_with("\r\n")) return std::nullopt;
    const size_t size = std::stoul(line, nullptr, 16);
    std::string chunk = Read(size + 2);
    if (chunk.size() != size + 2) return std::nullopt;
    chunk.resize(size);
    return chunk;
  }
  Response ReadResponse(bool is_head = false) {
    Response response = ReadHead();
    if (is_head || response.status == 204 || response.status == 304) {
      response.complete = true;
    } else if (response.headers.contains("content-length")) {
      const size_t length = std::stoul(response.headers["content-length"]);
      response.body = Read(length);
      response.complete = response.body.size() == length;
    } else if (response.headers.contains("transfer-encoding")) {
      while (auto chunk = ReadChunk()) {
        response.complete = chunk->empty();
        if (response.complete) break;
        response.body += *chunk;
        response.chunks.push_back(std::move(*chunk));
      }
    } else {
      response.body = ReadAll();
      response.complete = response.status != 0 && last_error_ == 0;
    }
    return response;
  }
  Response Ask(std::string_view request) {
    Send(request);
    return ReadResponse();
  }

 private:
  int fd_ = -1;
  bool is_connected_ = false;
  int last_error_ = 0;
  std::string buffer_;
};

inline std::string Get(std::string_view target, std::string_view headers = "") {
  std::string request = "GET ";
  request.append(target).append(" HTTP/1.1\r\nhost: test\r\n").append(headers).append("\r\n");
  return request;
}

inline std::string Post(std::string_view target, std::string_view body,
                        std::string_view headers = "") {
  std::string request = "POST ";
  request.append(target).append(" HTTP/1.1\r\nhost: test\r\ncontent-length: ");
  request.append(std::to_string(body.size())).append("\r\n").append(headers).append("\r\n");
  return request.append(body);
}

// As chunks of `size` bytes.
inline std::string Chunked(std::string_view body, size_t size) {
  std::string out;
  char line[32];
  for (size_t at = 0; at < body.size(); at += size) {
    const std::string_view piece = body.substr(at, size);
    std::snprintf(line, sizeof(line), "%zx\r\n", piece.size());
    out.append(line).append(piece).append("\r\n");
  }
  return out + "0\r\n\r\n";
}

// Bytes that differ from place to place.
inline std::string Pattern(size_t bytes) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>('!' + (i * 7 + i / 251) % 90);
  return text;
}

}  // namespace penstock::http::testing
