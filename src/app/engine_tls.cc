#include "app/engine_tls.h"

#include <set>
#include <string>
#include <utility>

#include "telemetry/log.h"

namespace penstock::app {
namespace {

using Verification = net::TlsClientOptions::Verification;

Result<std::shared_ptr<net::TlsClientContext>> Make(net::TlsClientOptions options,
                                                    const std::string& setting) {
  auto made = net::TlsClientContext::Create(std::move(options));
  if (!made) return Fail(made.error().code, setting + ": " + made.error().message);
  return made;
}

net::TlsClientOptions OptionsOf(const config::EngineTlsConfig& config) {
  return {.verification =
              config.insecure_skip_verify ? Verification::kNone : Verification::kChainAndName,
          .ca_file = config.ca_file,
          .server_name = config.server_name,
          .certificate_file = config.certificate_file,
          .key_file = config.key_file};
}

// What a source leaves open is as for requests.
Result<std::shared_ptr<net::TlsClientContext>> OfSource(const sched::EngineSource& source,
                                                        const config::EngineTlsConfig& config) {
  net::TlsClientOptions options = OptionsOf(config);
  if (!source.ca_cert_path.empty()) options.ca_file = source.ca_cert_path;
  if (!source.client_cert_path.empty()) {
    options.certificate_file = source.client_cert_path;
    options.key_file = source.client_key_path;
  }
  const std::string setting = source.name.empty() ? "metrics of engines" : source.name;
  const bool is_llmds_default =
      !source.insecure_skip_verify && source.scheme == "https" && options.ca_file.empty();
  if (is_llmds_default) {
    telemetry::log::Warn(
        "certificates of engines are not verified when they are read, which is llm-d's default",
        {{"source", setting}, {"fix", "caCertPath, or insecureSkipVerify: false"}});
  }
  if (source.insecure_skip_verify.value_or(is_llmds_default)) {
    options.verification = Verification::kNone;
  } else if (source.insecure_skip_verify) {
    options.verification = Verification::kChainAndName;
  }
  return Make(std::move(options), setting);
}

}  // namespace

Result<EngineTls> MakeEngineTls(const config::EngineTlsConfig& config,
                                const std::optional<sched::PickerSettings>& signals) {
  EngineTls tls;
  auto made = Make(OptionsOf(config), "engineTls");
  if (!made) return std::unexpected(made.error());
  tls.requests = tls.metrics = tls.models = *made;
  if (!signals) return tls;
  made = OfSource(signals->metrics, config);
  if (!made) return std::unexpected(made.error());
  tls.metrics = tls.models = *made;
  if (!signals->models) return tls;
  made = OfSource(*signals->models, config);
  if (!made) return std::unexpected(made.error());
  tls.models = std::move(*made);
  return tls;
}

void AddEngineTlsMetrics(telemetry::Registry& registry, const EngineTls& tls) {
  auto& family = registry.AddFollowedCounterFamily(
      "penstock_engine_tls_handshakes_total",
      "TLS handshakes with engines, by how they ended: ok, or failed (no TLS, a certificate that "
      "is not accepted, given up).",
      {"result"});
  registry.OnCollect([&family, tls] {
    uint64_t done = 0, failed = 0;
    for (const auto& context : std::set{tls.requests, tls.metrics, tls.models}) {
      const net::TlsStats stats = context->Stats();
      done += stats.handshakes;
      failed += stats.failed_handshakes;
    }
    family.With({"ok"}).Follow(static_cast<double>(done));
    family.With({"failed"}).Follow(static_cast<double>(failed));
  });
}

}  // namespace penstock::app
