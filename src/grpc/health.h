// The service grpc.health.v1.Health: Check, List and Watch.
//
// A judge says of each service whether it serves. It is asked at every Check, and for every watcher
// about once a second, so that whoever watches hears of a change then.
//
// THREADS: a HealthService belongs to one loop; the judge is asked on it.
// SOURCE: grpc doc/health-checking.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/time.h"
#include "grpc/server.h"

namespace penstock::grpc {

struct HealthJudge {
  // Whether the service serves; nothing for one that is not known.
  std::function<std::optional<bool>(std::string_view service)> is_serving;
  std::vector<std::string> services;  // that List names
};

class HealthService {
 public:
  static constexpr std::string_view kPrefix = "/grpc.health.v1.Health/";

  explicit HealthService(HealthJudge judge, Duration watch_interval = seconds(1));
  ~HealthService();
  // The listener of a call of this service; null for another one and for a method that is not
  // known.
  std::unique_ptr<CallListener> OnCall(Call& call);

 private:
  const std::shared_ptr<const HealthJudge> judge_;
  const Duration watch_interval_;
};

}  // namespace penstock::grpc
