#include "workload/generated_source.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <queue>
#include <tuple>
#include <vector>

#include "workload/arrivals.h"
#include "workload/script.h"
#include "workload/seeds.h"

namespace penstock::workload {
namespace {

constexpr uint64_t kMostPlaces = 1'000'000;

template <class T>
using EarliestFirst = std::priority_queue<T, std::vector<T>, std::greater<T>>;

uint64_t Scaled(uint64_t count, double factor) {
  return std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(count) * factor + 0.5));
}

class GeneratedSource final : public Source {
 public:
  GeneratedSource(const Workload& workload, uint64_t seed, const GenerateOptions& options)
      : load_(workload.load),
        seed_(seed),
        rate_scale_(options.rate_scale),
        script_(MakeScript(workload, seed, options.max_model_len)) {
    if (workload.data.kind != Data::Kind::kConversations || load_.is_closed()) {
      total_ = 0;
      for (size_t i = 0; i < load_.stages.size(); ++i) *total_ += CountOf(i);
    }
    BeginStage(Duration::zero());
    Advance();
  }

  std::optional<Duration> NextAt() override {
    std::optional<Duration> at;
    if (!turns_.empty()) at = std::max(turns_.top().at, taken_at_);
    if (const auto place = PlaceAt(); place && (!at || *place < *at)) at = place;
    return at;
  }

  Job Take() override {
    const auto place = PlaceAt();
    const bool is_turn = !turns_.empty() && (!place || turns_.top().at <= *place);
    Job job;
    if (is_turn) {
      taken_at_ = std::max(taken_at_, turns_.top().at);
      const uint64_t session = turns_.top().session;
      turns_.pop();
      job = script_->Continue(session);
    } else {
      taken_at_ = *place;
      job = script_->Begin();
      if (load_.is_closed()) {
        places_.pop();
      } else {
        next_arrival_ = NextArrival();
      }
    }
    job.at = taken_at_;
    ++in_flight_;
    if (load_.is_closed() && --requests_left_ == 0) AbandonTurns();
    Advance();
    return job;
  }

  void OnEnd(const Job& job, const JobEnd& end) override {
    if (in_flight_ == 0) return;
    const Duration at = std::max(end.at, taken_at_);
    ended_at_ = std::max(ended_at_, at);
    --in_flight_;
    const bool was_blocked = !script_->CanBegin();
    const auto pause = script_->OnEnd(job.session, end.is_served);
    if (was_blocked) free_from_ = at;
    if (load_.is_closed() && requests_left_ == 0) {
      if (pause) script_->Forget(job.session);
    } else if (pause) {
      turns_.push({at + *pause, order_++, job.session});
    } else if (load_.is_closed()) {
      places_.push(end.is_served ? at : at + kPauseAfterLoss);
    }
    Advance();
  }

  std::optional<uint64_t> Total() const override { return total_; }

 private:
  struct NextTurn {
    Duration at;
    uint64_t order;  // ties go by it
    uint64_t session;
    bool operator>(const NextTurn& other) const {
      return std::tie(at, order) > std::tie(other.at, other.order);
    }
  };

  Arrivals ArrivalsOf(size_t stage) const {
    return {load_.stages[stage], load_.bursts, rate_scale_,
            load_.type == "poisson" ? ArrivalKind::kPoisson : ArrivalKind::kConstant,
            NumberOf(seed_, Purpose::kArrivals, stage)};
  }

  uint64_t CountOf(size_t stage) const {
    if (load_.is_closed()) return Scaled(*load_.stages[stage].num_requests, rate_scale_);
    return ArrivalsOf(stage).count();
  }

  std::optional<Duration> NextArrival() {
    const auto at = arrivals_->Next();
    if (!at) return std::nullopt;
    return stage_start_ + *at;
  }

  // When the next request or conversation begins that continues nothing.
  std::optional<Duration> PlaceAt() const {
    if (!script_->CanBegin()) return std::nullopt;
    if (!load_.is_closed()) {
      if (!next_arrival_) return std::nullopt;
      return std::max({*next_arrival_, taken_at_, free_from_});
    }
    if (requests_left_ == 0 || places_.empty()) return std::nullopt;
    return std::max({places_.top(), taken_at_, free_from_});
  }

  void BeginStage(Duration start) {
    stage_start_ = start;
    const Stage& stage = load_.stages[stage_];
    if (!load_.is_closed()) {
      arrivals_.emplace(ArrivalsOf(stage_));
      next_arrival_ = NextArrival();
      return;
    }
    requests_left_ = CountOf(stage_);
    places_ = {};
    const uint64_t level = Scaled(*stage.concurrency_level, rate_scale_);
    const uint64_t places = std::min({level, requests_left_, kMostPlaces});
    for (uint64_t i = 0; i < places; ++i) places_.push(start);
  }

  void AbandonTurns() {
    for (; !turns_.empty(); turns_.pop()) script_->Forget(turns_.top().session);
  }

  // Goes on to the next stage once this one is over.
  void Advance() {
    while (stage_ + 1 < load_.stages.size()) {
      const bool is_idle = in_flight_ == 0 && turns_.empty();
      Duration over = ended_at_;
      if (load_.is_closed()) {
        if (requests_left_ > 0 || !is_idle) return;
      } else {
        if (next_arrival_ || (load_.drain && !is_idle)) return;
        const Duration planned = stage_start_ + arrivals_->duration();
        over = load_.drain ? std::max(planned, ended_at_) : planned;
      }
      ++stage_;
      BeginStage(over + load_.interval);
    }
  }

  const Load load_;
  const uint64_t seed_;
  const double rate_scale_;
  const std::unique_ptr<Script> script_;
  std::optional<uint64_t> total_;

  size_t stage_ = 0;
  Duration stage_start_{0};
  std::optional<Arrivals> arrivals_;      // open loop
  std::optional<Duration> next_arrival_;  // open loop
  uint64_t requests_left_ = 0;            // closed loop, of the stage
  EarliestFirst<Duration> places_;        // closed loop: free ones, from when on
  EarliestFirst<NextTurn> turns_;         // sessions that pause
  uint64_t order_ = 0;
  uint64_t in_flight_ = 0;
  Duration taken_at_{0};
  Duration ended_at_{0};
  Duration free_from_{0};  // when the last wait for a free user ended
};

}  // namespace

std::unique_ptr<Source> Generate(const Workload& workload, uint64_t seed,
                                 const GenerateOptions& options) {
  return std::make_unique<GeneratedSource>(workload, seed, options);
}

}  // namespace penstock::workload
