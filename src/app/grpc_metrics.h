// Metrics of what gRPC servers hold and have done, read from them when somebody asks for /metrics.
//
// THREADS: those of the registry's collection.
#pragma once

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "grpc/server.h"
#include "telemetry/metrics.h"

namespace penstock::app {

using NamedGrpcStats = std::vector<std::pair<std::string_view, grpc::ServerStats>>;

class GrpcMetrics {
 public:
  // `stats` and this outlive the collections of the registry.
  GrpcMetrics(telemetry::Registry& registry, std::function<NamedGrpcStats()> stats);

 private:
  void Refresh();

  const std::function<NamedGrpcStats()> stats_;
  telemetry::Family<telemetry::Gauge>& connections_open_;
  telemetry::Family<telemetry::FollowedCounter>& connections_;
  telemetry::Family<telemetry::FollowedCounter>& refused_connections_;
  telemetry::Family<telemetry::FollowedCounter>& bad_connections_;
  telemetry::Family<telemetry::FollowedCounter>& failed_handshakes_;
  telemetry::Family<telemetry::Gauge>& calls_open_;
  telemetry::Family<telemetry::FollowedCounter>& calls_;
  telemetry::Family<telemetry::FollowedCounter>& refused_calls_;
  telemetry::Family<telemetry::FollowedCounter>& bad_messages_;
  telemetry::Family<telemetry::FollowedCounter>& deadlines_;
  telemetry::Family<telemetry::FollowedCounter>& clients_gone_;
  telemetry::Family<telemetry::Gauge>& buffered_bytes_;
};

}  // namespace penstock::app
