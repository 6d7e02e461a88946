// Metrics of the plugins that know or believe who holds which blocks, from what they show.
//
// THREADS: one at a time.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "sched/plugin.h"
#include "telemetry/metrics.h"

namespace penstock::app {

class PrefixMetrics {
 public:
  // Registers the families.
  explicit PrefixMetrics(telemetry::Registry& registry);
  // Takes what it knows; leaves out the rest.
  void Show(const sched::Plugin& plugin, const sched::PluginStat& stat);

 private:
  template <class Metric>
  using Families = std::vector<std::pair<std::string_view, telemetry::Family<Metric>*>>;

  Families<telemetry::Gauge> gauges_;
  Families<telemetry::FollowedCounter> counters_;
};

}  // namespace penstock::app
