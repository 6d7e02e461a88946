// Which endpoints there are: those of the configuration (`engines`, --engine) together with those
// of the watched `endpointsFile`, kept in the fleet. An edit that is wrong changes nothing: the
// last good set stays, a warning says where and why, and a counter grows.
//
// THREADS: Start and the destructor on one thread; reloads happen on a thread of the watcher, which
// calls Fleet::Replace. The destructor joins it.
// OWNS: the watcher; borrows the fleet and the registry, which must outlive it.
#pragma once

#include <memory>

#include "config/serve_config.h"
#include "core/result.h"
#include "director/fleet.h"
#include "discovery/file_watcher.h"
#include "telemetry/metrics.h"

namespace penstock::discovery {

class Discovery {
 public:
  // Fills the fleet before it returns. Errors: a missing, unreadable or wrong endpoints file,
  // endpoints that clash, more than the fleet takes. A configuration that names neither engines nor
  // a file leaves the fleet empty.
  static Result<std::unique_ptr<Discovery>> Start(const config::ServeConfig& config,
                                                  director::Fleet& fleet,
                                                  telemetry::Registry& registry,
                                                  const WatchOptions& watch = {});
  ~Discovery();
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;

 private:
  struct Impl;
  explicit Discovery(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::discovery
