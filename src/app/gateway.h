// The gateway assembled from a configuration: loops, admin port, scraping, discovery.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/serve_config.h"
#include "core/result.h"
#include "telemetry/metrics.h"

namespace penstock::app {

// THREADS: made, drained and destroyed by one thread. It starts threads of its own: one a core (or
// `threads`) for traffic, one for scraping, one for the admin port, one for the watched file.
// OWNS: everything; the destructor stops and joins.
class Gateway {
 public:
  // Listens, begins to watch the engines, and waits (2 s at most) until each has been tried once.
  // The error names the setting, the file's line or the address that is wrong.
  static Result<std::unique_ptr<Gateway>> Start(const config::ServeConfig& config);
  ~Gateway();

  const std::string& address() const;        // "HOST:PORT" of the gateway
  const std::string& admin_address() const;  // "HOST:PORT" of the live page
  uint16_t port() const;
  uint16_t admin_port() const;
  // Whether some plugin asks for what engines tell of their caches.
  bool asks_for_caches() const;
  // What is worth saying at start: policy, plugins, endpoints, memory bounds.
  std::vector<std::string> Summary() const;
  // Every metric that a gateway can show, for the generated reference.
  std::vector<telemetry::Registry::Row> MetricRows() const;
  // Stops accepting and lets running requests end within timeouts.drain; `done` is called once,
  // from another thread.
  void Drain(std::function<void()> done);

 private:
  struct Impl;
  explicit Gateway(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::app
