// TLS to engines: the contexts that a configuration asks for, and what is counted of them.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "config/serve_config.h"
#include "core/result.h"
#include "net/tls_client.h"
#include "sched/picker_settings.h"
#include "telemetry/metrics.h"

namespace penstock::app {

// One context for each way of verifying; several may be the same.
struct EngineTls {
  std::shared_ptr<net::TlsClientContext> requests;
  std::shared_ptr<net::TlsClientContext> metrics;
  std::shared_ptr<net::TlsClientContext> models;
};

// `signals`: how engines are read, when not as requests are sent to them. The error names the
// setting and the file.
Result<EngineTls> MakeEngineTls(const config::EngineTlsConfig& config,
                                const std::optional<sched::PickerSettings>& signals);

// Adds the counters of the handshakes of all of them.
void AddEngineTlsMetrics(telemetry::Registry& registry, const EngineTls& tls);

}  // namespace penstock::app
