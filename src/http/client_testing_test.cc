#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "core/text.h"
#include "http/client_loop.h"
#include "http/client_testing.h"

namespace penstock::http::testing {
namespace {

sockaddr_in AddressOf(const char* host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, host, &address.sin_addr);
  return address;
}

// Returns a bound socket and sets its port.
int Bound(const char* host, uint16_t* port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = AddressOf(host, *port);
  socklen_t size = sizeof(address);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  *port = ntohs(address.sin_port);
  return fd;
}

}  // namespace

Peer::Peer(int fd) : fd_(fd) {
  const timeval patience{kPatience.count(), 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Peer::~Peer() { ::close(fd_); }

bool Peer::Fill() {
  char bytes[65536];
  const ssize_t got = ::recv(fd_, bytes, sizeof(bytes), 0);
  EXPECT_FALSE(got < 0 && errno == EAGAIN) << "the client sends nothing";
  if (got <= 0) return false;
  buffer_.append(bytes, static_cast<size_t>(got));
  return true;
}

std::string Peer::Read(size_t bytes) {
  while (buffer_.size() < bytes) {
    if (!Fill()) return {};
  }
  std::string out = buffer_.substr(0, bytes);
  buffer_.erase(0, bytes);
  return out;
}

std::string Peer::ReadHead() {
  size_t end;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!Fill()) return {};
  }
  return Read(end + 4);
}

std::string Peer::ReadRequest() {
  std::string head = ReadHead();
  const size_t at = head.find("content-length: ");
  if (at == std::string::npos) return head;
  const size_t begin = at + 16;
  const auto length =
      ParseUint(std::string_view(head).substr(begin, head.find('\r', begin) - begin));
  return head + Read(*length);
}

void Peer::WaitForEnd() {
  while (Fill()) buffer_.clear();
}

bool Peer::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void Peer::Close() { ::shutdown(fd_, SHUT_RDWR); }

void Peer::Reset() {
  const linger at_once{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  // Closes the connection, and keeps the descriptor's number for the destructor.
  sockaddr unspecified{};
  unspecified.sa_family = AF_UNSPEC;
  ::connect(fd_, &unspecified, sizeof(unspecified));
}

RawServer::RawServer(Script script, const char* host, uint16_t port)
    : script_(std::move(script)), port_(port) {
  fd_ = Bound(host, &port_);
  EXPECT_EQ(::listen(fd_, 128), 0);
  acceptor_ = std::thread([this] { Accept(); });
}

void RawServer::Accept() {
  while (true) {
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const std::lock_guard lock(mutex_);
    const int number = static_cast<int>(peers_.size());
    peers_.push_back(std::make_shared<Peer>(fd));
    threads_.emplace_back([this, peer = peers_.back(), number] {
      script_(*peer, number);
      peer->Close();
    });
  }
}

RawServer::~RawServer() {
  ::shutdown(fd_, SHUT_RDWR);
  acceptor_.join();
  ::close(fd_);
  for (const auto& peer : peers_) peer->Close();
  for (std::thread& thread : threads_) thread.join();
}

int RawServer::accepted() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(peers_.size());
}

uint16_t UnusedPort() {
  uint16_t port = 0;
  ::close(Bound("127.0.0.1", &port));
  return port;
}

BlackHole::BlackHole(const char* host, uint16_t port) : port_(port) {
  descriptors_.push_back(Bound(host, &port_));
  ::listen(descriptors_[0], 0);
  const sockaddr_in address = AddressOf(host, port_);
  // A queue of length 0 takes one connection; the second may still be answered.
  for (int i = 0; i < 3; ++i) {
    descriptors_.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    ::connect(descriptors_.back(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
}

BlackHole::~BlackHole() {
  for (const int fd : descriptors_) ::close(fd);
}

void Signal::Raise() {
  const std::lock_guard lock(mutex_);
  is_raised_ = true;
  changed_.notify_all();
}

void Signal::Wait() {
  std::unique_lock lock(mutex_);
  EXPECT_TRUE(changed_.wait_for(lock, kPatience, [this] { return is_raised_; }));
}

void Recorder::Change(const std::function<void(Heard&)>& change) {
  const std::lock_guard lock(mutex_);
  change(heard_);
  changed_.notify_all();
}

Recorder::Heard Recorder::heard() const {
  const std::lock_guard lock(mutex_);
  return heard_;
}

Recorder::Heard Recorder::WaitFor(const std::function<bool(const Heard&)>& is_enough) {
  std::unique_lock lock(mutex_);
  EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return is_enough(heard_); }))
      << "so far " << heard_.status << " " << heard_.message;
  return heard_;
}

Recorder::Heard Recorder::WaitForEnd() {
  return WaitFor([](const Heard& heard) { return heard.is_over(); });
}

// A hook runs before the change is seen, so what it does has been done when a wait returns.
void Recorder::OnHead(const ResponseHead& head) {
  if (on_head) on_head();
  Change([&head](Heard& heard) {
    ++heard.heads;
    heard.status = head.status;
    heard.reason = head.reason;
    for (const Header& h : head.headers.list) heard.headers.emplace_back(h.name, h.value);
    heard.has_length = head.has_length;
    heard.content_length = head.content_length;
  });
}

void Recorder::OnBody(std::string_view piece) {
  const std::string copy(piece);  // the hook may end what it lies in
  if (on_body) on_body();
  Change([&copy](Heard& heard) {
    heard.body += copy;
    ++heard.pieces;
  });
}

void Recorder::OnEnd() {
  if (on_end) on_end();
  Change([](Heard& heard) { ++heard.ends; });
}

void Recorder::OnFailure(CallFailure failure, std::string_view message) {
  if (on_failure) on_failure();
  Change([failure, message](Heard& heard) {
    ++heard.failures;
    heard.failure = failure;
    heard.message = message;
  });
}

ClientTest::ClientTest() {
  loops_.Start();
  MakeClient({});
}

ClientTest::~ClientTest() {
  On([this] {
    for (Request& request : requests_) request.call.reset();
    client_.reset();
  });
}

void ClientTest::MakeClient(ClientOptions options, DnsCache::Resolve resolve) {
  On([&] {
    if (resolve) {
      client_ = std::make_unique<ClientLoop>(loop(), options, std::move(resolve));
    } else {
      client_ = Client::Create(loop(), options);
    }
  });
}

Request& ClientTest::Send(uint16_t port, std::string head, std::vector<std::string_view> body,
                          const CallOptions& options, const std::function<void(Request&)>& prepare,
                          std::string_view host) {
  Request& request = requests_.emplace_back();
  if (prepare) prepare(request);
  On([&] { SendOnLoop(request, port, std::move(head), std::move(body), options, host); });
  return request;
}

void ClientTest::SendOnLoop(Request& request, uint16_t port, std::string head,
                            std::vector<std::string_view> body, const CallOptions& options,
                            std::string_view host) {
  const auto said = [&request] {
    const Recorder::Heard heard = request.heard();
    return heard.heads + heard.pieces + heard.ends + heard.failures;
  };
  const int before = said();
  request.call = client_->Send(host, port, std::move(head), std::move(body), options, request);
  EXPECT_EQ(said(), before) << "a callback inside Send";
}

void ClientTest::Eventually(const std::function<bool()>& holds) {
  const auto limit = std::chrono::steady_clock::now() + kPatience;
  bool is_so = false;
  while (!is_so) {
    On([&] { is_so = holds(); });
    if (std::chrono::steady_clock::now() > limit) return ADD_FAILURE() << "it does not happen";
    std::this_thread::yield();
  }
}

std::string Get(std::string_view path) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nhost: engine\r\n\r\n";
}

std::string Post(size_t body_bytes) {
  return "POST /v1 HTTP/1.1\r\nhost: engine\r\ncontent-length: " + std::to_string(body_bytes) +
         "\r\n\r\n";
}

std::string Answer(std::string_view body) {
  return "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

}  // namespace penstock::http::testing
