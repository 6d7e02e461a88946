#include "signals/target.h"

#include <algorithm>
#include <utility>

#include "signals/models_reader.h"
#include "telemetry/log.h"

namespace penstock::signals {
namespace {

namespace log = telemetry::log;

constexpr Duration kFirstBackoff = milliseconds(50);
constexpr Duration kFirstModelsBackoff = milliseconds(250);
constexpr std::string_view kMetricsType = "text/plain; version=0.0.4";
constexpr std::string_view kModelsType = "application/json";

// Some statuses have one usual cause that is worth saying.
std::string WithAdvice(const Read::Outcome& outcome) {
  if (outcome.status == 404) {
    return outcome.reason +
           ": the engine serves no metrics there (SGLang needs --enable-metrics; metricsPort names "
           "another port)";
  }
  if (outcome.status == 401 || outcome.status == 403) {
    return outcome.reason + ": metrics must be readable without credentials";
  }
  return outcome.reason;
}

}  // namespace

Target::MetricsRead::MetricsRead(Target& target)
    : Read(target.context_.client, target.context_.options.metrics_path, kMetricsType,
           {target.context_.options.max_metrics_bytes, target.context_.options.timeout}),
      scanner(*target.context_.options.engines),
      target_(target) {}

void Target::MetricsRead::OnPiece(std::string_view piece) {
  target_.context_.metrics.bytes.Add(piece.size());
  scanner.Feed(piece);
}

Target::ModelsRead::ModelsRead(Target& target)
    : Read(target.context_.client, target.context_.options.models_path, kModelsType,
           {target.context_.options.max_models_bytes, target.context_.options.timeout}),
      target_(target) {}

Target::Target(TargetContext& context, const model::EndpointInfo& endpoint, Time first,
               double phase)
    : context_(context),
      slot_(endpoint.slot),
      name_(endpoint.spec.name),
      address_(endpoint.address),
      phase_(phase),
      metrics_(*this),
      models_(*this),
      metrics_due_(first) {
  Aim(endpoint.spec);
}

Target::~Target() {
  context_.client.Forget(models_.host(), models_.port());
  if (metrics_.port() != models_.port()) context_.client.Forget(metrics_.host(), metrics_.port());
}

bool Target::Is(const model::EndpointInfo& endpoint) const {
  return slot_ == endpoint.slot && name_ == endpoint.spec.name && address_ == endpoint.address;
}

void Target::Aim(const model::EndpointSpec& spec) {
  FindType(spec);
  const ScraperOptions& options = context_.options;
  uint16_t metrics_port = options.metrics_port != 0 ? options.metrics_port : spec.port;
  if (spec.metrics_port != 0) metrics_port = spec.metrics_port;
  const uint16_t models_port = options.models_port != 0 ? options.models_port : spec.port;
  const auto aim = [&](Read& read, uint16_t port, std::optional<model::Scheme> scheme,
                       const std::shared_ptr<net::TlsClientContext>& context) {
    const bool is_https = scheme.value_or(spec.scheme) == model::Scheme::kHttps;
    const auto tls = is_https ? context : nullptr;
    if (read.host() == spec.host && read.port() == port && read.tls() == tls.get()) return;
    read.Aim(spec.host, port, tls);
  };
  aim(metrics_, metrics_port, options.metrics_scheme, options.metrics_tls);
  aim(models_, models_port, options.models_scheme, options.models_tls);
}

void Target::FindType(const model::EndpointSpec& spec) {
  const EngineTable& engines = *context_.options.engines;
  const std::string_view label = engines.LabelOf(spec.labels);
  type_ = engines.Find(label);
  if (label.empty() || type_ != EngineType::kUnknown || label == told_label_) return;
  told_label_ = label;
  log::Warn("endpoint's engine type is not known, it is treated as one without",
            {{"endpoint", name_}, {"engine_type", label}});
}

void Target::Update(const model::EndpointInfo& endpoint, Time now) {
  Aim(endpoint.spec);
  if (endpoint.health == model::Health::kHealthy || !is_up_) return;
  // Somebody else could not reach it. It may be another process by now, with other models.
  is_up_ = false;
  metrics_due_ = std::min(metrics_due_, now + Backoff(kFirstBackoff, 0, kFirstBackoff));
}

void Target::Tick(Time now) {
  metrics_.CheckTime(now);
  models_.CheckTime(now);
  if (!metrics_.is_running() && metrics_due_ <= now) {
    // The phase stays; what was missed is not made up for.
    const Duration interval = context_.options.interval;
    metrics_due_ += interval * ((now - metrics_due_) / interval + 1);
    metrics_.scanner.Begin(type_);
    metrics_.Begin(now);
  }
  BeginModels(now);
}

void Target::BeginModels(Time now) {
  if (!is_up_ || models_.is_running() || models_due_ > now) return;
  models_.body.clear();
  models_.Begin(now);
}

Time Target::NextDue(Time now) const {
  // A read that runs is likely to be over by the next one's time, unless that has come.
  const bool waits_for_metrics = metrics_.is_running() && metrics_due_ <= now;
  const bool has_models_due = is_up_ && !models_.is_running();
  return std::min(waits_for_metrics ? Time::max() : metrics_due_,
                  has_models_due ? models_due_ : Time::max());
}

void Target::OnMetrics(Read::Outcome outcome) {
  const Time now = context_.loop.Now();
  ++tries_;
  if (outcome.result == ReadResult::kOk) {
    Result<ScannedMetrics> page = metrics_.scanner.Finish();
    context_.metrics.bad_values.Add(metrics_.scanner.bad_values());
    if (page) {
      context_.metrics.seconds.Observe(ToSeconds(outcome.took));
      context_.metrics.OnMetricsRead(ReadResult::kOk);
      return Succeeded(page->signals, now);
    }
    outcome.result = ReadResult::kUnusable;
    outcome.reason = std::move(page.error().message);
  }
  context_.metrics.OnMetricsRead(outcome.result);
  if (outcome.result == ReadResult::kLocal && is_up_) return NotAsked(outcome.reason);
  Failed(WithAdvice(outcome), now);
}

void Target::Succeeded(const director::EngineSignals& signals, Time now) {
  failures_ = 0;
  if (tries_ == 1) {
    // All begin together at the start; from here on they are spread over half the interval.
    const Duration interval = context_.options.interval;
    const auto spread = std::chrono::duration_cast<Duration>(interval * (0.5 + phase_ / 2));
    if (interval > kFirstBackoff) metrics_due_ = now + spread;
  }
  if (!is_up_) {
    is_up_ = true;
    models_failures_ = 0;
    models_due_ = context_.options.reads_models ? now : Time::max();
    told_reason_.clear();
    log::Info("endpoint answers", {{"endpoint", name_}, {"address", address_}});
  }
  context_.fleet.Scraped(slot_, signals, now);
  BeginModels(now);
}

void Target::NotAsked(const std::string& reason) {
  if (reason == told_reason_) return;
  told_reason_ = reason;
  log::Warn("endpoint cannot be asked, its last signals stay",
            {{"endpoint", name_}, {"address", address_}, {"reason", reason}});
}

void Target::Failed(const std::string& reason, Time now) {
  is_up_ = false;
  metrics_due_ = now + Backoff(std::min(kFirstBackoff, context_.options.interval), failures_,
                               context_.options.max_backoff);
  failures_ = std::min(failures_ + 1, 30u);
  if (reason != told_reason_) {
    told_reason_ = reason;
    log::Warn("endpoint is not usable",
              {{"endpoint", name_}, {"address", address_}, {"reason", reason}});
  }
  context_.fleet.ScrapeFailed(slot_, reason, now);
}

void Target::OnModels(Read::Outcome outcome) {
  const Time now = context_.loop.Now();
  ++models_tries_;
  // These say that there is no such list, which is no failure: the engine serves any model.
  const bool is_absent = outcome.status == 404 || outcome.status == 405 || outcome.status == 501;
  Result<EngineModels> models = EngineModels{};
  if (outcome.result == ReadResult::kOk) {
    models = ReadModels(models_.body);
    if (!models) {
      outcome.result = ReadResult::kUnusable;
      outcome.reason = models.error().message;
    }
  }
  models_.body = {};
  context_.metrics.OnModelsRead(outcome.result);
  if (outcome.result != ReadResult::kOk && !is_absent) {
    models_due_ =
        now + Backoff(kFirstModelsBackoff, models_failures_, context_.options.models_interval);
    if (models_failures_++ == 0) {
      log::Warn("endpoint's models are not known, the list it had stays",
                {{"endpoint", name_}, {"reason", outcome.reason}});
    }
    return;
  }
  models_failures_ = 0;
  models_due_ =
      now + Backoff(context_.options.models_interval, 0, context_.options.models_interval);
  context_.fleet.ModelsRead(slot_, std::move(models->ids), std::move(models->json),
                            std::move(models->adapters));
}

Duration Target::Backoff(Duration base, uint32_t failures, Duration max) {
  Duration delay = std::min(base, max);
  for (uint32_t i = 0; i < failures && delay < max; ++i) delay = std::min(delay * 2, max);
  return std::chrono::duration_cast<Duration>(delay * (0.75 + context_.random.Uniform() / 2));
}

}  // namespace penstock::signals
