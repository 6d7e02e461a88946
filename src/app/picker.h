// The endpoint picker assembled from its flags: ext_proc and health beside the brain.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/epp_flags.h"
#include "app/picker_plan.h"
#include "core/result.h"
#include "telemetry/metrics.h"

namespace penstock::app {

// THREADS: made, drained and destroyed by one thread; those of the Brain, and what each port needs.
// OWNS: everything; the destructor stops and joins.
class Picker {
 public:
  // Reads the configuration, listens, begins to watch the engines, and waits (2 s at most) until
  // each has been tried once. The error has a line for each mistake, with the flag, the file's line
  // or the capability that is missing.
  static Result<std::unique_ptr<Picker>> Start(const EppFlags& flags);
  // The same with nobody to pick: for the reference of metrics.
  static Result<std::unique_ptr<Picker>> StartWithoutEndpoints(const EppFlags& flags);
  ~Picker();

  uint16_t port() const;         // ext_proc
  uint16_t health_port() const;  // grpc.health.v1
  uint16_t metrics_port() const;
  std::vector<std::string> Summary() const;
  std::vector<telemetry::Registry::Row> MetricRows() const;
  // Health says NOT_SERVING from now on; streams go on, new ones too, until the drain timeout has
  // passed or the last connection is closed; then `done` is called once, from another thread.
  void Drain(std::function<void()> done);

 private:
  struct Impl;
  static Result<std::unique_ptr<Picker>> StartPlanned(const EppFlags& flags, PickerPlan plan);
  explicit Picker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::app
