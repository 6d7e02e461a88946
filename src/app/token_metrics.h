// What is known of prompts' tokens, for /metrics.
//
// THREADS: as the registry's families.
#pragma once

#include "intake/preparer.h"
#include "sched/plugin.h"
#include "telemetry/metrics.h"

namespace penstock::app {

class TokenMetrics {
 public:
  explicit TokenMetrics(telemetry::Registry& registry);
  // One of the "token_..." numbers of a plugin.
  void Follow(const sched::Plugin& plugin, const sched::PluginStat& stat);
  void Follow(const intake::Preparer::Stats& preparer);

 private:
  telemetry::Family<telemetry::FollowedCounter>& long_prompts_;
  telemetry::Gauge& long_prompts_waiting_;
  telemetry::Family<telemetry::FollowedCounter>& token_prompts_;
  telemetry::Family<telemetry::FollowedCounter>& token_texts_;
  telemetry::Family<telemetry::FollowedCounter>& token_text_bytes_;
  telemetry::Family<telemetry::FollowedCounter>& token_reused_bytes_;
  telemetry::Family<telemetry::Gauge>& token_cache_entries_;
  telemetry::Family<telemetry::Gauge>& token_cache_bytes_;
  telemetry::Family<telemetry::FollowedCounter>& token_cache_evictions_;
  // Of prompts whose tokens somebody else is asked for.
  telemetry::Family<telemetry::FollowedCounter>& questions_;
  telemetry::Family<telemetry::FollowedCounter>& questions_abandoned_;
  telemetry::Family<telemetry::FollowedCounter>& question_seconds_;
  telemetry::Family<telemetry::Gauge>& questions_out_;
  telemetry::Family<telemetry::Gauge>& servers_;
  telemetry::Family<telemetry::Gauge>& told_entries_;
  telemetry::Family<telemetry::Gauge>& told_bytes_;
  telemetry::Family<telemetry::FollowedCounter>& told_evictions_;
};

}  // namespace penstock::app
