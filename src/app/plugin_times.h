// How long plugins take, as a metric.
//
// THREADS: any. COST: two looks at the clock and a look-up for each step of a measured request.
#pragma once

#include "sched/stopwatch.h"
#include "telemetry/metrics.h"

namespace penstock::app {

class PluginTimes final : public sched::Stopwatch {
 public:
  explicit PluginTimes(telemetry::Registry& registry);
  Time Now() override;
  void Observe(sched::Step step, const sched::Plugin& plugin, Duration took) override;

 private:
  telemetry::Family<telemetry::Histogram>& seconds_;
};

}  // namespace penstock::app
