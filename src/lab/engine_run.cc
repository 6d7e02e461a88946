#include "lab/engine_run.h"

#include <algorithm>
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
    if (options_.concurrency > 0) {
      for (uint32_t i = 0; i < options_.concurrency && next_ < requests_.size(); ++i) {
        if (auto sent = Submit(); !sent) return std::unexpected(sent.error());
      }
    }
    while (true) {
      if (auto sent = SubmitDue(); !sent) return std::unexpected(sent.error());
      if (!engine_->HasWork()) {
        if (next_ == requests_.size()) break;
        Advance(requests_[next_].arrival);
        continue;
      }
      if (auto stepped = Step(); !stepped) return std::unexpected(stepped.error());
    }
    result_.stats = engine_->Stats();
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

  Result<> Submit() {
    const RunRequest& request = requests_[next_];
    engine::Request submitted;
    submitted.id = next_;
    submitted.prompt_tokens = request.prompt_tokens;
    submitted.output_tokens = request.output_tokens;
    submitted.block_hashes = BlockHashes(request);
    result_.requests[next_++].sent = options_.concurrency > 0 ? now_ : request.arrival;
    return engine_->Submit(std::move(submitted));
  }

  // What is cached is shared; the rest is the request's own, which it finds again after a
  // preemption.
  std::vector<uint64_t> BlockHashes(const RunRequest& request) const {
    const uint32_t block_size = options_.engine.block_size;
    std::vector<uint64_t> hashes((uint64_t{request.prompt_tokens} + request.output_tokens) /
                                 block_size);
    std::iota(hashes.begin(), hashes.end(), uint64_t{1});
    const uint64_t own = (uint64_t{next_} + 1) << 32;
    for (size_t i = request.cached_tokens / block_size; i < hashes.size(); ++i) hashes[i] += own;
    return hashes;
  }

  Result<> SubmitDue() {
    while (options_.concurrency == 0 && next_ < requests_.size() &&
           requests_[next_].arrival <= now_) {
      if (auto sent = Submit(); !sent) return sent;
    }
    return {};
  }

  Result<> Step() {
    const engine::Step step = engine_->BeginStep();
    for (const engine::Event& event : step.events) {
      if (event.kind == engine::Event::Kind::kScheduled) {
        RunTimes& times = result_.requests[event.id];
        if (times.scheduled < Duration(0)) times.scheduled = now_;
      }
    }
    Advance(now_ + step.duration);
    size_t ended = 0;
    for (const engine::Event& event : engine_->EndStep()) {
      RunTimes& times = result_.requests[event.id];
      if (event.kind == engine::Event::Kind::kToken && event.count == 1) times.first_token = now_;
      if (event.kind == engine::Event::Kind::kFinished) {
        times.last_token = now_;
        ++ended;
      }
    }
    for (; options_.concurrency > 0 && ended > 0 && next_ < requests_.size(); --ended) {
      if (auto sent = Submit(); !sent) return sent;
    }
    return {};
  }

  std::span<const RunRequest> requests_;
  const RunOptions& options_;
  std::unique_ptr<engine::Engine> engine_;
  RunResult result_;
  size_t next_ = 0;
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
