#include "app/prefix_metrics.h"

#include <algorithm>
#include <string>

namespace penstock::app {
namespace {

struct Row {
  std::string_view stat;  // "..._total": a counter
  std::string_view text;
};

constexpr Row kRows[] = {
    {"exact_lookups_total", "Decisions for which the exact prefix index was asked."},
    {"exact_answers_total", "Endpoints whose match was what their engine told of."},
    {"approximate_answers_total",
     "Endpoints whose match was judged from what was sent there, by a producer that knows caches."},
    {"cache_claims", "Prompts that count as cached where they were sent, until events tell."},
    {"cache_claims_confirmed_total", "Claims whose answer began."},
    {"cache_claims_expired_total", "Claims whose answer did not begin for too long."},
    {"cache_claims_withdrawn_total",
     "Claims of requests that ended without an answer or were sent elsewhere."},
    {"cache_claims_forgotten_total", "Claims on endpoints that left or restarted."},
    {"cache_claims_displaced_total", "Claims that gave way to newer ones."},
    {"cache_claims_refused_total", "Claims not made because no slot or memory was left."},
    {"predicted_cached_tokens_total",
     "Cached tokens that were expected of answers which report theirs, by the engine's events."},
    {"reported_cached_tokens_total", "Cached tokens that those answers reported."},
    {"p2p_sources_named_total",
     "Requests that were told of a peer that has more of their prompt cached."},
    {"cache_drifts", "Endpoints whose reported cached tokens differ from the expected ones."},
};

}  // namespace

PrefixMetrics::PrefixMetrics(telemetry::Registry& registry) {
  for (const Row& row : kRows) {
    const std::string name = "penstock_" + std::string(row.stat);
    if (row.stat.ends_with("_total")) {
      counters_.emplace_back(row.stat,
                             &registry.AddFollowedCounterFamily(name, row.text, {"plugin_name"}));
    } else {
      gauges_.emplace_back(row.stat, &registry.AddGaugeFamily(name, row.text, {"plugin_name"}));
    }
  }
}

void PrefixMetrics::Show(const sched::Plugin& plugin, const sched::PluginStat& stat) {
  const auto is_it = [&](const auto& family) { return family.first == stat.metric; };
  if (const auto it = std::ranges::find_if(counters_, is_it); it != counters_.end()) {
    it->second->With({plugin.name()}).Follow(stat.value);
  } else if (const auto at = std::ranges::find_if(gauges_, is_it); at != gauges_.end()) {
    at->second->With({plugin.name()}).Set(stat.value);
  }
}

}  // namespace penstock::app
