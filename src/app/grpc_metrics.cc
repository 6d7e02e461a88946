#include "app/grpc_metrics.h"

namespace penstock::app {
namespace {

telemetry::Family<telemetry::Gauge>& Gauge(telemetry::Registry& r, std::string_view name,
                                           std::string_view help) {
  return r.AddGaugeFamily(name, help, {"server"});
}

telemetry::Family<telemetry::FollowedCounter>& Counter(telemetry::Registry& r,
                                                       std::string_view name,
                                                       std::string_view help) {
  return r.AddFollowedCounterFamily(name, help, {"server"});
}

}  // namespace

GrpcMetrics::GrpcMetrics(telemetry::Registry& r, std::function<NamedGrpcStats()> stats)
    : stats_(std::move(stats)),
      connections_open_(Gauge(r, "penstock_grpc_connections_open", "Connections that are open.")),
      connections_(
          Counter(r, "penstock_grpc_connections_total", "Connections that were accepted.")),
      refused_connections_(Counter(r, "penstock_grpc_refused_connections_total",
                                   "Connections refused because there were too many.")),
      bad_connections_(Counter(r, "penstock_grpc_bad_connections_total",
                               "Connections ended because they did not speak HTTP/2.")),
      failed_handshakes_(Counter(r, "penstock_grpc_failed_handshakes_total",
                                 "Connections whose TLS did not come about.")),
      calls_open_(Gauge(r, "penstock_grpc_calls_open", "RPCs that have not ended.")),
      calls_(Counter(r, "penstock_grpc_calls_total", "RPCs that have begun.")),
      refused_calls_(
          Counter(r, "penstock_grpc_refused_calls_total",
                  "Streams that were no gRPC, of a method that there is not, or too many.")),
      bad_messages_(Counter(r, "penstock_grpc_bad_messages_total",
                            "Messages that were compressed, too large or cut short.")),
      deadlines_(Counter(r, "penstock_grpc_deadlines_total",
                         "RPCs ended because the client's time limit had passed.")),
      clients_gone_(Counter(r, "penstock_grpc_clients_gone_total",
                            "RPCs whose client went away before they were done.")),
      buffered_bytes_(Gauge(
          r, "penstock_grpc_buffered_bytes",
          "Memory of RPCs that hold more than 4 KiB: messages that have come in part, answers "
          "that wait, metadata.")) {
  r.OnCollect([this] { Refresh(); });
}

void GrpcMetrics::Refresh() {
  for (const auto& [name, stats] : stats_()) {
    connections_open_.With({name}).Set(static_cast<double>(stats.connections_open));
    connections_.With({name}).Follow(static_cast<double>(stats.connections_accepted));
    refused_connections_.With({name}).Follow(static_cast<double>(stats.refused_connections));
    bad_connections_.With({name}).Follow(static_cast<double>(stats.bad_connections));
    failed_handshakes_.With({name}).Follow(static_cast<double>(stats.failed_handshakes));
    calls_open_.With({name}).Set(static_cast<double>(stats.calls_open));
    calls_.With({name}).Follow(static_cast<double>(stats.calls));
    refused_calls_.With({name}).Follow(static_cast<double>(stats.refused_calls));
    bad_messages_.With({name}).Follow(static_cast<double>(stats.bad_messages));
    deadlines_.With({name}).Follow(static_cast<double>(stats.deadlines));
    clients_gone_.With({name}).Follow(static_cast<double>(stats.clients_gone));
    buffered_bytes_.With({name}).Set(static_cast<double>(stats.buffered_bytes));
  }
}

}  // namespace penstock::app
