#include "lab/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <string_view>
#include <utility>

#include "director/director.h"
#include "lab/key_memo.h"
#include "lab/kv_feed.h"
#include "lab/prompts.h"

namespace penstock::lab {
namespace {

// Virtual time begins late enough that no "never" (0) can be mistaken for a moment.
constexpr Time kEpoch = Time(seconds(1'000'000));
constexpr int64_t kUnixMicros = 1'800'000'000'000'000;
constexpr Duration kTick = seconds(1);
constexpr std::string_view kModel = "model";
constexpr std::string_view kSessionHeader = "x-session-id";
constexpr std::string_view kFairnessHeader = "x-llm-d-inference-fairness-id";

struct Event {
  enum class Kind : uint8_t {
    kReach,
    kStepEnd,
    kWake,
    kBlocks,
    kFirst,
    kEnd,
    kScrape,
    kTick,
    kIncident
  };
  Time at;
  uint64_t order = 0;  // of insertion: ties go by it
  Kind kind = Kind::kTick;
  uint32_t index = 0;  // of an engine or incident
  uint64_t id = 0;     // of a request, an engine's life or its wake
  bool operator>(const Event& other) const {
    return at != other.at ? at > other.at : order > other.order;
  }
};

// A request in flight.
struct Active {
  uint32_t generation = 0;  // odd: in use
  workload::Job job;
  uint64_t number = 0;
  std::unique_ptr<director::Flight> flight;
  std::string session;
  Time arrived, first;
  uint32_t engine = 0;
  uint32_t cached = 0;
  std::shared_ptr<const engine::KvContent> content;  // in the engine, when somebody hears of it
  bool is_in_engine = false;
  bool was_scheduled = false;  // by the engine; a preempted one is scheduled again
  bool has_begun = false;      // the gateway has heard of the first token
};

struct SimEngine {
  std::unique_ptr<KvFeed> feed;  // null: nobody hears of its blocks
  std::unique_ptr<engine::Engine> engine;
  bool is_up = true;
  bool is_member = true;
  bool is_stepping = false;
  uint64_t life = 0;  // raised by each failure
  uint64_t wake = 0;  // of several wakes, the last one counts
  double started_at = 1;
  Time up_since = kEpoch;
  double up_seconds = 0;
};

std::string AdapterName(uint32_t lora) { return fmt::format("lora-{}", lora); }

}  // namespace

class Replay::Impl {
 public:
  Impl(ReplayOptions options, std::unique_ptr<sched::Scheduler> scheduler)
      : options_(std::move(options)),
        fleet_(std::max<size_t>(1, options_.engines.size())),
        director_(fleet_, std::move(scheduler),
                  {.max_tries = options_.max_tries,
                   .retry_budget_ratio = options_.retry_budget_ratio,
                   .decision_log_bytes = 0}),
        lane_(director_, options_.seed),
        knows_(options_.engines_tell ? director_.scheduler().knows_caches() : nullptr) {}

  Result<ReplayTotals> Run(workload::Source& source, const Observer& observer,
                           const Progress& progress);

 private:
  Result<> MakeEngines();
  Result<> UpdateFleet();
  // Whose blocks stand where in the index.
  void UpdateSlots(const model::PoolSnapshot& pool);
  // The tokens of what the request will hold, for whoever hears of blocks.
  std::shared_ptr<const engine::KvContent> ContentOf(const workload::Job& job,
                                                     std::vector<uint64_t> hashes);
  void Left(Active& active);
  void SendBlocks(uint32_t index);
  void Push(Time at, Event::Kind kind, uint32_t index, uint64_t id = 0) {
    heap_.push_back({at, next_order_++, kind, index, id});
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  Event Pop() {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const Event event = heap_.back();
    heap_.pop_back();
    return event;
  }
  // Nothing: no more requests are taken, or none is known before an answer ends.
  std::optional<Time> NextArrival() const;
  Result<> Handle(const Event& event);

  void Arrive();
  // What the plugins learn of a request while its prompt can be read.
  void Prepare(const workload::Job& job, sched::RequestContext* context);
  void Dispatch(uint32_t slot_of_active);
  void Reach(uint64_t id);
  void BeginStep(uint32_t index);
  void EndStep(uint32_t index);
  void Wake(uint32_t index);
  void First(uint64_t id);
  void End(uint64_t id);
  void TryFailed(uint32_t active, director::TryFailure failure);
  void Scrape(uint32_t index);
  Result<> Happen(const Incident& incident);
  void Fail(uint32_t index);

  uint32_t TakeActive();
  // The request of an id, or nothing when it has ended since.
  Active* Find(uint64_t id) {
    Active& active = actives_[static_cast<uint32_t>(id)];
    return active.generation == id >> 32 ? &active : nullptr;
  }
  uint64_t IdOf(uint32_t active) const {
    return (uint64_t{actives_[active].generation} << 32) | active;
  }
  void Finish(uint32_t active, bool is_served, int status);

  const ReplayOptions options_;
  director::Fleet fleet_;
  director::Director director_;
  director::Lane lane_;
  sched::KnowsCaches* const knows_;  // null: nobody
  std::vector<SimEngine> engines_;
  std::vector<uint32_t> engine_of_slot_;
  workload::Source* source_ = nullptr;
  const Observer* observer_ = nullptr;

  Time now_ = kEpoch;
  std::vector<Event> heap_;
  uint64_t next_order_ = 0;
  std::deque<Active> actives_;
  std::vector<uint32_t> free_actives_;
  uint64_t in_flight_ = 0;
  // As of the last look at the source, which changes its mind only when it gave or was told of
  // something: an engine's step need not ask.
  std::optional<Time> next_arrival_;
  bool has_source_moved_ = true;
  std::string prompt_;
  std::vector<KeyMemo> key_memos_;  // of each prefix producer, once a request told how many
  ReplayTotals totals_;
};

Result<> Replay::Impl::MakeEngines() {
  engines_.resize(options_.engines.size());
  for (size_t i = 0; i < engines_.size(); ++i) {
    engine::EngineOptions engine_options = options_.engines[i].options;
    engine_options.tells_every_token = false;
    if (knows_ != nullptr) {
      auto feed = KvFeed::Create(knows_->caches(), engine_options.block_size,
                                 engine_options.num_blocks, now_);
      if (!feed) return std::unexpected(feed.error());
      engines_[i].feed = std::move(*feed);
      engine_options.block_listener = &engines_[i].feed->listener();
    }
    auto engine = engine::Engine::Create(engine_options);
    if (!engine) {
      return penstock::Fail(engine.error().code,
                            options_.engines[i].name + ": " + engine.error().message);
    }
    engines_[i].engine = std::move(*engine);
  }
  for (const uint32_t absent : options_.absent) {
    if (absent >= engines_.size()) {
      return penstock::Fail(Code::kInvalidArgument, fmt::format("there is no engine {}", absent));
    }
    engines_[absent].is_member = false;
  }
  for (size_t i = 0; i < options_.incidents.size(); ++i) {
    const Incident& incident = options_.incidents[i];
    if (incident.engine >= engines_.size()) {
      return penstock::Fail(Code::kInvalidArgument,
                            fmt::format("incident {}: there is no engine {}", i, incident.engine));
    }
    Push(kEpoch + incident.at, Event::Kind::kIncident, static_cast<uint32_t>(i));
  }
  return UpdateFleet();
}

Result<> Replay::Impl::UpdateFleet() {
  std::vector<model::EndpointSpec> specs;
  std::vector<uint32_t> members;
  for (uint32_t i = 0; i < engines_.size(); ++i) {
    if (!engines_[i].is_member) continue;
    model::EndpointSpec spec;
    spec.name = options_.engines[i].name;
    spec.host = fmt::format("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255);
    spec.port = 8000;
    specs.push_back(std::move(spec));
    members.push_back(i);
  }
  if (auto replaced = fleet_.Replace(std::move(specs)); !replaced) return replaced;
  const auto pool = fleet_.snapshot().Get();
  for (const model::EndpointInfo& endpoint : pool->endpoints) {
    if (engine_of_slot_.size() <= endpoint.slot) engine_of_slot_.resize(endpoint.slot + 1);
    const auto found = std::find_if(members.begin(), members.end(), [&](uint32_t i) {
      return options_.engines[i].name == endpoint.spec.name;
    });
    engine_of_slot_[endpoint.slot] = *found;
  }
  if (knows_ != nullptr) UpdateSlots(*pool);
  return {};
}

void Replay::Impl::UpdateSlots(const model::PoolSnapshot& pool) {
  auto table = std::make_shared<kvcache::SlotTable>();
  for (const uint32_t slot : pool.slots) {
    if (slot >= table->entries.size()) table->entries.resize(slot + 1);
    table->entries[slot] = engines_[engine_of_slot_[slot]].feed->entry();
  }
  knows_->caches().SetTable(std::move(table));
}

std::optional<Time> Replay::Impl::NextArrival() const {
  if (totals_.requests >= options_.max_requests) return std::nullopt;
  const std::optional<Duration> next = source_->NextAt();
  if (!next || (options_.until && *next > *options_.until)) return std::nullopt;
  return kEpoch + *next;
}

Result<ReplayTotals> Replay::Impl::Run(workload::Source& source, const Observer& observer,
                                       const Progress& progress) {
  source_ = &source;
  observer_ = &observer;
  if (auto made = MakeEngines(); !made) return std::unexpected(made.error());
  const auto count = static_cast<int64_t>(engines_.size());
  for (uint32_t i = 0; i < engines_.size(); ++i) {
    Scrape(i);  // a gateway begins with a first round
    Push(kEpoch + options_.scrape_interval * (i + 1) / count, Event::Kind::kScrape, i);
  }
  Push(kEpoch + kTick, Event::Kind::kTick, 0);
  while (true) {
    if (has_source_moved_) next_arrival_ = NextArrival();
    has_source_moved_ = false;
    if (!next_arrival_ && in_flight_ == 0) break;
    if (next_arrival_ && *next_arrival_ < heap_.front().at) {
      now_ = std::max(now_, *next_arrival_);
      Arrive();
      continue;
    }
    const Event event = Pop();
    now_ = event.at;
    if (event.kind == Event::Kind::kTick && progress) progress(now_ - kEpoch);
    if (auto handled = Handle(event); !handled) return std::unexpected(handled.error());
  }
  if (const std::optional<Error> failure = source.Failure()) return std::unexpected(*failure);
  for (size_t i = 0; i < engines_.size(); ++i) {
    SimEngine& sim = engines_[i];
    const engine::EngineStats stats = sim.engine->Stats();
    totals_.steps += stats.steps;
    totals_.preemptions += stats.preemptions;
    totals_.external_hit_tokens += stats.external_hit_tokens;
    if (sim.is_up && sim.is_member) sim.up_seconds += ToSeconds(now_ - sim.up_since);
    totals_.accelerator_seconds += sim.up_seconds * options_.engines[i].accelerators;
  }
  return totals_;
}

Result<> Replay::Impl::Handle(const Event& event) {
  switch (event.kind) {
    case Event::Kind::kReach:
      Reach(event.id);
      return {};
    case Event::Kind::kStepEnd:
      if (engines_[event.index].life == event.id) EndStep(event.index);
      return {};
    case Event::Kind::kWake:
      if (engines_[event.index].wake == event.id) Wake(event.index);
      return {};
    case Event::Kind::kBlocks:
      engines_[event.index].feed->Receive(now_);
      return {};
    case Event::Kind::kFirst:
      First(event.id);
      return {};
    case Event::Kind::kEnd:
      End(event.id);
      return {};
    case Event::Kind::kScrape:
      Scrape(event.index);
      Push(now_ + options_.scrape_interval, Event::Kind::kScrape, event.index);
      return {};
    case Event::Kind::kTick:
      director_.Tick(now_);
      if (knows_ != nullptr) {
        for (SimEngine& sim : engines_) sim.feed->Tick(now_);
      }
      Push(now_ + kTick, Event::Kind::kTick, 0);
      return {};
    case Event::Kind::kIncident:
      return Happen(options_.incidents[event.index]);
  }
  return {};
}

uint32_t Replay::Impl::TakeActive() {
  uint32_t index = 0;
  if (free_actives_.empty()) {
    index = static_cast<uint32_t>(actives_.size());
    actives_.emplace_back();
  } else {
    index = free_actives_.back();
    free_actives_.pop_back();
  }
  Active& active = actives_[index];
  ++active.generation;
  active.cached = 0;
  active.is_in_engine = active.was_scheduled = active.has_begun = false;
  ++in_flight_;
  return index;
}

void Replay::Impl::Arrive() {
  const uint32_t index = TakeActive();
  Active& active = actives_[index];
  active.job = source_->Take();
  has_source_moved_ = true;
  active.number = totals_.requests++;
  active.arrived = now_;

  sched::RequestContext context;
  model::Request& request = context.request;
  request.id = fmt::format("r{}", active.number);
  request.api = model::Api::kCompletions;
  request.model = request.target_model =
      active.job.lora == 0 ? std::string(kModel) : AdapterName(active.job.lora);
  request.stream = active.job.is_streamed;
  request.max_output_tokens = active.job.max_output_tokens;
  if (active.job.session != 0) {
    active.session = fmt::format("s{}", active.job.session);
    request.headers.push_back({kSessionHeader, active.session});
  }
  if (!active.job.fairness_id.empty()) {
    request.headers.push_back({kFairnessHeader, active.job.fairness_id});
  }
  RenderPrompt(active.job.prompt, &prompt_);
  request.body_bytes = prompt_.size();
  const model::PromptPart part{prompt_, true};
  request.prompt = {&part, 1};
  request.source.holds_ids = knows_ != nullptr;
  Prepare(active.job, &context);
  director::Arrival arrival = lane_.ArrivePrepared(
      std::move(context), now_,
      kUnixMicros + std::chrono::duration_cast<microseconds>(now_ - kEpoch).count());
  ++totals_.decisions;
  if (arrival.flight == nullptr) return Finish(index, false, arrival.rejection.status);
  active.flight = std::move(arrival.flight);
  Dispatch(index);
}

void Replay::Impl::Prepare(const workload::Job& job, sched::RequestContext* context) {
  context->prefix_keys.resize(key_memos_.size());
  for (size_t i = 0; i < key_memos_.size(); ++i) {
    key_memos_[i].Recall(job.prompt, job.lora, &context->prefix_keys[i]);
  }
  director_.scheduler().Prepare(*context, now_);
  key_memos_.resize(context->prefix_keys.size());
  for (size_t i = 0; i < key_memos_.size(); ++i) {
    key_memos_[i].Remember(job.prompt, job.lora, context->prefix_keys[i]);
  }
}

void Replay::Impl::Dispatch(uint32_t index) {
  Active& active = actives_[index];
  active.engine = engine_of_slot_[active.flight->target().slot];
  for (const uint64_t word : {active.number, static_cast<uint64_t>(ToNanos(now_)),
                              static_cast<uint64_t>(active.engine)}) {
    totals_.digest = (totals_.digest ^ word) * 0x100000001b3ULL;
    totals_.digest ^= totals_.digest >> 29;
  }
  Push(now_ + options_.network, Event::Kind::kReach, active.engine, IdOf(index));
}

void Replay::Impl::Reach(uint64_t id) {
  Active* const active = Find(id);
  if (active == nullptr) return;
  const auto index = static_cast<uint32_t>(id);
  SimEngine& sim = engines_[active->engine];
  if (!sim.is_up) return TryFailed(index, director::TryFailure::kConnect);
  engine::Request request;
  request.id = id;
  request.prompt_tokens = static_cast<uint32_t>(active->job.prompt_tokens());
  request.output_tokens = active->job.output_tokens;
  request.lora = active->job.lora;
  request.priority = active->job.priority;
  const engine::EngineOptions& options = sim.engine->options();
  request.block_hashes = BlockHashes(active->job, options.block_size, active->job.lora);
  if (sim.feed != nullptr) {
    active->content = ContentOf(active->job, request.block_hashes);
    sim.feed->Begin(active->content);
  }
  if (auto submitted = sim.engine->Submit(std::move(request)); !submitted) {
    const int status = submitted.error().code == Code::kResourceExhausted ? 429 : 400;
    Left(*active);
    active->flight->OnFirstChunk(now_);
    active->flight->OnEnd(director::EndKind::kComplete, status, submitted.error().message, {},
                          now_);
    return Finish(index, false, status);
  }
  active->is_in_engine = true;
  if (!sim.is_stepping) BeginStep(active->engine);
}

std::shared_ptr<const engine::KvContent> Replay::Impl::ContentOf(const workload::Job& job,
                                                                 std::vector<uint64_t> hashes) {
  std::vector<workload::Piece> pieces = job.prompt;
  pieces.push_back({job.output_content, job.output_tokens});
  RenderPrompt(pieces, &prompt_);
  auto content = std::make_shared<engine::KvContent>();
  content->hashes = std::move(hashes);
  content->tokens.resize(prompt_.size() / sizeof(uint32_t));
  std::memcpy(content->tokens.data(), prompt_.data(), prompt_.size());
  if (job.lora != 0) content->adapter = AdapterName(job.lora);
  return content;
}

// Its engine has done with it.
void Replay::Impl::Left(Active& active) {
  active.is_in_engine = false;
  if (active.content == nullptr) return;
  engines_[active.engine].feed->End(*active.content);
  active.content.reset();
}

void Replay::Impl::SendBlocks(uint32_t index) {
  const std::unique_ptr<KvFeed>& feed = engines_[index].feed;
  if (feed != nullptr && feed->Send()) {
    Push(now_ + options_.network, Event::Kind::kBlocks, index);
  }
}

void Replay::Impl::BeginStep(uint32_t index) {
  SimEngine& sim = engines_[index];
  const engine::Step step = sim.engine->BeginStep(now_);
  SendBlocks(index);
  for (const engine::Event& event : step.events) {
    if (event.kind != engine::Event::Kind::kScheduled) continue;
    Active* const active = Find(event.id);
    // What it finds the second time are its own blocks.
    if (active == nullptr || std::exchange(active->was_scheduled, true)) continue;
    active->cached = event.count;
  }
  sim.is_stepping = step.load.sequences > 0;
  if (!sim.is_stepping) {
    (void)sim.engine->EndStep();  // nothing could run: no events
    ++sim.wake;
    if (sim.engine->HasWork()) Push(now_ + step.duration, Event::Kind::kWake, index, sim.wake);
    return;
  }
  Push(now_ + step.duration, Event::Kind::kStepEnd, index, sim.life);
}

void Replay::Impl::EndStep(uint32_t index) {
  SimEngine& sim = engines_[index];
  sim.is_stepping = false;
  for (const engine::Event& event : sim.engine->EndStep()) {
    if (event.kind == engine::Event::Kind::kToken && event.count > 1) continue;
    Active* const active = Find(event.id);
    if (active == nullptr) continue;
    if (event.kind == engine::Event::Kind::kToken) {
      if (active->job.is_streamed)
        Push(now_ + options_.network, Event::Kind::kFirst, index, event.id);
    } else if (event.kind == engine::Event::Kind::kFinished) {
      Left(*active);
      Push(now_ + options_.network, Event::Kind::kEnd, index, event.id);
    }
  }
  SendBlocks(index);
  if (sim.engine->HasWork()) BeginStep(index);
}

// The transfer is over that an engine with nothing else to do waited for.
void Replay::Impl::Wake(uint32_t index) {
  SimEngine& sim = engines_[index];
  if (!sim.is_stepping && sim.engine->HasWork()) BeginStep(index);
}

void Replay::Impl::First(uint64_t id) {
  Active* const active = Find(id);
  if (active == nullptr || std::exchange(active->has_begun, true)) return;
  active->first = now_;
  active->flight->OnFirstChunk(now_);
}

void Replay::Impl::End(uint64_t id) {
  Active* const active = Find(id);
  if (active == nullptr) return;
  First(id);
  director::ReportedUsage usage;
  usage.known = usage.cached_known = true;
  usage.input_tokens = active->job.prompt_tokens();
  usage.output_tokens = active->job.output_tokens;
  usage.cached_tokens = active->cached;
  active->flight->OnEnd(director::EndKind::kComplete, 200, "", usage, now_);
  Finish(static_cast<uint32_t>(id), true, 200);
}

void Replay::Impl::TryFailed(uint32_t index, director::TryFailure failure) {
  Active& active = actives_[index];
  Left(active);
  if (!active.has_begun && active.flight->OnTryFailed(failure, now_)) {
    ++totals_.decisions;
    active.generation += 2;  // nothing that is on its way from the first engine concerns it now
    active.was_scheduled = false;
    active.cached = 0;
    return Dispatch(index);
  }
  active.flight->OnEnd(director::EndKind::kEngineGone, active.has_begun ? 200 : 502, "engine gone",
                       {}, now_);
  Finish(index, false, active.has_begun ? 200 : 502);
}

void Replay::Impl::Finish(uint32_t index, bool is_served, int status) {
  Active& active = actives_[index];
  Outcome outcome{.job = active.job, .number = active.number};
  outcome.is_served = is_served;
  outcome.status = status;
  outcome.e2e = now_ - active.arrived;
  if (active.flight != nullptr) outcome.tries = active.flight->tries();
  if (is_served) {
    outcome.engine = active.engine;
    outcome.cached_tokens = active.cached;
    outcome.ttft = active.first - active.arrived;
  }
  totals_.end = now_ - kEpoch;
  (*observer_)(outcome);
  source_->OnEnd(active.job, {now_ - kEpoch, is_served});
  has_source_moved_ = true;
  active.flight.reset();
  ++active.generation;
  free_actives_.push_back(index);
  --in_flight_;
}

void Replay::Impl::Scrape(uint32_t index) {
  const SimEngine& sim = engines_[index];
  if (!sim.is_member) return;
  for (uint32_t slot = 0; slot < engine_of_slot_.size(); ++slot) {
    if (engine_of_slot_[slot] != index) continue;
    if (!sim.is_up) {
      fleet_.ScrapeFailed(slot, "connection refused", now_);
      continue;
    }
    const engine::EngineStats stats = sim.engine->Stats();
    director::EngineSignals signals;
    signals.waiting = static_cast<float>(stats.waiting);
    signals.running = static_cast<float>(stats.running);
    signals.kv_usage =
        static_cast<float>(stats.used_blocks) / static_cast<float>(std::max(1U, stats.num_blocks));
    signals.block_size_tokens = sim.engine->options().block_size;
    signals.gpu_blocks = stats.num_blocks;
    signals.started_at = sim.started_at;
    fleet_.Scraped(slot, signals, now_);
  }
}

Result<> Replay::Impl::Happen(const Incident& incident) {
  SimEngine& sim = engines_[incident.engine];
  switch (incident.kind) {
    case Incident::Kind::kFail:
      Fail(incident.engine);
      return {};
    case Incident::Kind::kStart:
      if (!sim.is_up) {
        sim.is_up = true;
        sim.up_since = now_;
        sim.started_at = ToSeconds(now_ - kEpoch) + 2;
      }
      return {};
    case Incident::Kind::kLeave:
      if (sim.is_member && sim.is_up) sim.up_seconds += ToSeconds(now_ - sim.up_since);
      sim.is_member = false;
      return UpdateFleet();
    case Incident::Kind::kJoin:
      sim.is_member = true;
      sim.up_since = now_;
      return UpdateFleet();
  }
  return {};
}

void Replay::Impl::Fail(uint32_t index) {
  SimEngine& sim = engines_[index];
  if (!std::exchange(sim.is_up, false)) return;
  if (sim.is_member) sim.up_seconds += ToSeconds(now_ - sim.up_since);
  ++sim.life;  // the step that is under way never ends
  if (sim.engine->in_step()) (void)sim.engine->EndStep();
  sim.engine->Reset();
  if (sim.feed != nullptr) sim.feed->Restart();
  sim.is_stepping = false;
  for (uint32_t i = 0; i < actives_.size(); ++i) {
    Active& active = actives_[i];
    if ((active.generation & 1) != 0 && active.is_in_engine && active.engine == index) {
      TryFailed(i, director::TryFailure::kReset);
    }
  }
}

Replay::Replay(ReplayOptions options, std::unique_ptr<sched::Scheduler> scheduler)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(scheduler))) {}
Replay::~Replay() = default;

Result<ReplayTotals> Replay::Run(workload::Source& source, const Observer& observer,
                                 const Progress& progress) {
  return impl_->Run(source, observer, progress);
}

}  // namespace penstock::lab
