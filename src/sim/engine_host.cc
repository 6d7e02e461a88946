#include "sim/engine_host.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace penstock::sim {
namespace {

// A step that ends later than planned by more than this (a busy machine) moves the schedule;
// smaller delays are made up for.
constexpr Duration kMaxLag = milliseconds(20);

}  // namespace

EngineHost::EngineHost(net::LoopPool& loops, size_t home, std::unique_ptr<engine::Engine> engine,
                       EngineMetrics& metrics, double speed, std::unique_ptr<engine::KvLog> log)
    : loops_(loops),
      home_(home),
      loop_(loops.at(home)),
      log_(std::move(log)),
      engine_(std::move(engine)),
      metrics_(metrics),
      speed_(speed),
      sinks_(loops.size()),
      outbox_(loops.size()),
      epoch_(loop_.Now()),
      timer_(loop_, [this] { OnStepEnd(); }) {
  metrics_.Update(*engine_);
}

void EngineHost::SetPublisher(KvPublisher* publisher, size_t engine) {
  publisher_ = publisher;
  engine_number_ = engine;
}

void EngineHost::SetSink(size_t loop, Sink sink) { sinks_[loop] = std::move(sink); }

template <class Task>
void EngineHost::AtHome(size_t from, Task task) {
  if (from == home_) {
    task();
  } else {
    loop_.Post(std::move(task));
  }
}

void EngineHost::Submit(size_t from, std::vector<Submission> batch) {
  AtHome(from, [this, from, batch = std::move(batch)]() mutable { Accept(from, batch); });
}

void EngineHost::Abort(size_t from, std::vector<uint64_t> ids) {
  AtHome(from, [this, ids = std::move(ids)] {
    for (const uint64_t id : ids) {
      if (!engine_->Abort(id)) continue;
      if (const auto it = flights_.find(id); it != flights_.end()) {
        EndContent(it->second);
        flights_.erase(it);
      }
      metrics_.OnAbort();
    }
    metrics_.Update(*engine_);
  });
}

void EngineHost::Accept(size_t from, std::vector<Submission>& batch) {
  const auto loop = static_cast<uint32_t>(from);
  const uint64_t first_id = batch.front().request.id;
  Delta answer{.id = first_id, .kind = Delta::Kind::kAccepted};
  for (size_t i = 0; i < batch.size(); ++i) {
    const uint64_t id = batch[i].request.id;
    const Flight flight{loop,
                        {.arrival = batch[i].arrival,
                         .prompt_tokens = batch[i].request.prompt_tokens,
                         .max_tokens = batch[i].max_tokens},
                        std::move(batch[i].content)};
    if (Result<> ok = engine_->Submit(std::move(batch[i].request)); !ok) {
      answer.kind = Delta::Kind::kRejected;
      answer.code = ok.error().code;
      for (size_t j = 0; j < i; ++j) {
        engine_->Abort(first_id + j);
        const auto it = flights_.find(first_id + j);
        EndContent(it->second);
        flights_.erase(it);
      }
      break;
    }
    if (flight.content != nullptr) log_->Begin(flight.content);
    flights_.emplace(id, flight);
  }
  Send(loop, answer);
  FlushSoon();
  metrics_.Update(*engine_);
  if (!stepping_ && engine_->HasWork()) BeginStep(loop_.Now());
}

void EngineHost::BeginStep(Time start) {
  const engine::Step step = engine_->BeginStep(EngineTime(start));
  stepping_ = step.load.sequences > 0;
  if (stepping_) metrics_.OnStep(step.load.new_tokens);
  for (const engine::Event& event : step.events) OnEvent(event, start);
  PublishBlocks();
  metrics_.Update(*engine_);
  step_end_ = start + FromSeconds(ToSeconds(step.duration) / speed_);
  // When nothing can run, what is submitted meanwhile does not wait for the timer.
  if (!stepping_) (void)engine_->EndStep();
  timer_.Start(std::max(Duration(0), step_end_ - loop_.Now()));
}

void EngineHost::OnStepEnd() {
  const Time now = loop_.Now();
  // A short delay does not move the next step; after a wait there is no step to follow.
  const bool follows = stepping_ && now - step_end_ <= kMaxLag;
  if (stepping_) {
    for (const engine::Event& event : engine_->EndStep()) OnEvent(event, now);
    PublishBlocks();
  }
  metrics_.Update(*engine_);
  stepping_ = false;
  // The next step is under way before the tokens of this one leave, as on a real engine.
  if (engine_->HasWork()) BeginStep(follows ? step_end_ : now);
  Flush();
}

void EngineHost::OnEvent(const engine::Event& event, Time now) {
  const auto it = flights_.find(event.id);
  if (it == flights_.end()) return;
  Flight& flight = it->second;
  RequestTimes& times = flight.times;
  using Kind = engine::Event::Kind;
  switch (event.kind) {
    case Kind::kScheduled:
      if (times.scheduled != Time{}) return;  // again, after a preemption
      times.scheduled = std::max(now, times.arrival);
      Send(flight.loop, {.id = event.id, .kind = Delta::Kind::kScheduled, .count = event.count});
      return;
    case Kind::kPreempted:
    case Kind::kLoading:
      return;
    case Kind::kToken:
      if (event.count == 1) {
        times.first_token = now;
        metrics_.OnFirstToken(times);
      } else {
        metrics_.OnToken(now - times.last_token);
      }
      times.last_token = now;
      times.output_tokens = event.count;
      Send(flight.loop, {.id = event.id, .kind = Delta::Kind::kToken, .count = event.count});
      return;
    case Kind::kFinished:
      if (times.first_token == Time{}) times.first_token = times.last_token = now;
      metrics_.OnFinish(times, event.reason);
      Send(flight.loop, {.id = event.id,
                         .kind = Delta::Kind::kFinished,
                         .reason = event.reason,
                         .count = event.count});
      EndContent(flight);
      flights_.erase(it);
      return;
  }
}

void EngineHost::EndContent(const Flight& flight) {
  if (flight.content != nullptr) log_->End(*flight.content);
}

// With each step, as vLLM's scheduler does: an engine that idles tells nothing.
void EngineHost::PublishBlocks() {
  if (publisher_ == nullptr || log_->empty()) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  publisher_->Publish(engine_number_, log_->Take(std::chrono::duration<double>(now).count()));
}

void EngineHost::ResetPrefixCache(size_t from) {
  AtHome(from, [this] {
    if (engine_->ResetPrefixCache() && log_ != nullptr) log_->OnCleared();
    metrics_.Update(*engine_);
  });
}

void EngineHost::FlushSoon() {
  if (flush_posted_) return;
  flush_posted_ = true;
  loop_.Post([this] {
    flush_posted_ = false;
    Flush();
  });
}

void EngineHost::Flush() {
  for (size_t loop = 0; loop < outbox_.size(); ++loop) {
    if (outbox_[loop].empty()) continue;
    // A sink may submit or abort, so the box is emptied first.
    std::vector<Delta> deltas = std::exchange(outbox_[loop], {});
    if (loop == home_) {
      sinks_[loop](deltas);
      deltas.clear();
      if (outbox_[loop].empty()) outbox_[loop].swap(deltas);  // keep the memory
    } else {
      loops_.at(loop).Post([this, loop, deltas = std::move(deltas)] { sinks_[loop](deltas); });
    }
  }
}

}  // namespace penstock::sim
