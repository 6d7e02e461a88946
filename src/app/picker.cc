#include "app/picker.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "app/brain.h"
#include "app/grpc_metrics.h"
#include "app/picker_plan.h"
#include "core/byte_budget.h"
#include "discovery/certificate_watch.h"
#include "extproc/stream.h"
#include "grpc/health.h"
#include "grpc/server.h"
#include "telemetry/log.h"

namespace penstock::app {
namespace {

constexpr Duration kDrainPoll = milliseconds(100);

// ext_proc, and health when the flag asks for it on the same port.
class FrontHandler final : public grpc::Handler {
 public:
  FrontHandler(net::Loop& loop, extproc::Shared& shared, uint64_t seed,
               std::optional<grpc::HealthJudge> judge)
      : service_(loop, shared, seed) {
    if (judge) health_.emplace(std::move(*judge));
  }
  std::unique_ptr<grpc::CallListener> OnCall(grpc::Call& call) override {
    if (auto listener = service_.OnCall(call)) return listener;
    return health_ ? health_->OnCall(call) : nullptr;
  }

 private:
  extproc::Service service_;
  std::optional<grpc::HealthService> health_;
};

api::ParserSet ParsersOf(const sched::PickerSettings& settings) {
  std::vector<api::ParserKind> kinds;
  for (const std::string& type : settings.parsers) {
    if (const auto kind = api::ParserOfType(type)) kinds.push_back(*kind);
  }
  return kinds.empty() ? api::ParserSet::Default() : api::ParserSet(kinds);
}

class HealthHandler final : public grpc::Handler {
 public:
  explicit HealthHandler(grpc::HealthJudge judge) : service_(std::move(judge)) {}
  std::unique_ptr<grpc::CallListener> OnCall(grpc::Call& call) override {
    return service_.OnCall(call);
  }

 private:
  grpc::HealthService service_;
};

}  // namespace

struct Picker::Impl {
  ~Impl() {
    if (brain != nullptr) brain->Stop();
  }
  Result<> OpenTls();
  Result<> OpenMetricsTls();
  Result<> OpenServers();
  grpc::HealthJudge Judge();
  void WaitForStreams();

  EppFlags flags;
  sched::PickerSettings settings;
  std::unique_ptr<Brain> brain;
  std::unique_ptr<ByteBudget> bodies;
  std::unique_ptr<extproc::StreamMetrics> streams;
  std::unique_ptr<extproc::Shared> shared;
  std::shared_ptr<net::TlsContext> tls;          // null: none
  std::shared_ptr<net::TlsContext> metrics_tls;  // null: none
  std::unique_ptr<discovery::CertificateWatch> certificate, metrics_certificate;
  std::unique_ptr<grpc::Server> server, health;
  std::unique_ptr<GrpcMetrics> grpc_metrics;
  // Of a drain, on loop 0.
  std::unique_ptr<net::Timer> drain_timer;
  Time drain_until;
  std::function<void()> on_drained;
};

// Chart probes ask for names that are not known and expect the answer to "liveness".
grpc::HealthJudge Picker::Impl::Judge() {
  return {.is_serving = [this](std::string_view) -> std::optional<bool> {
            return !brain->is_draining();
          },
          .services = {"liveness", "readiness", std::string(extproc::Service::kName)}};
}

Result<> Picker::Impl::OpenTls() {
  if (!flags.secure_serving) return {};
  net::TlsOptions options;
  if (!flags.tls_min_version.empty()) {
    const auto version = net::ParseTlsVersion(flags.tls_min_version);
    if (!version)
      return Fail(version.error().code, "--tls-min-version: " + version.error().message);
    options.min_version = *version;
  }
  options.cipher_suites = flags.tls_cipher_suites;
  const auto shown =
      flags.cert_path.empty() ? net::MakeSelfSigned() : net::ReadCertificate(flags.cert_path);
  if (!shown) return Fail(shown.error().code, "--cert-path: " + shown.error().message);
  auto made = net::TlsContext::Create(std::move(options), *shown);
  if (!made) return Fail(made.error().code, "TLS: " + made.error().message);
  tls = std::move(*made);
  if (!flags.enable_cert_reload) return {};
  if (flags.cert_path.empty()) {
    telemetry::log::Warn("--enable-cert-reload: there are no files to watch without --cert-path");
    return {};
  }
  auto watch = discovery::CertificateWatch::Start(tls, flags.cert_path, *shown);
  if (!watch) return Fail(watch.error().code, "--enable-cert-reload: " + watch.error().message);
  certificate = std::move(*watch);
  return {};
}

Result<> Picker::Impl::OpenMetricsTls() {
  const std::string& folder = flags.metrics_cert_dir;
  if (folder.empty()) return {};
  const auto shown = net::ReadCertificate(folder);
  if (!shown) return Fail(shown.error().code, "--metrics-cert-dir: " + shown.error().message);
  auto made = net::TlsContext::Create(
      {.protocol = "", .client_ca_file = flags.metrics_client_ca_file}, *shown);
  if (!made) return Fail(made.error().code, "TLS of the metrics port: " + made.error().message);
  metrics_tls = std::move(*made);
  auto watch = discovery::CertificateWatch::Start(metrics_tls, folder, *shown);
  if (!watch) return Fail(watch.error().code, "--metrics-cert-dir: " + watch.error().message);
  metrics_certificate = std::move(*watch);
  if (flags.metrics_client_ca_file.empty()) {
    telemetry::log::Warn(
        "the metrics port speaks TLS, but lets everybody read: clients are told "
        "apart with --metrics-client-ca-file");
  }
  return {};
}

Result<> Picker::Impl::OpenServers() {
  const config::ServeConfig& config = brain->config();
  bodies = std::make_unique<ByteBudget>(config.limits.max_buffered_bytes);
  using Streams = extproc::StreamMetrics::Streams;
  streams = std::make_unique<extproc::StreamMetrics>(
      brain->registry(),
      flags.enable_grpc_stream_metrics ? Streams::kCounted : Streams::kNotCounted);
  shared.reset(
      new extproc::Shared{brain->director(),
                          brain->metrics(),
                          *bodies,
                          {ParsersOf(settings), config.limits.max_body_bytes,
                           !flags.disable_endpoint_subset_filter, flags.emit_endpoint_scores},
                          *streams,
                          &brain->preparer(),
                          brain->engine_tls().requests});
  grpc::ServerOptions options;
  options.max_message_bytes = flags.grpc_max_recv_msg_size;
  options.max_connections = brain->connections_per_loop();
  options.tls = tls;
  if (flags.max_connection_age > Duration(0)) options.max_connection_age = flags.max_connection_age;
  auto opened = grpc::Server::Create(
      brain->loops(), flags.host, flags.grpc_port, options, [this](net::Loop& loop) {
        return std::make_unique<FrontHandler>(
            loop, *shared, brain->RandomSeed(),
            flags.health_checking ? std::optional(Judge()) : std::nullopt);
      });
  if (!opened) return Fail(opened.error().code, "--grpc-port: " + opened.error().message);
  server = std::move(*opened);
  opened =
      grpc::Server::Create(brain->admin_loops(), flags.host, flags.grpc_health_port, {},
                           [this](net::Loop&) { return std::make_unique<HealthHandler>(Judge()); });
  if (!opened) return Fail(opened.error().code, "--grpc-health-port: " + opened.error().message);
  health = std::move(*opened);
  grpc_metrics = std::make_unique<GrpcMetrics>(brain->registry(), [this] {
    return NamedGrpcStats{{"ext_proc", server->Stats()}, {"health", health->Stats()}};
  });
  return {};
}

Result<std::unique_ptr<Picker>> Picker::Start(const EppFlags& flags) {
  Result<PickerPlan> plan = PlanPicker(flags);
  if (!plan) return std::unexpected(plan.error());
  return StartPlanned(flags, std::move(*plan));
}

Result<std::unique_ptr<Picker>> Picker::StartWithoutEndpoints(const EppFlags& flags) {
  EppFlags with_one = flags;
  with_one.engines = {"http://127.0.0.1:1"};
  Result<PickerPlan> plan = PlanPicker(with_one);
  if (!plan) return std::unexpected(plan.error());
  plan->config.engines.clear();
  return StartPlanned(flags, std::move(*plan));
}

Result<std::unique_ptr<Picker>> Picker::StartPlanned(const EppFlags& flags, PickerPlan plan) {
  auto impl = std::make_unique<Impl>();
  Impl& picker = *impl;
  impl->flags = flags;
  impl->settings = plan.settings;
  if (auto opened = impl->OpenTls(); !opened) return std::unexpected(opened.error());
  if (auto opened = impl->OpenMetricsTls(); !opened) return std::unexpected(opened.error());
  const BrainOptions options{.watches_endpoints_file = plan.watches_endpoints_file,
                             .signals = plan.settings,
                             .pool_name = flags.pool_name.empty() ? "epp" : flags.pool_name,
                             .pool_namespace = PoolNamespace(flags),
                             .metrics_staleness = flags.metrics_staleness_threshold,
                             .error_codes = intake::RequestMetrics::ErrorCodes::kLlmd,
                             .admin_tls = impl->metrics_tls,
                             .shows_older_names = true};
  auto brain = Brain::Create(plan.config, std::move(plan.chosen), options, nullptr);
  if (!brain) return std::unexpected(brain.error());
  impl->brain = std::move(*brain);
  if (auto opened = impl->brain->Open([&picker] { return picker.OpenServers(); }); !opened) {
    return std::unexpected(opened.error());
  }
  return std::unique_ptr<Picker>(new Picker(std::move(impl)));
}

Picker::Picker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Picker::~Picker() = default;

uint16_t Picker::port() const { return impl_->server->port(); }
uint16_t Picker::health_port() const { return impl_->health->port(); }
uint16_t Picker::metrics_port() const { return impl_->brain->admin_port(); }
std::vector<std::string> Picker::Summary() const {
  std::vector<std::string> lines = impl_->brain->Summary();
  // 18,000 of bench/epp's load, small bodies: 13 KiB each.
  lines.push_back(fmt::format("ext_proc streams: at most {} on each of {} loops, some 13 KiB each",
                              grpc::ServerOptions().max_calls, impl_->brain->loops().size()));
  return lines;
}
std::vector<telemetry::Registry::Row> Picker::MetricRows() const {
  return impl_->brain->registry().Rows();
}

// Envoy learns from health checks that it should go elsewhere; until then it is served.
void Picker::Impl::WaitForStreams() {
  net::Loop& loop = brain->loops().at(0);
  if (loop.Now() < drain_until && server->Stats().connections_open > 0) {
    return drain_timer->Start(kDrainPoll);
  }
  server->Drain(flags.drain_timeout, std::exchange(on_drained, nullptr));
}

void Picker::Drain(std::function<void()> done) {
  Impl& impl = *impl_;
  impl.brain->SetDraining();
  net::Loop& loop = impl.brain->loops().at(0);
  loop.Post([&impl, &loop, done = std::move(done)]() mutable {
    impl.on_drained = std::move(done);
    impl.drain_until = loop.Now() + impl.flags.drain_timeout;
    impl.drain_timer = std::make_unique<net::Timer>(loop, [&impl] { impl.WaitForStreams(); });
    impl.drain_timer->Start(kDrainPoll);
  });
}

}  // namespace penstock::app
