// One endpoint as the scraper sees it: when it is asked what, and what follows from the answers.
//
// THREADS: loop-bound. OWNS: its reads; borrows the rest.
#pragma once

#include <string>
#include <string_view>

#include "core/random.h"
#include "core/time.h"
#include "director/fleet.h"
#include "model/endpoint.h"
#include "net/loop.h"
#include "signals/metric_scanner.h"
#include "signals/read.h"
#include "signals/scrape_metrics.h"
#include "signals/scraper.h"

namespace penstock::signals {

// What all targets share.
struct TargetContext {
  director::Fleet& fleet;
  net::Loop& loop;
  http::Client& client;
  const ScraperOptions& options;
  ScrapeMetrics& metrics;
  Random& random;
};

class Target {
 public:
  // Is asked for the first time at `first`. `phase` in [0, 1) places its later reads in the
  // interval.
  Target(TargetContext& context, const model::EndpointInfo& endpoint, Time first, double phase);
  ~Target();

  // What the fleet says of it now.
  void Update(const model::EndpointInfo& endpoint, Time now);
  // Begins what is due and ends what takes too long.
  void Tick(Time now);
  // When Tick has something to begin. REQUIRES: Tick was called with this time.
  Time NextDue(Time now) const;
  // Whether its metrics have been read, and its models when that went well.
  bool is_tried() const {
    const bool is_asked_for_models = models_tries_ > 0 || !context_.options.reads_models;
    return tries_ > 0 && (!is_up_ || is_asked_for_models);
  }
  bool Is(const model::EndpointInfo& endpoint) const;

 private:
  class MetricsRead final : public Read {
   public:
    explicit MetricsRead(Target& target);
    MetricScanner scanner;

   private:
    void OnPiece(std::string_view piece) override;
    void OnDone(Outcome outcome) override { target_.OnMetrics(std::move(outcome)); }
    Time Now() const override { return target_.context_.loop.Now(); }
    Target& target_;
  };
  class ModelsRead final : public Read {
   public:
    explicit ModelsRead(Target& target);
    std::string body;

   private:
    void OnPiece(std::string_view piece) override { body += piece; }
    void OnDone(Outcome outcome) override { target_.OnModels(std::move(outcome)); }
    Time Now() const override { return target_.context_.loop.Now(); }
    Target& target_;
  };

  void OnMetrics(Read::Outcome outcome);
  void OnModels(Read::Outcome outcome);
  void Succeeded(const director::EngineSignals& signals, Time now);
  // For want of something in this process, which says nothing about the engine.
  void NotAsked(const std::string& reason);
  void Failed(const std::string& reason, Time now);
  void BeginModels(Time now);
  void Aim(const model::EndpointSpec& spec);
  void FindType(const model::EndpointSpec& spec);
  // 2^failures times `base`, `max` at most, give or take a quarter.
  Duration Backoff(Duration base, uint32_t failures, Duration max);

  TargetContext& context_;
  const uint32_t slot_;
  const std::string name_;
  const std::string address_;
  const double phase_;
  EngineType type_ = EngineType::kUnknown;
  std::string told_label_;  // a type that nobody knows
  MetricsRead metrics_;
  ModelsRead models_;

  Time metrics_due_;
  Time models_due_ = Time::max();
  bool is_up_ = false;     // the last scrape was good, and nobody has said otherwise since
  uint32_t failures_ = 0;  // in a row
  uint32_t models_failures_ = 0;
  uint64_t tries_ = 0;
  uint64_t models_tries_ = 0;
  std::string told_reason_;  // of the last log line, so that each reason is told once
};

}  // namespace penstock::signals
