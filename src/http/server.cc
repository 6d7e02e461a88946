#include "http/server.h"

#include <sys/socket.h>
#include <ctime>
#include <utility>

#include "http/server_connection.h"
#include "http/server_loop.h"
#include "net/server.h"

namespace penstock::http {

ServerLoop::ServerLoop(net::Loop& loop, const ServerOptions& options, ByteBudget& budget,
                       std::unique_ptr<Handler> handler)
    : net::ServerLoop(loop, {options.max_connections, options.tls}),
      options_(options),
      budget_(budget),
      handler_(std::move(handler)),
      scratch_(std::make_unique_for_overwrite<char[]>(kScratchBytes)) {}

net::Ref<net::ServedStream> ServerLoop::MakeStream(const net::Address& peer) {
  return net::Ref<net::ServedStream>(new ServerConnection(*this, peer));
}

void ServerLoop::ExplainRefusal(int fd) {
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
      : options_(std::move(options)), budget_(options_.max_buffered_bytes), loops_(loops) {}

  Result<> Open(std::string_view host, uint16_t port,
                const std::function<std::unique_ptr<Handler>(net::Loop&)>& make_handler) {
    return loops_.Open(host, port, [&](net::Loop& loop) {
      return std::make_unique<ServerLoop>(loop, options_, budget_, make_handler(loop));
    });
  }

  uint16_t port() const override { return loops_.port(); }

  void Drain(Duration limit, std::function<void()> done) override {
    loops_.Drain(limit, std::move(done));
  }

  ServerStats Stats() const override {
    ServerStats sum;
    for (const auto& part : loops_.parts()) {
      const ServerCounters& c = static_cast<const ServerLoop&>(*part).counters();
      sum.connections_accepted += part->accepted();
      sum.connections_open += part->open();
      sum.refused_connections += part->refused();
      sum.requests += c.requests.load(std::memory_order_relaxed);
      sum.bad_requests += c.bad_requests.load(std::memory_order_relaxed);
      sum.timeouts += c.timeouts.load(std::memory_order_relaxed);
      sum.too_large += c.too_large.load(std::memory_order_relaxed);
      sum.clients_gone += c.clients_gone.load(std::memory_order_relaxed);
      sum.dropped_headers += c.dropped_headers.load(std::memory_order_relaxed);
      sum.overloaded += c.overloaded.load(std::memory_order_relaxed);
    }
    if (options_.tls != nullptr) sum.failed_handshakes = options_.tls->Stats().failed_handshakes;
    sum.buffered_bytes = budget_.used();
    return sum;
  }

 private:
  const ServerOptions options_;
  ByteBudget budget_;
  net::ServerLoops loops_;
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
