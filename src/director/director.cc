#include "director/director.h"

#include <algorithm>
#include <utility>

namespace penstock::director {
namespace {

constexpr size_t kModelsInMessage = 20;

// "a, b and 3 more (GET /v1/models)"
std::string KnownModels(const model::PoolSnapshot& pool) {
  std::string known;
  for (size_t i = 0; i < pool.models.size() && i < kModelsInMessage; ++i) {
    known += (i == 0 ? "" : ", ") + pool.models[i].first;
  }
  if (pool.models.size() > kModelsInMessage) {
    known +=
        " and " + std::to_string(pool.models.size() - kModelsInMessage) + " more (GET /v1/models)";
  }
  return known;
}

Rejection UnknownModel(const std::string& model, const model::PoolSnapshot& pool) {
  return {
      404, "model_not_found",
      "The model '" + model + "' does not exist here. Known models: " + KnownModels(pool) + "."};
}

// Says which endpoints could serve the request if they were healthy, and why they are not.
Rejection NobodyHealthy(const std::string& model, const model::PoolSnapshot& pool) {
  if (pool.endpoints.empty()) {
    return {503, "no_endpoint", "No engine is configured or discovered."};
  }
  std::string why;
  size_t count = 0;
  for (const model::EndpointInfo& endpoint : pool.endpoints) {
    if (endpoint.health == model::Health::kHealthy) continue;
    if (!model.empty() && endpoint.models_known &&
        !std::binary_search(endpoint.models.begin(), endpoint.models.end(), model)) {
      continue;
    }
    if (++count <= 3) {
      why += (why.empty() ? "" : "; ") + endpoint.spec.name + ": " + endpoint.health_reason;
    }
  }
  std::string message = "No healthy engine";
  if (!model.empty()) message += " for the model '" + model + "'";
  message += " (" + std::to_string(count) + " not healthy";
  if (!why.empty()) message += ": " + why;
  message += count > 3 ? "; ...)." : ").";
  if (!model.empty() && !pool.models.empty() && pool.Serving(model) == nullptr) {
    message += " Known models: " + KnownModels(pool) + ".";
  }
  return {503, "no_endpoint", std::move(message)};
}

Target TargetOf(const model::EndpointInfo& endpoint, const std::optional<sched::Detour>& detour) {
  Target target;
  target.slot = endpoint.slot;
  target.name = endpoint.spec.name;
  target.host = endpoint.spec.host;
  target.port = target.dial_port = endpoint.spec.port;
  target.address = endpoint.address;
  target.scheme = endpoint.spec.scheme;
  if (!detour) return target;
  target.dial_port = detour->port;
  target.detour = endpoint.address.substr(0, endpoint.address.rfind(':') + 1);
  target.detour += std::to_string(detour->port);
  target.headers.emplace_back(detour->header, endpoint.address);
  return target;
}

}  // namespace

std::string_view TryFailureName(TryFailure failure) {
  switch (failure) {
    case TryFailure::kLocal:
      return "local";
    case TryFailure::kConnect:
      return "connect";
    case TryFailure::kReset:
      return "reset";
    case TryFailure::kTimeout:
      return "timeout";
    case TryFailure::kStatus502:
      return "status_502";
    case TryFailure::kStatus503:
      return "status_503";
    case TryFailure::kStatus504:
      return "status_504";
  }
  return "connect";
}

// --- Flight

Flight::~Flight() {
  if (record_ == nullptr || ended_) return;
  OnEnd(EndKind::kClientGone, 0, "dropped", {}, record_->arrived);
}

void Flight::Claim(uint32_t slot, int64_t tokens) {
  model::LiveColumns& live = lane_.director_.fleet_.live();
  live.in_flight_requests[slot].fetch_add(1, std::memory_order_relaxed);
  live.in_flight_tokens[slot].fetch_add(tokens, std::memory_order_relaxed);
  claimed_ = true;
  claimed_tokens_ = tokens;
}

void Flight::ReleaseTokens() {
  if (claimed_tokens_ == 0) return;
  lane_.director_.fleet_.live().in_flight_tokens[target_.slot].fetch_sub(claimed_tokens_,
                                                                         std::memory_order_relaxed);
  claimed_tokens_ = 0;
}

void Flight::Release() {
  if (!claimed_) return;
  ReleaseTokens();
  lane_.director_.fleet_.live().in_flight_requests[target_.slot].fetch_sub(
      1, std::memory_order_relaxed);
  claimed_ = false;
}

bool Flight::OnTryFailed(TryFailure failure, Time now) {
  if (ended_ || !claimed_) return false;
  const Turn turn(lane_.director_.fleet_.journal());
  lane_.are_columns_filled_ = false;
  const bool goes_on = TryElsewhere(failure, now);
  if (turn) {
    turn->OnTryFailed(journal_number_, failure, goes_on ? target_.name : std::string_view(),
                      lane_.Matches(), now);
  }
  return goes_on;
}

bool Flight::TryElsewhere(TryFailure failure, Time now) {
  Director& director = lane_.director_;
  record_->attempts.back().failure = TryFailureName(failure);
  if (failure == TryFailure::kConnect || failure == TryFailure::kReset) {
    director.fleet_.ConnectFailed(
        target_.slot,
        failure == TryFailure::kConnect ? "could not connect" : "connection reset before an answer",
        now);
  }
  Release();  // not before the report: until then the slot is this endpoint's
  if (first_chunk_ || failure == TryFailure::kTimeout) return false;
  if (tries_ >= director.options_.max_tries) return false;
  tried_slots_.push_back(target_.slot);
  Rejection ignored;
  if (!lane_.CanRetry(*this) || !director.retries_.TryTake()) return false;
  return lane_.Decide(*this, now, &ignored);
}

bool Flight::OnServedBy(std::string_view address, Time now) {
  if (ended_ || !claimed_ || first_chunk_ || address == target_.destination()) return false;
  const Turn turn(lane_.director_.fleet_.journal());
  const bool has_moved = MoveTo(address, now);
  if (turn && has_moved) {
    turn->OnServedBy(journal_number_, target_.name, lane_.Matches(), now);
  }
  return has_moved;
}

bool Flight::MoveTo(std::string_view address, Time now) {
  Director& director = lane_.director_;
  const std::shared_ptr<const model::PoolSnapshot> pool =
      lane_.pool_.Load(director.fleet_.snapshot());
  const auto found = std::ranges::find(pool->endpoints, address, &model::EndpointInfo::address);
  if (found == pool->endpoints.end()) return false;
  record_->attempts.back().failure = "passed_over";
  director.fleet_.ConnectFailed(target_.slot, "the proxy went on to a fallback", now);
  Release();
  lane_.FillColumns(*this, *pool, now);
  lane_.trace_.Clear();
  lane_.Claim(*this, pool, static_cast<uint32_t>(found - pool->endpoints.begin()), nullptr, now);
  return true;
}

void Flight::SetRecordedMatches(std::vector<std::optional<sched::ToldMatches>> told) {
  told.resize(context_.prefix_keys.size());
  for (size_t i = 0; i < told.size(); ++i) context_.prefix_keys[i].recorded = std::move(told[i]);
}

void Flight::OnFirstChunk(Time now) {
  if (ended_ || first_chunk_) return;
  const Turn turn(lane_.director_.fleet_.journal());
  if (turn) turn->OnFirstChunk(journal_number_, now);
  first_chunk_ = true;
  if (!lane_.director_.scheduler_->ChargesTheAnswer()) ReleaseTokens();
  record_->ttft_s = ToSeconds(now - record_->arrived);
  lane_.director_.scheduler_->OnFirstChunk(context_, target_.slot, now);
}

void Flight::OnEnd(EndKind kind, int status, std::string_view reason, const ReportedUsage& usage,
                   Time now) {
  if (ended_) return;
  {
    const Turn turn(lane_.director_.fleet_.journal());
    SettleEnd(kind, status, reason, usage, now);
    if (turn) turn->OnEnded(journal_number_, *record_, now);
  }
  PublishRecord(now);
}

void Flight::SettleEnd(EndKind kind, int status, std::string_view reason,
                       const ReportedUsage& usage, Time now) {
  ended_ = true;
  if (tries_ > 0) {
    sched::Ended ended{.slot = target_.slot, .now = now, .has_answered = first_chunk_};
    if (usage.known) ended.input_tokens = usage.input_tokens;
    if (usage.cached_known) ended.cached_tokens = usage.cached_tokens;
    lane_.director_.scheduler_->OnEnded(context_, ended);
  }
  Release();
  record_->end = kind;
  record_->status = status;
  record_->reason = reason;
  record_->e2e_s = ToSeconds(now - record_->arrived);
  record_->usage_known = usage.known;
  record_->reported_input_tokens = usage.input_tokens;
  record_->output_tokens = usage.output_tokens;
  record_->cached_known = usage.cached_known;
  record_->cached_tokens = usage.cached_tokens;
}

void Flight::PublishRecord(Time now) {
  Director& director = lane_.director_;
  if (director.options_.on_record) director.options_.on_record(*record_, now);
  director.decisions_.Add(record_);
}

// --- Lane

Lane::Lane(Director& director, uint64_t seed) : director_(director), random_(seed) {
  const Turn turn(director.fleet_.journal());
  if (turn) journal_number_ = turn->OnLane(seed);
}

void Lane::Measure(sched::RequestContext& context) {
  if (arrivals_++ % DirectorOptions::kMeasureEvery == 0) {
    context.stopwatch = director_.options_.stopwatch;
  }
}

std::string Lane::Describe(sched::RequestContext& context) {
  Journal* const journal = director_.fleet_.journal();
  return journal != nullptr && journal->is_open() ? journal->Describe(&context) : std::string();
}

std::unique_ptr<Flight> Lane::MakeFlight() { return std::unique_ptr<Flight>(new Flight(*this)); }

sched::RequestContext Lane::Begin(model::Request&& request) {
  sched::RequestContext context;
  context.request = std::move(request);
  Measure(context);
  return context;
}

Arrival Lane::Arrive(model::Request&& request, Time now, int64_t unix_micros) {
  std::unique_ptr<Flight> flight = MakeFlight();
  sched::RequestContext& context = flight->context_;
  context.request = std::move(request);
  Measure(context);
  director_.scheduler_->Prepare(context, now);
  std::string described = Describe(context);
  sched::RequestContext rejected;
  Arrival arrival = Admit(std::move(flight), std::move(described), now, unix_micros, &rejected);
  if (arrival.flight == nullptr) request = std::move(rejected.request);
  return arrival;
}

Arrival Lane::Proceed(sched::RequestContext&& context, Time now, int64_t unix_micros) {
  std::string described = Describe(context);
  std::unique_ptr<Flight> flight = MakeFlight();
  flight->context_ = std::move(context);
  return Admit(std::move(flight), std::move(described), now, unix_micros, &context);
}

Arrival Lane::ArrivePrepared(sched::RequestContext&& context, Time now, int64_t unix_micros) {
  std::unique_ptr<Flight> flight = MakeFlight();
  flight->context_ = std::move(context);
  return Admit(std::move(flight), "", now, unix_micros, &context);
}

Arrival Lane::Admit(std::unique_ptr<Flight> admitted, std::string described, Time now,
                    int64_t unix_micros, sched::RequestContext* rejected) {
  Arrival arrival;
  arrival.flight = std::move(admitted);
  Flight& flight = *arrival.flight;
  flight.record_ = std::make_shared<DecisionRecord>();
  DecisionRecord& record = *flight.record_;
  model::Request& request = flight.context_.request;
  request.prompt = {};
  request.source = {};
  record.estimated_because = flight.context_.tokens.unknown_because;
  flight.context_.tokens = {};
  record.request_id = request.id;
  record.api = request.api;
  record.model = request.model;
  record.stream = request.stream;
  record.body_bytes = request.body_bytes;
  record.subset = request.subset;
  record.unix_micros = unix_micros;
  record.arrived = now;
  record.input_tokens = flight.context_.input_tokens;
  bool is_admitted = false;
  {
    const Turn turn(director_.fleet_.journal());
    director_.retries_.OnRequest();
    are_columns_filled_ = false;
    is_admitted = Decide(flight, now, &arrival.rejection);
    if (!is_admitted) {
      flight.SettleEnd(EndKind::kRejected, arrival.rejection.status, arrival.rejection.message, {},
                       now);
    }
    if (turn) {
      flight.journal_number_ = turn->OnArrived(journal_number_, std::move(described), record,
                                               record.status, Matches(), now);
    }
  }
  if (is_admitted) return arrival;
  flight.PublishRecord(now);
  *rejected = std::move(flight.context_);
  arrival.flight.reset();
  return arrival;
}

bool Lane::MarkCandidates(const Flight& flight, const model::PoolSnapshot& pool,
                          Rejection* rejection) {
  const std::string& name = flight.context_.request.target_model;
  const Mask* serving = name.empty() ? &pool.healthy : pool.Serving(name);
  if (serving == nullptr) {
    // An endpoint that has not said what it serves may serve it, now or when it is healthy.
    if (std::all_of(pool.endpoints.begin(), pool.endpoints.end(),
                    [](const model::EndpointInfo& e) { return e.models_known; }) &&
        !pool.models.empty()) {
      *rejection = UnknownModel(name, pool);
      return false;
    }
    serving = &pool.models_unknown;
  }
  candidates_ = *serving;
  if (const model::Subset& subset = flight.context_.request.subset) {
    candidates_.Keep(
        [&](size_t i) { return model::IsAllowed(subset, pool.endpoints[i].spec.host); });
    if (candidates_.Empty()) {
      *rejection = {503, "no_endpoint",
                    "None of the " + std::to_string(subset->size()) +
                        " endpoints that the proxy allows can serve the request now."};
      return false;
    }
  }
  if (!flight.tried_slots_.empty()) {
    candidates_.Keep([&](size_t i) {
      return std::find(flight.tried_slots_.begin(), flight.tried_slots_.end(),
                       pool.endpoints[i].slot) == flight.tried_slots_.end();
    });
  }
  if (candidates_.Empty()) {
    *rejection = NobodyHealthy(name, pool);
    return false;
  }
  return true;
}

bool Lane::CanRetry(const Flight& flight) {
  Rejection ignored;
  return MarkCandidates(flight, *pool_.Load(director_.fleet_.snapshot()), &ignored);
}

void Lane::FillColumns(const Flight& flight, const model::PoolSnapshot& pool, Time now) {
  director_.scheduler_->FillColumns(flight.context_, pool, director_.fleet_.live(), now, &columns_);
  are_columns_filled_ = true;
}

bool Lane::Decide(Flight& flight, Time now, Rejection* rejection) {
  const std::shared_ptr<const model::PoolSnapshot> pool = pool_.Load(director_.fleet_.snapshot());
  if (!MarkCandidates(flight, *pool, rejection)) return false;
  sched::Scheduler& scheduler = *director_.scheduler_;
  FillColumns(flight, *pool, now);
  scheduler.Schedule(flight.context_, columns_, candidates_, random_, workspace_, &trace_,
                     &decision_);
  if (decision_.verdict != sched::Verdict::kPicked) {
    *rejection =
        decision_.verdict == sched::Verdict::kNoCandidates
            ? NobodyHealthy(flight.context_.request.target_model, *pool)
            : Rejection{429, "saturated",
                        "No engine can take the request now: the filter '" +
                            std::string(decision_.drained_by) + "' left none. Retry later."};
    return false;
  }
  Claim(flight, pool, decision_.picks.front(), &decision_.scored, now);
  // A detour's header names one endpoint only.
  const size_t usable = scheduler.detour() ? 1 : decision_.picks.size();
  for (size_t i = 1; i < usable; ++i) {
    flight.target_.fallbacks.push_back(pool->endpoints[decision_.picks[i]].address);
  }
  return true;
}

void Lane::Claim(Flight& flight, const std::shared_ptr<const model::PoolSnapshot>& pool,
                 uint32_t column, const Mask* scored, Time now) {
  sched::Scheduler& scheduler = *director_.scheduler_;
  const model::EndpointInfo& endpoint = pool->endpoints[column];
  Record(flight, pool, column, now);
  flight.target_ = TargetOf(endpoint, scheduler.detour());
  flight.Claim(endpoint.slot,
               std::max<int64_t>(0, scheduler.TokensToCharge(flight.context_, columns_, column)));
  ++flight.tries_;
  auto& headers = flight.context_.request_headers;
  headers.clear();
  scheduler.OnPicked(flight.context_, columns_, {column, endpoint.slot, now, scored});
  flight.target_.headers.insert(flight.target_.headers.end(), headers.begin(), headers.end());
}

void Lane::Record(Flight& flight, const std::shared_ptr<const model::PoolSnapshot>& pool,
                  uint32_t column, Time now) {
  Attempt& attempt = flight.record_->attempts.emplace_back();
  const model::EndpointInfo& endpoint = pool->endpoints[column];
  attempt.endpoint = endpoint.spec.name;
  attempt.address = endpoint.address;
  attempt.slot = endpoint.slot;
  attempt.dispatched = now;
  attempt.pool = pool;
  Arena& memory = trace_.memory;
  attempt.waiting = memory.Copy(columns_.waiting);
  attempt.running = memory.Copy(columns_.running);
  attempt.kv_usage = memory.Copy(columns_.kv_usage);
  attempt.in_flight_requests = memory.Copy(columns_.in_flight_requests);
  attempt.in_flight_tokens = memory.Copy(columns_.in_flight_tokens);
  attempt.uncached_tokens = memory.Copy(columns_.uncached_tokens);
  if (!columns_.prefix.empty()) {
    const model::PrefixColumn& prefix = columns_.prefix.front();
    attempt.matched_blocks = memory.Copy(prefix.matched_blocks);
    attempt.hit_blocks = attempt.matched_blocks[column];
    attempt.match_sources = memory.Copy(prefix.sources);
    attempt.told_blocks = memory.Copy(prefix.told_blocks);
    attempt.total_blocks = prefix.total_blocks;
    attempt.block_size_tokens = prefix.block_size_tokens;
  }
  attempt.trace = std::move(trace_);  // last: its memory learns how much it takes
}

// --- Director

Director::Director(Fleet& fleet, std::unique_ptr<sched::Scheduler> scheduler,
                   DirectorOptions options)
    : fleet_(fleet),
      scheduler_(std::move(scheduler)),
      options_(std::move(options)),
      retries_(options_.retry_budget_ratio),
      decisions_(options_.decision_log_bytes) {
  fleet_.SetObserver(this);
}

Director::~Director() { fleet_.SetObserver(nullptr); }

void Director::Tick(Time now) {
  const Turn turn(fleet_.journal());
  if (turn) turn->OnTick(now);
  scheduler_->OnTick(now);
}

void Director::OnEndpointRemoved(uint32_t slot) { scheduler_->OnEndpointRemoved(slot); }

void Director::OnEndpointRestarted(uint32_t slot) { scheduler_->OnEndpointRestarted(slot); }

void Director::OnEndpointChanged(const model::EndpointInfo& info) {
  scheduler_->OnEndpointChanged(info);
}

}  // namespace penstock::director
