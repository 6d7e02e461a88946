#include "app/token_metrics.h"

#include <string_view>
#include <utility>

namespace penstock::app {

TokenMetrics::TokenMetrics(telemetry::Registry& r)
    : long_prompts_(r.AddFollowedCounterFamily(
          "penstock_long_prompts_total",
          "Requests above 256 KiB whose tokens were found out beside the loops (prepared); of "
          "these, for clients that had left (abandoned); those for which there was no room, so "
          "that a loop did it (refused).",
          {"outcome"})),
      long_prompts_waiting_(r.AddGauge("penstock_long_prompts_waiting",
                                       "Requests that wait to be prepared beside the loops.")),
      token_prompts_(r.AddFollowedCounterFamily(
          "penstock_token_prompts_total",
          "Prompts by what became known of their tokens: their ids (ids: the client sent them, "
          "tokenised here, told by an engine or render server, told_before), or why they were "
          "estimated (ask_...: why asking did not help).",
          {"plugin_name", "outcome"})),
      token_texts_(r.AddFollowedCounterFamily("penstock_token_texts_total",
                                              "Texts that were tokenised.", {"plugin_name"})),
      token_text_bytes_(r.AddFollowedCounterFamily("penstock_token_text_bytes_total",
                                                   "Bytes of the texts that were tokenised.",
                                                   {"plugin_name"})),
      token_reused_bytes_(r.AddFollowedCounterFamily(
          "penstock_token_reused_bytes_total",
          "Bytes of these texts whose tokens were known from a text before.", {"plugin_name"})),
      token_cache_entries_(r.AddGaugeFamily("penstock_token_cache_entries",
                                            "Blocks of texts whose tokens are kept.",
                                            {"plugin_name"})),
      token_cache_bytes_(r.AddGaugeFamily("penstock_token_cache_bytes",
                                          "Memory of the tokens that are kept.", {"plugin_name"})),
      token_cache_evictions_(r.AddFollowedCounterFamily(
          "penstock_token_cache_evictions_total",
          "Blocks whose tokens gave way to those of others.", {"plugin_name"})),
      questions_(r.AddFollowedCounterFamily(
          "penstock_token_questions_total",
          "Questions for prompts' tokens that were sent to engines or a render server, by endpoint "
          "(render, tokenize). A prompt takes two where a server has no render endpoints.",
          {"plugin_name", "route"})),
      questions_abandoned_(r.AddFollowedCounterFamily(
          "penstock_token_questions_abandoned_total",
          "Of the prompts that were asked for, those whose clients left meanwhile.",
          {"plugin_name"})),
      question_seconds_(r.AddFollowedCounterFamily(
          "penstock_token_question_seconds_total",
          "Time that requests have waited for their tokens to be told.", {"plugin_name"})),
      questions_out_(r.AddGaugeFamily("penstock_token_questions",
                                      "Requests that wait for their tokens to be told.",
                                      {"plugin_name"})),
      servers_(r.AddGaugeFamily(
          "penstock_token_servers",
          "Servers that are asked for tokens, by what they are good for: render, tokenize (no "
          "render endpoints), no_route (neither: asked again after a minute), resting (they "
          "failed).",
          {"plugin_name", "state"})),
      told_entries_(r.AddGaugeFamily("penstock_token_told_entries",
                                     "Prompts whose told tokens are kept.", {"plugin_name"})),
      told_bytes_(
          r.AddGaugeFamily("penstock_token_told_bytes", "Memory of these.", {"plugin_name"})),
      told_evictions_(r.AddFollowedCounterFamily(
          "penstock_token_told_evictions_total",
          "Of these, those that made room for others or were too old.", {"plugin_name"})) {}

void TokenMetrics::Follow(const sched::Plugin& plugin, const sched::PluginStat& stat) {
  const std::pair<std::string_view, telemetry::Family<telemetry::FollowedCounter>*> counters[] = {
      {"token_texts_total", &token_texts_},
      {"token_text_bytes_total", &token_text_bytes_},
      {"token_reused_bytes_total", &token_reused_bytes_},
      {"token_cache_evictions_total", &token_cache_evictions_},
      {"token_questions_abandoned_total", &questions_abandoned_},
      {"token_question_seconds_total", &question_seconds_},
      {"token_told_evictions_total", &told_evictions_}};
  const std::pair<std::string_view, telemetry::Family<telemetry::Gauge>*> gauges[] = {
      {"token_cache_entries", &token_cache_entries_},
      {"token_cache_bytes", &token_cache_bytes_},
      {"token_questions", &questions_out_},
      {"token_told_entries", &told_entries_},
      {"token_told_bytes", &told_bytes_}};
  for (const auto& [metric, family] : counters) {
    if (stat.metric == metric) family->With({plugin.name()}).Follow(stat.value);
  }
  for (const auto& [metric, family] : gauges) {
    if (stat.metric == metric) family->With({plugin.name()}).Set(stat.value);
  }
  if (stat.metric == "token_prompts_total") {
    token_prompts_.With({plugin.name(), stat.label}).Follow(stat.value);
  } else if (stat.metric == "token_questions_total") {
    questions_.With({plugin.name(), stat.label}).Follow(stat.value);
  } else if (stat.metric == "token_servers") {
    servers_.With({plugin.name(), stat.label}).Set(stat.value);
  }
}

void TokenMetrics::Follow(const intake::Preparer::Stats& preparer) {
  long_prompts_.With({"prepared"}).Follow(static_cast<double>(preparer.prepared));
  long_prompts_.With({"abandoned"}).Follow(static_cast<double>(preparer.abandoned));
  long_prompts_.With({"refused"}).Follow(static_cast<double>(preparer.refused));
  long_prompts_waiting_.Set(static_cast<double>(preparer.waiting));
}

}  // namespace penstock::app
