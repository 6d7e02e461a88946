#include "app/plugin_times.h"

#include <chrono>

#include "sched/plugin.h"

namespace penstock::app {
namespace {

constexpr double kSeconds[] = {.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1};

}  // namespace

PluginTimes::PluginTimes(telemetry::Registry& registry)
    : seconds_(registry.AddHistogramFamily(
          "llm_d_epp_plugin_duration_seconds",
          "Time that a plugin took, measured for one request in 16.",
          {"extension_point", "plugin_type", "plugin_name"}, kSeconds)) {}

Time PluginTimes::Now() { return Time(std::chrono::steady_clock::now().time_since_epoch()); }

void PluginTimes::Observe(sched::Step step, const sched::Plugin& plugin, Duration took) {
  seconds_.With({sched::StepName(step), plugin.type(), plugin.name()}).Observe(ToSeconds(took));
}

}  // namespace penstock::app
