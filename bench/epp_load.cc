// Envoy's side of ext_proc, as a load: exchanges on HTTP/2 connections, each stream as Envoy would
// speak it. What is answered is counted, not read, so the same load drives a gRPC server that gives
// every message back.
//
//   epp_load PORT CONNECTIONS STREAMS EXCHANGES BODY_BYTES CHUNKS penstock|echo
//
// STREAMS run at a time on each connection. An exchange: request headers, the body in pieces of 16
// KiB, the answer's headers, and CHUNKS pieces of it, each sent when the one before has come back.
// Prints {"exchanges":N,"messages":N,"seconds":S,"errors":N}.
//
// THREADS: one. SOURCE: HTTP/2 by nghttp2; ext_proc's field numbers by extproc/testing.h.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "extproc/testing.h"

namespace {

namespace ext = penstock::extproc::testing;

constexpr size_t kPiece = 16 << 10;
constexpr size_t kWriteBytes = 256 << 10;
constexpr size_t kAnswerPiece = 62'000;  // of the picker's answers

std::string Framed(const std::string& message) {
  std::string out(5, '\0');
  for (int i = 0; i < 4; ++i) out[4 - i] = static_cast<char>(message.size() >> (8 * i));
  return out + message;
}

struct Plan {
  uint64_t exchanges = 0;
  size_t chunks = 0;
  size_t body_bytes = 0;
  bool is_echo = false;
  // Each with the number of messages that answer it.
  std::string request_head, answer_head, chunk, last_chunk;
  std::vector<std::string> body;
  size_t request_answers = 0;
};

Plan MakePlan(uint64_t exchanges, size_t body_bytes, size_t chunks, bool is_echo) {
  Plan plan{exchanges, chunks, body_bytes, is_echo, {}, {}, {}, {}, {}, 0};
  const ext::Pairs head = {
      {":authority", "gateway.example"},
      {":path", "/v1/completions"},
      {":method", "POST"},
      {":scheme", "https"},
      {"user-agent", "OpenAI/Python 1.99.0"},
      {"accept", "application/json"},
      {"accept-encoding", "gzip, deflate"},
      {"content-type", "application/json"},
      {"authorization", "Bearer 0123456789012345678901234567890123456789"},
      {"x-stainless-lang", "python"},
      {"x-stainless-package-version", "1.99.0"},
      {"x-stainless-os", "Linux"},
      {"x-stainless-arch", "x64"},
      {"x-stainless-runtime", "CPython"},
      {"x-stainless-retry-count", "0"},
      {"x-forwarded-for", "10.1.2.3"},
      {"x-forwarded-proto", "https"},
      {"x-envoy-external-address", "10.1.2.3"},
      {"x-request-id", "8f7a6f0e-6a0f-4d52-9d9e-1e5a0c8e9a11"},
      {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}};
  plan.request_head = Framed(ext::RequestHeaders().Headers(head).Modes(4, 4).Message());
  const std::string begin = R"({"model":"canned","stream":true,"max_tokens":100,"prompt":")";
  const size_t fill = body_bytes > begin.size() + 2 ? body_bytes - begin.size() - 2 : 0;
  std::string body = begin;
  for (size_t i = 0; i < fill; ++i) body.push_back(static_cast<char>('a' + (i * 7 + i / 64) % 26));
  body += "\"}";
  for (size_t at = 0; at < body.size(); at += kPiece) {
    plan.body.push_back(Framed(ext::RequestBody()
                                   .Body(std::string_view(body).substr(at, kPiece))
                                   .Last(at + kPiece >= body.size())
                                   .Message()));
  }
  plan.request_answers =
      is_echo ? 1 + plan.body.size() : 1 + (body.size() + kAnswerPiece - 1) / kAnswerPiece;
  plan.answer_head =
      Framed(ext::ResponseHeaders()
                 .Headers({{":status", "200"}, {"content-type", "text/event-stream"}})
                 .Message());
  const std::string event =
      R"(data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"canned",)"
      R"("choices":[{"index":0,"text":" word","logprobs":null,"finish_reason":null}]})"
      "\n\n";
  plan.chunk = Framed(ext::ResponseBody().Body(event).Message());
  plan.last_chunk = Framed(ext::ResponseBody().Body("data: [DONE]\n\n").Last().Message());
  return plan;
}

class Load;

// One connection and its exchanges.
class Connection {
 public:
  Connection(Load& load, uint16_t port);
  ~Connection();
  void Begin();  // one more exchange
  void Read();
  void Write();
  int fd() const { return fd_; }
  bool wants_write() const { return !out_.empty(); }

 private:
  struct Exchange {
    std::string out;
    size_t sent = 0;
    bool is_last = false, is_deferred = false;
    size_t awaited = 0;  // messages of the step that is under way
    size_t step = 0;     // 0: request, 1: the answer's head, 2 and up: its chunks
    uint32_t size_left = 0;
    uint8_t prefix[5];
    size_t prefix_size = 0;
  };
  void OnMessage(int32_t stream, Exchange& exchange);
  void Take(int32_t stream, std::string_view bytes);
  void Say(int32_t stream, Exchange& exchange, const std::string& bytes, bool is_last);

  Load& load_;
  int fd_ = -1;
  nghttp2_session* session_ = nullptr;
  std::unordered_map<int32_t, std::unique_ptr<Exchange>> exchanges_;
  std::string out_;
};

class Load {
 public:
  explicit Load(Plan plan) : plan_(std::move(plan)) {}
  int Run(uint16_t port, int connections, int streams);

  const Plan& plan() const { return plan_; }
  bool TakeOne() { return begun_ < plan_.exchanges && ++begun_ > 0; }
  void OnEnd(bool is_good) {
    ++ended_;
    errors_ += is_good ? 0 : 1;
  }
  void OnMessage() { ++messages_; }

 private:
  const Plan plan_;
  uint64_t begun_ = 0, ended_ = 0, errors_ = 0, messages_ = 0;
};

Connection::Connection(Load& load, uint16_t port) : load_(load) {
  fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    std::perror("epp_load: connect");
    std::exit(1);
  }
  const int yes = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  ::fcntl(fd_, F_SETFL, O_NONBLOCK);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
      callbacks,
      [](nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t size, void* user) {
        static_cast<Connection*>(user)->Take(stream, {reinterpret_cast<const char*>(data), size});
        return 0;
      });
  nghttp2_session_callbacks_set_on_stream_close_callback(
      callbacks, [](nghttp2_session*, int32_t stream, uint32_t, void* user) {
        auto& self = *static_cast<Connection*>(user);
        const auto found = self.exchanges_.find(stream);
        if (found == self.exchanges_.end()) return 0;
        self.load_.OnEnd(found->second->step == self.load_.plan().chunks + 2);
        self.exchanges_.erase(found);
        self.Begin();
        return 0;
      });
  nghttp2_session_client_new(&session_, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  const nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20};
  nghttp2_submit_settings(session_, 0, &window, 1);
  nghttp2_session_set_local_window_size(session_, 0, 0, 16 << 20);
}

Connection::~Connection() {
  nghttp2_session_del(session_);
  ::close(fd_);
}

void Connection::Begin() {
  if (!load_.TakeOne()) return;
  auto exchange = std::make_unique<Exchange>();
  exchange->out = load_.plan().request_head;
  for (const std::string& piece : load_.plan().body) exchange->out += piece;
  exchange->awaited = load_.plan().request_answers;
  static const std::pair<std::string_view, std::string_view> kHeaders[] = {
      {":method", "POST"},
      {":scheme", "http"},
      {":path", "/envoy.service.ext_proc.v3.ExternalProcessor/Process"},
      {":authority", "localhost"},
      {"content-type", "application/grpc"},
      {"te", "trailers"},
      {"x-envoy-internal", "true"}};
  std::vector<nghttp2_nv> headers;
  for (const auto& [name, value] : kHeaders) {
    headers.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                       reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(),
                       value.size(), 0});
  }
  nghttp2_data_provider provider{};
  provider.source.ptr = exchange.get();
  provider.read_callback = [](nghttp2_session*, int32_t, uint8_t* out, size_t length,
                              uint32_t* flags, nghttp2_data_source* source, void*) -> ssize_t {
    auto& from = *static_cast<Exchange*>(source->ptr);
    const size_t size = std::min(length, from.out.size() - from.sent);
    std::memcpy(out, from.out.data() + from.sent, size);
    from.sent += size;
    if (from.is_last && from.sent == from.out.size()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (size == 0) {
      from.is_deferred = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(size);
  };
  const int32_t stream =
      nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &provider, nullptr);
  exchanges_.emplace(stream, std::move(exchange));
}

void Connection::Say(int32_t stream, Exchange& exchange, const std::string& bytes, bool is_last) {
  if (exchange.sent == exchange.out.size()) {
    exchange.out.clear();
    exchange.sent = 0;
  }
  exchange.out += bytes;
  exchange.is_last = is_last;
  if (std::exchange(exchange.is_deferred, false)) nghttp2_session_resume_data(session_, stream);
}

void Connection::OnMessage(int32_t stream, Exchange& exchange) {
  load_.OnMessage();
  if (exchange.awaited == 0 || --exchange.awaited > 0) return;
  const Plan& plan = load_.plan();
  exchange.awaited = 1;
  const size_t step = ++exchange.step;
  if (step == 1) return Say(stream, exchange, plan.answer_head, false);
  if (step < plan.chunks + 1) return Say(stream, exchange, plan.chunk, false);
  if (step == plan.chunks + 1) return Say(stream, exchange, plan.last_chunk, false);
  exchange.awaited = 0;
  Say(stream, exchange, "", true);
}

void Connection::Take(int32_t stream, std::string_view bytes) {
  const auto found = exchanges_.find(stream);
  if (found == exchanges_.end()) return;
  Exchange& exchange = *found->second;
  while (!bytes.empty()) {
    if (exchange.size_left > 0) {
      const size_t size = std::min<size_t>(exchange.size_left, bytes.size());
      exchange.size_left -= static_cast<uint32_t>(size);
      bytes.remove_prefix(size);
      if (exchange.size_left == 0) OnMessage(stream, exchange);
      continue;
    }
    exchange.prefix[exchange.prefix_size++] = static_cast<uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    if (exchange.prefix_size < 5) continue;
    exchange.prefix_size = 0;
    for (int i = 1; i < 5; ++i) exchange.size_left = exchange.size_left << 8 | exchange.prefix[i];
    if (exchange.size_left == 0) OnMessage(stream, exchange);
  }
}

void Connection::Read() {
  static char buffer[256 << 10];
  while (true) {
    const ssize_t size = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      std::fprintf(stderr, "epp_load: the server closed a connection\n");
      std::exit(1);
    }
    nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(buffer),
                             static_cast<size_t>(size));
  }
}

void Connection::Write() {
  while (true) {
    const uint8_t* data = nullptr;
    for (ssize_t size;
         out_.size() < kWriteBytes && (size = nghttp2_session_mem_send(session_, &data)) > 0;) {
      out_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    if (out_.empty()) return;
    const ssize_t sent = ::send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    out_.erase(0, static_cast<size_t>(sent));
  }
}

int Load::Run(uint16_t port, int connections, int streams) {
  std::deque<Connection> all;
  std::vector<pollfd> polled;
  for (int i = 0; i < connections; ++i) {
    all.emplace_back(*this, port);
    for (int s = 0; s < streams; ++s) all.back().Begin();
    polled.push_back({all.back().fd(), POLLIN, 0});
  }
  const auto began = std::chrono::steady_clock::now();
  while (ended_ < plan_.exchanges) {
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].Write();
      polled[i].events = static_cast<short>(POLLIN | (all[i].wants_write() ? POLLOUT : 0));
    }
    if (::poll(polled.data(), polled.size(), 30'000) <= 0) {
      std::fprintf(stderr, "epp_load: nothing came for 30 s, %llu of %llu exchanges are done\n",
                   static_cast<unsigned long long>(ended_),
                   static_cast<unsigned long long>(plan_.exchanges));
      return 1;
    }
    for (size_t i = 0; i < all.size(); ++i) {
      if ((polled[i].revents & POLLIN) != 0) all[i].Read();
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  std::printf("{\"exchanges\":%llu,\"messages\":%llu,\"seconds\":%.3f,\"errors\":%llu}\n",
              static_cast<unsigned long long>(ended_), static_cast<unsigned long long>(messages_),
              took.count(), static_cast<unsigned long long>(errors_));
  return errors_ == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr,
                 "usage: epp_load PORT CONNECTIONS STREAMS EXCHANGES BODY_BYTES CHUNKS "
                 "penstock|echo\n");
    return 2;
  }
  Load load(MakePlan(std::strtoull(argv[4], nullptr, 10), std::strtoull(argv[5], nullptr, 10),
                     std::strtoull(argv[6], nullptr, 10), std::string_view(argv[7]) == "echo"));
  return load.Run(static_cast<uint16_t>(std::atoi(argv[1])), std::atoi(argv[2]),
                  std::atoi(argv[3]));
}
