#include "http/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <ctime>
#include <utility>

#include "http/server_connection.h"
#include "http/server_loop.h"
#include "net/address.h"
#include "net/listener.h"
#include "telemetry/log.h"

namespace penstock::http {

ServerLoop::ServerLoop(net::Loop& loop, const ServerOptions& options, ByteBudget& budget,
                       std::unique_ptr<Handler> handler)
    : loop_(loop),
      options_(options),
      budget_(budget),
      handler_(std::move(handler)),
      scratch_(std::make_unique_for_overwrite<char[]>(kScratchBytes)),
      drain_limit_(loop, [this] {
        Close();
        ReportDrained();
      }) {}

ServerLoop::~ServerLoop() { Close(); }

void ServerLoop::Listen(int fd) {
  listener_ = std::make_unique<net::Listener>(
      loop_, fd, [this](int accepted, const net::Address& peer) { OnAccept(accepted, peer); });
}

void ServerLoop::OnAccept(int fd, const net::Address& peer) {
  if (connections_.size() >= options_.max_connections) return Refuse(fd);
  net::Ref<ServerConnection> connection(new ServerConnection(*this, peer));
  connection->index = connections_.size();
  connections_.push_back(connection);
  counters_.connections_accepted.fetch_add(1, std::memory_order_relaxed);
  counters_.connections_open.fetch_add(1, std::memory_order_relaxed);
  connection->Open(fd, peer.is_ipv6());
}

void ServerLoop::Refuse(int fd) {
  counters_.refused_connections.fetch_add(1, std::memory_order_relaxed);
  const std::string body =
      RenderError(503, "too_many_connections", "The server has as many connections as it may.");
  const std::string response =
      "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
      "retry-after: 1\r\ncontent-length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  // What has come already is read, because closing over unread bytes resets the connection and
  // takes the answer with it.
  (void)::recv(fd, scratch_.get(), kScratchBytes, MSG_DONTWAIT);
  (void)::send(fd, response.data(), response.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

void ServerLoop::Remove(ServerConnection& connection) {
  const size_t index = connection.index;
  if (index + 1 < connections_.size()) {
    connections_[index].swap(connections_.back());
    connections_[index]->index = index;
  }
  net::Ref<ServerConnection> keep = std::move(connections_.back());
  connections_.pop_back();
  counters_.connections_open.fetch_sub(1, std::memory_order_relaxed);
  if (is_draining_ && connections_.empty()) ReportDrained();
}

void ServerLoop::Drain(Duration limit, std::function<void()> done) {
  on_drained_ = std::move(done);
  if (listener_ != nullptr) listener_->Close();
  is_draining_ = true;
  // Each Drain may remove its connection, which moves the last one into its place.
  for (size_t i = connections_.size(); i > 0; --i) {
    if (i <= connections_.size()) net::Ref<ServerConnection>(connections_[i - 1])->Drain();
  }
  if (connections_.empty()) return ReportDrained();
  drain_limit_.Start(limit);
}

void ServerLoop::ReportDrained() {
  drain_limit_.Cancel();
  if (on_drained_) std::exchange(on_drained_, nullptr)();
}

void ServerLoop::Close() {
  listener_.reset();
  while (!connections_.empty()) net::Ref<ServerConnection>(connections_.back())->Cut();
}

std::string ServerLoop::RenderError(int status, std::string_view code,
                                    std::string_view message) const {
  if (options_.render_error) return options_.render_error(status, code, message);
  std::string body = R"({"error":{"code":")";
  body.append(code).append(R"(","message":")").append(message).append("\"}}");
  return body;
}

std::string_view ServerLoop::Date() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != date_second_) {
    date_second_ = now.tv_sec;
    tm fields{};
    ::gmtime_r(&now.tv_sec, &fields);
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    // Not strftime, whose names follow the locale.
    std::snprintf(date_, sizeof(date_), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                  kDays[fields.tm_wday % 7], fields.tm_mday % 100, kMonths[fields.tm_mon % 12],
                  (fields.tm_year + 1900) % 10000, fields.tm_hour % 100, fields.tm_min % 100,
                  fields.tm_sec % 100);
  }
  return {date_, 29};
}

namespace {

class ServerImpl final : public Server {
 public:
  ServerImpl(net::LoopPool& loops, ServerOptions options)
      : loops_(loops), options_(std::move(options)), budget_(options_.max_buffered_bytes) {}

  ~ServerImpl() override {
    for (size_t i = 0; i < parts_.size(); ++i)
      loops_.at(i).RunAndWait([this, i] { parts_[i].reset(); });
  }

  Result<> Open(std::string_view host, uint16_t port,
                const std::function<std::unique_ptr<Handler>(net::Loop&)>& make_handler) {
    auto address = net::ResolveNow(host, port);
    if (!address) return std::unexpected(address.error());
    const auto descriptors = net::BindListeners(*address, loops_.size());
    if (!descriptors) return std::unexpected(descriptors.error());
    port_ = net::PortOf(descriptors->front());
    for (size_t i = 0; i < loops_.size(); ++i) {
      net::Loop& loop = loops_.at(i);
      parts_.push_back(std::make_unique<ServerLoop>(loop, options_, budget_, make_handler(loop)));
    }
    for (size_t i = 0; i < loops_.size(); ++i)
      loops_.at(i).RunAndWait([this, i, &descriptors] { parts_[i]->Listen((*descriptors)[i]); });
    return {};
  }

  uint16_t port() const override { return port_; }

  void Drain(Duration limit, std::function<void()> done) override {
    struct Latch {
      std::atomic<size_t> left;
      std::function<void()> done;
    };
    auto latch = std::make_shared<Latch>();
    latch->left = parts_.size();
    latch->done = std::move(done);
    for (size_t i = 0; i < parts_.size(); ++i) {
      loops_.at(i).Post([this, i, limit, latch] {
        if (parts_[i] == nullptr) return;
        parts_[i]->Drain(limit, [this, latch] {
          if (latch->left.fetch_sub(1) > 1) return;
          loops_.at(0).Post([latch] { latch->done(); });
        });
      });
    }
  }

  ServerStats Stats() const override {
    ServerStats sum;
    for (const auto& part : parts_) {
      const ServerCounters& c = part->counters();
      sum.connections_accepted += c.connections_accepted.load(std::memory_order_relaxed);
      sum.connections_open += c.connections_open.load(std::memory_order_relaxed);
      sum.requests += c.requests.load(std::memory_order_relaxed);
      sum.bad_requests += c.bad_requests.load(std::memory_order_relaxed);
      sum.timeouts += c.timeouts.load(std::memory_order_relaxed);
      sum.too_large += c.too_large.load(std::memory_order_relaxed);
      sum.clients_gone += c.clients_gone.load(std::memory_order_relaxed);
      sum.refused_connections += c.refused_connections.load(std::memory_order_relaxed);
      sum.dropped_headers += c.dropped_headers.load(std::memory_order_relaxed);
      sum.overloaded += c.overloaded.load(std::memory_order_relaxed);
    }
    sum.buffered_bytes = budget_.used();
    return sum;
  }

 private:
  net::LoopPool& loops_;
  const ServerOptions options_;
  ByteBudget budget_;
  uint16_t port_ = 0;
  std::vector<std::unique_ptr<ServerLoop>> parts_;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::Create(
    net::LoopPool& loops, std::string_view host, uint16_t port, ServerOptions options,
    std::function<std::unique_ptr<Handler>(net::Loop&)> make_handler) {
  auto server = std::make_unique<ServerImpl>(loops, std::move(options));
  if (auto opened = server->Open(host, port, make_handler); !opened)
    return std::unexpected(opened.error());
  return server;
}

}  // namespace penstock::http
