#include "lab/engine_run.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <utility>

namespace penstock::lab {
namespace {

class EngineRun {
 public:
  EngineRun(std::span<const RunRequest> requests, const RunOptions& options,
            std::unique_ptr<engine::Engine> engine)
      : requests_(requests), options_(options), engine_(std::move(engine)) {
    result_.requests.resize(requests.size());
  }

  Result<RunResult> Run() {
    engine::EngineStats before;
    if (options_.concurrency > 0) {
      if (options_.warm_up) {
        if (auto warm = WarmUp(); !warm) return std::unexpected(warm.error());
        before = engine_->Stats();
      }
      for (uint32_t i = 0; i < options_.concurrency; ++i) Send();
    }
    while (true) {
      if (auto sent = SubmitDue(); !sent) return std::unexpected(sent.error());
      if (!engine_->HasWork()) {
        if (next_ == requests_.size()) break;
        Advance(NextArrival());
        continue;
      }
      Step();
    }
    result_.stats = engine_->Stats();
    result_.stats.generation_tokens -= before.generation_tokens;
    result_.end = now_;
    return std::move(result_);
  }

 private:
  // Moves time on; what is shown for the moments in between is what was true before.
  void Advance(Duration to) {
    const engine::EngineStats stats = engine_->Stats();
    while (next_sample_ <= to) {
      result_.samples.push_back(
          {next_sample_, stats.running, stats.waiting, stats.generation_tokens});
      next_sample_ += options_.sample_every;
    }
    now_ = std::max(now_, to);
  }

  // The closed loop's next request leaves the client.
  void Send() {
    if (sent_ == requests_.size()) return;
    result_.requests[sent_++].sent = now_;
    way_end_ = std::max(now_ + options_.client_delay, way_end_ + options_.client_gap);
    arrivals_.push_back(way_end_);
  }

  // REQUIRES: not all have arrived; in a closed loop, one is on its way.
  Duration NextArrival() const {
    return options_.concurrency > 0 ? arrivals_.front() : requests_[next_].arrival;
  }

  Result<> Submit(size_t number) {
    const RunRequest& request = requests_[number];
    engine::Request submitted;
    submitted.id = number;
    submitted.prompt_tokens = request.prompt_tokens;
    submitted.output_tokens = request.output_tokens;
    submitted.block_hashes = BlockHashes(number);
    return engine_->Submit(std::move(submitted));
  }

  Result<> WarmUp() {
    const size_t count = std::min<size_t>(options_.concurrency, requests_.size());
    for (size_t i = 0; i < count; ++i) {
      if (auto sent = Submit(i); !sent) return sent;
    }
    for (; engine_->HasWork(); (void)engine_->EndStep()) {
      start_ += engine_->BeginStep(Time(start_)).duration;
    }
    return {};
  }

  // What is cached is shared; the rest is the request's own, which it finds again after a
  // preemption.
  std::vector<uint64_t> BlockHashes(size_t number) const {
    const RunRequest& request = requests_[number];
    const uint32_t block_size = options_.engine.block_size;
    std::vector<uint64_t> hashes((uint64_t{request.prompt_tokens} + request.output_tokens) /
                                 block_size);
    std::iota(hashes.begin(), hashes.end(), uint64_t{1});
    const uint64_t own = (uint64_t{number} + 1) << 32;
    for (size_t i = request.cached_tokens / block_size; i < hashes.size(); ++i) hashes[i] += own;
    return hashes;
  }

  Result<> SubmitDue() {
    const bool is_closed = options_.concurrency > 0;
    while (next_ < requests_.size() && (!is_closed || !arrivals_.empty()) &&
           NextArrival() <= now_) {
      if (is_closed) {
        arrivals_.pop_front();
      } else {
        result_.requests[next_].sent = requests_[next_].arrival;
      }
      if (auto sent = Submit(next_++); !sent) return sent;
    }
    return {};
  }

  void Step() {
    const engine::Step step = engine_->BeginStep(Time(start_ + now_));
    for (const engine::Event& event : step.events) {
      if (event.kind == engine::Event::Kind::kScheduled) {
        RunTimes& times = result_.requests[event.id];
        if (times.scheduled < Duration(0)) times.scheduled = now_;
      }
    }
    Advance(now_ + step.duration);
    for (const engine::Event& event : engine_->EndStep()) {
      RunTimes& times = result_.requests[event.id];
      if (event.kind == engine::Event::Kind::kToken && event.count == 1) times.first_token = now_;
      if (event.kind == engine::Event::Kind::kFinished) {
        times.last_token = now_;
        if (options_.concurrency > 0) Send();
      }
    }
  }

  std::span<const RunRequest> requests_;
  const RunOptions& options_;
  std::unique_ptr<engine::Engine> engine_;
  RunResult result_;
  size_t next_ = 0;                // that the engine gets
  size_t sent_ = 0;                // closed loop
  std::deque<Duration> arrivals_;  // of those under way, at most `concurrency`
  Duration way_end_{0};            // of the last one
  Duration start_{0};              // of the run, on the engine's clock
  Duration now_{0};
  Duration next_sample_ = options_.sample_every;
};

}  // namespace

Result<RunResult> RunEngine(std::span<const RunRequest> requests, const RunOptions& options) {
  auto engine = engine::Engine::Create(options.engine);
  if (!engine) return std::unexpected(engine.error());
  return EngineRun(requests, options, std::move(*engine)).Run();
}

LatencyMeans MeansOf(std::span<const RunRequest> requests, std::span<const RunTimes> times) {
  LatencyMeans means;
  double ended = 0, streamed = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (times[i].last_token < Duration(0)) continue;
    ++ended;
    means.ttft += ToSeconds(times[i].first_token - times[i].sent);
    means.e2e += ToSeconds(times[i].last_token - times[i].sent);
    if (requests[i].output_tokens < 2) continue;
    ++streamed;
    means.tpot +=
        ToSeconds(times[i].last_token - times[i].first_token) / (requests[i].output_tokens - 1.0);
  }
  if (ended > 0) {
    means.ttft /= ended;
    means.e2e /= ended;
  }
  if (streamed > 0) means.tpot /= streamed;
  return means;
}

}  // namespace penstock::lab
