// What the live page draws: the last ten minutes in buckets of one second, and each endpoint's
// recent past as sums that fade with a time constant of one minute.
//
// A request counts in the second in which it ended. Its tokens are those that the engine reported;
// the hit rate is over requests whose engine said how much of the prompt it had cached.
//
// THREADS: all methods from any thread. Threads that end requests are dealt out over 8 stripes with
// a lock each, so loops hardly meet; a reader copies one stripe at a time.
// COST: OnRequestEnded about 50 ns. 1.1 MB, and up to 56 bytes a slot and stripe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/mutex.h"
#include "core/time.h"
#include "director/decisions.h"
#include "model/endpoint.h"

namespace penstock::admin {

// One point of the curves. Rates are per second; -1 stands for "nothing to tell".
struct LivePoint {
  int64_t second = 0;  // end of the interval, whole seconds of the steady clock
  double requests_per_s = 0;
  double errors_per_s = 0;
  double input_tokens_per_s = 0;
  double output_tokens_per_s = 0;
  double ttft_p50_s = -1;  // of streamed answers: others come as a whole
  double ttft_p90_s = -1;
  double hit_rate = -1;
  double waiting = -1;      // all engines' queues, requests
  double max_waiting = -1;  // the longest queue
  double running = -1;      // all engines' batches, requests
  double in_flight = -1;    // sent by us and not yet ended
};

// An endpoint over about the last minute.
struct EndpointPast {
  double requests_per_s = 0;
  double output_tokens_per_s = 0;
  double hit_rate = -1;     // cached / input tokens; -1: no engine said
  double mean_ttft_s = -1;  // of streamed answers; -1: none
};

class LiveStats {
 public:
  static constexpr int kSeconds = 600;

  // `slots`: capacity of the fleet's LiveColumns; later slots are not told apart by endpoint.
  explicit LiveStats(size_t slots);
  ~LiveStats();

  // At the end of every request, from the loop that ended it.
  void OnRequestEnded(const director::DecisionRecord& record, Time now);
  // The queues, about once a second, from one thread.
  void SampleQueues(const model::PoolSnapshot& pool, const model::LiveColumns& live, Time now);

  // `points` intervals of `step_s` seconds, oldest first; the last one ends with the last whole
  // second before `now`. TTFT and hit rate look back over `smooth_s` seconds, so that a quiet pool
  // still draws a line. Clamped: 1 <= step_s, points * step_s <= kSeconds.
  std::vector<LivePoint> Series(Time now, int points, int step_s, int smooth_s) const;
  // By column index of `pool`.
  std::vector<EndpointPast> Endpoints(const model::PoolSnapshot& pool, Time now) const;
  uint64_t MaxBytes() const;

 private:
  // TTFT from 1 ms to 20 minutes in steps of 2^(1/2).
  static constexpr size_t kTtftBuckets = 42;
  struct Second {
    int64_t second = -1;
    uint32_t requests = 0, errors = 0;
    uint64_t input_tokens = 0, output_tokens = 0;
    uint64_t hit_input_tokens = 0, hit_cached_tokens = 0;
    std::array<uint32_t, kTtftBuckets> ttft{};
  };
  struct Fading {
    uint64_t identity = 0;  // hash of the endpoint's name, as a slot may get another owner
    Time at;
    double requests = 0, output_tokens = 0;
    double hit_input_tokens = 0, hit_cached_tokens = 0;
    double ttft_s = 0, ttft_count = 0;
    void FadeTo(Time now);
  };
  struct Stripe {
    mutable Mutex mutex;  // held for one request's numbers or one copy
    std::vector<Second> seconds GUARDED_BY(mutex);
    std::vector<Fading> slots GUARDED_BY(mutex);
  };
  struct Queues {
    int64_t second = -1;
    float waiting = 0, max_waiting = 0, running = 0, in_flight = 0;
  };
  static constexpr size_t kStripes = 8;

  static size_t TtftBucket(double seconds);
  static double TtftQuantile(const std::array<uint64_t, kTtftBuckets>& counts, double q);
  void AddToEndpoint(std::vector<Fading>& slots, const director::DecisionRecord& record,
                     Time now) const;
  std::vector<Second> MergedSeconds() const;
  static void FillFromSeconds(std::span<const Second> seconds, int64_t oldest, int step_s,
                              int smooth_s, LivePoint* point);
  static void FillFromQueues(std::span<const Queues> queues, int64_t oldest, int step_s,
                             LivePoint* point);

  const size_t max_slots_;
  std::array<Stripe, kStripes> stripes_;
  mutable Mutex queues_mutex_;  // held for one sample or one copy
  std::vector<Queues> queues_ GUARDED_BY(queues_mutex_);
};

}  // namespace penstock::admin
