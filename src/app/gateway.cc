#include "app/gateway.h"

#include <utility>

#include "app/brain.h"
#include "proxy/gateway_handler.h"

namespace penstock::app {
namespace {

http::ServerOptions GatewayServerOptions(const config::ServeConfig& config,
                                         size_t connections_per_loop,
                                         intake::RequestMetrics& metrics) {
  http::ServerOptions options;
  options.name = "gateway";
  options.max_header_bytes = config.limits.max_header_bytes;
  options.max_body_bytes = config.limits.max_body_bytes;
  options.max_buffered_bytes = config.limits.max_buffered_bytes;
  options.max_connections = connections_per_loop;
  options.header_timeout = config.timeouts.header;
  options.body_timeout = config.timeouts.body;
  options.idle_timeout = config.timeouts.keep_alive;
  options.write_timeout = config.timeouts.write;
  options.render_error = [&metrics](int status, std::string_view code, std::string_view message) {
    return proxy::RenderServerError(metrics, status, code, message);
  };
  return options;
}

}  // namespace

struct Gateway::Impl {
  ~Impl() {
    if (brain != nullptr) brain->Stop();
  }
  Result<> OpenServer();

  std::unique_ptr<Brain> brain;
  std::unique_ptr<proxy::GatewayShared> shared;
  std::unique_ptr<http::Server> server;
  std::string address;
};

Result<> Gateway::Impl::OpenServer() {
  const config::ServeConfig& config = brain->config();
  const auto listen = config::ParseListen(config.listen);
  if (!listen) return Fail(listen.error().code, "listen: " + listen.error().message);
  const http::CallOptions plain = {.connect_timeout = config.timeouts.connect,
                                   .first_byte_timeout = config.timeouts.first_byte,
                                   .idle_timeout = config.timeouts.idle};
  http::CallOptions with_tls = plain;
  with_tls.tls = brain->engine_tls().requests;
  shared = std::make_unique<proxy::GatewayShared>(proxy::GatewayShared{
      brain->director(), brain->metrics(), plain, with_tls, &brain->preparer()});
  auto opened = http::Server::Create(
      brain->loops(), listen->host, listen->port,
      GatewayServerOptions(config, brain->connections_per_loop(), brain->metrics()),
      [this](net::Loop& loop) {
        return std::make_unique<proxy::GatewayHandler>(loop, *shared, brain->RandomSeed());
      });
  if (!opened) return Fail(opened.error().code, "listen: " + opened.error().message);
  server = std::move(*opened);
  address = AddressOf(listen->host, server->port());
  return {};
}

Result<std::unique_ptr<Gateway>> Gateway::Start(const config::ServeConfig& config) {
  Result<ChosenScheduler> chosen = MakeScheduler(config.scheduling);
  if (!chosen) return std::unexpected(chosen.error());
  auto impl = std::make_unique<Impl>();
  Impl& gateway = *impl;
  auto brain = Brain::Create(config, std::move(*chosen), {}, [&gateway] {
    return gateway.server == nullptr ? NamedStats()
                                     : NamedStats{{"gateway", gateway.server->Stats()}};
  });
  if (!brain) return std::unexpected(brain.error());
  impl->brain = std::move(*brain);
  if (auto opened = impl->brain->Open([&gateway] { return gateway.OpenServer(); }); !opened) {
    return std::unexpected(opened.error());
  }
  return std::unique_ptr<Gateway>(new Gateway(std::move(impl)));
}

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::~Gateway() = default;

const std::string& Gateway::address() const { return impl_->address; }
const std::string& Gateway::admin_address() const { return impl_->brain->admin_address(); }
uint16_t Gateway::port() const { return impl_->server->port(); }
uint16_t Gateway::admin_port() const { return impl_->brain->admin_port(); }
bool Gateway::asks_for_caches() const { return impl_->brain->asks_for_caches(); }
std::vector<std::string> Gateway::Summary() const { return impl_->brain->Summary(); }
std::vector<telemetry::Registry::Row> Gateway::MetricRows() const {
  return impl_->brain->registry().Rows();
}

void Gateway::Drain(std::function<void()> done) {
  impl_->brain->SetDraining();
  impl_->server->Drain(impl_->brain->config().timeouts.drain, std::move(done));
}

}  // namespace penstock::app
