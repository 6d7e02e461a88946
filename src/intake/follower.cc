#include "intake/follower.h"

#include <string>
#include <utility>

#include "telemetry/log.h"

namespace penstock::intake {
namespace {

void LogEnd(const director::DecisionRecord& record) {
  telemetry::log::Debug("request ended", {{"request_id", record.request_id},
                                          {"endpoint", record.attempts.back().endpoint},
                                          {"model", record.model},
                                          {"end", director::EndKindName(record.end)},
                                          {"status", record.status},
                                          {"tries", record.attempts.size()},
                                          {"input_tokens", record.reported_input_tokens},
                                          {"cached_tokens", record.cached_tokens},
                                          {"output_tokens", record.output_tokens},
                                          {"decision_us", record.decision_us},
                                          {"ttft_s", record.ttft_s},
                                          {"e2e_s", record.e2e_s}});
}

}  // namespace

Follower::Follower(std::unique_ptr<director::Flight> flight, const api::Route& route,
                   RequestMetrics& metrics, RequestSeries& series)
    : flight_(std::move(flight)), route_(route), metrics_(metrics), series_(series) {
  series_.running.Add(1);
}

Follower::~Follower() { series_.running.Add(-1); }

void Follower::OnHead(int status, std::string_view content_type, bool is_encoded) {
  status_ = status;
  is_event_stream_ = content_type.starts_with("text/event-stream");
  if (is_encoded) return;
  const auto format = api::UsageFormat(route_, content_type);
  if (format) usage_ = std::make_unique<api::UsageScanner>(*format);
  const model::Request& request = flight_->context().request;
  if (request.target_model == request.model) return;
  restorer_ = std::make_unique<api::ModelRestorer>(request.target_model, request.model);
}

std::string_view Follower::Restored(std::string_view piece, bool is_last) {
  if (restorer_ == nullptr) return piece;
  restored_.clear();
  restorer_->Feed(piece, &restored_);
  if (is_last) restorer_->Finish(&restored_);
  return restored_;
}

void Follower::OnPiece(std::string_view piece, Time now) {
  if (piece.empty()) return;
  if (response_bytes_ == 0) {
    flight_->OnFirstChunk(now);
  } else if (is_event_stream_) {
    series_.itl.Observe(ToSeconds(now - last_piece_));
  }
  last_piece_ = now;
  response_bytes_ += piece.size();
  if (usage_ != nullptr) usage_->Feed(piece);
}

void Follower::OnComplete(Time now) {
  flight_->OnFirstChunk(now);
  OnEnd(director::EndKind::kComplete, status_, "", now);
}

void Follower::OnEnd(director::EndKind kind, int status, std::string_view reason, Time now) {
  if (flight_->ended()) return;
  director::ReportedUsage usage;
  if (usage_ != nullptr) {
    usage_->Finish();
    const api::Usage& found = usage_->usage();
    usage = {found.found, found.input_tokens, found.output_tokens, found.cached_known,
             found.cached_tokens};
  }
  flight_->OnEnd(kind, status, reason, usage, now);
  metrics_.OnEnd(series_, flight_->record(), response_bytes_,
                 is_event_stream_ || flight_->record().stream);
  if (telemetry::log::Enabled(telemetry::log::Level::kDebug)) LogEnd(flight_->record());
  if (kind == director::EndKind::kComplete && status < 400) return;
  // An answer that is an error is one, also when nobody waits for its end.
  const bool is_engines = kind == director::EndKind::kComplete ||
                          (kind == director::EndKind::kClientGone && status_ >= 400);
  metrics_.OnError(series_.labels(), is_engines ? "ModelServerError" : director::EndKindName(kind));
}

namespace {

// `request` is the one that was given back, of an arrival that was rejected.
Admission Settle(director::Arrival arrival, const IncomingRequest& incoming,
                 const model::Request& request, Duration took, Time after, Time received,
                 director::Lane& lane, RequestMetrics& metrics, RequestMetrics::Cache& series) {
  if (arrival.flight == nullptr) {
    RequestLabels labels{request.model, request.target_model, incoming.fairness_id};
    // A model that no engine names may be a client's invention: it gets no series of its own.
    const std::shared_ptr<const model::PoolSnapshot> pool =
        lane.director().fleet().snapshot().Get();
    if (!metrics.trusts_model_names() && !request.target_model.empty() &&
        pool->Serving(request.target_model) == nullptr) {
      labels.model = labels.target_model = "unknown";
    }
    metrics.OnNoDecision(took, labels.target_model);
    metrics.OnError(labels, arrival.rejection.code);
    return {nullptr, std::move(arrival.rejection)};
  }
  director::Flight& flight = *arrival.flight;
  flight.SetDecisionTime(took);
  const model::Request& accepted = flight.context().request;
  RequestSeries& own = series.Find({accepted.model, accepted.target_model, incoming.fairness_id});
  series.OnDecision(took, own, flight.target());
  metrics.OnDispatch(flight.record().attempts.front(), after - received);
  own.requests.Add();
  return {std::make_unique<Follower>(std::move(arrival.flight), incoming.route, metrics, own), {}};
}

}  // namespace

Admission Admit(IncomingRequest&& incoming, director::Lane& lane, RequestMetrics& metrics,
                RequestMetrics::Cache& series, Time received, const net::Loop& loop) {
  const Time before = loop.Now();
  director::Arrival arrival = lane.Arrive(std::move(incoming.request), received, UnixMicros());
  const Time after = loop.Now();
  return Settle(std::move(arrival), incoming, incoming.request, after - before, after, received,
                lane, metrics, series);
}

Admission AdmitPrepared(LongRequest& request, director::Lane& lane, RequestMetrics& metrics,
                        RequestMetrics::Cache& series, Time received, const net::Loop& loop) {
  return AdmitPrepared(request.incoming(), std::move(request.context()), loop.Now(), lane, metrics,
                       series, received, loop);
}

Admission AdmitPrepared(const IncomingRequest& incoming, sched::RequestContext&& context,
                        Time before, director::Lane& lane, RequestMetrics& metrics,
                        RequestMetrics::Cache& series, Time received, const net::Loop& loop) {
  director::Arrival arrival = lane.Proceed(std::move(context), received, UnixMicros());
  const Time after = loop.Now();
  return Settle(std::move(arrival), incoming, context.request, after - before, after, received,
                lane, metrics, series);
}

}  // namespace penstock::intake
