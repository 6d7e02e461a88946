#include "admin/live_stats.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>

namespace penstock::admin {
namespace {

constexpr double kFadeSeconds = 60;
constexpr double kFirstTtftBound = 0.001;

int64_t SecondOf(Time now) {
  return std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
}

size_t RingIndex(int64_t second) {
  constexpr int64_t kRing = LiveStats::kSeconds;
  return static_cast<size_t>(((second % kRing) + kRing) % kRing);
}

size_t MyStripe(size_t stripes) {
  static std::atomic<size_t> next{0};
  thread_local const size_t mine = next.fetch_add(1, std::memory_order_relaxed);
  return mine % stripes;
}

uint64_t IdentityOf(std::string_view endpoint) { return std::hash<std::string_view>()(endpoint); }

// Of an answer that is not streamed the first byte comes when all of it is there.
bool HasFirstToken(const director::DecisionRecord& record) {
  return record.stream && record.ttft_s >= 0;
}

// What the operator has to look at. A client's own mistakes (4xx) and departures are none.
bool IsError(const director::DecisionRecord& record) {
  using director::EndKind;
  return record.status >= 500 || record.status == 429 || record.end == EndKind::kEngineGone ||
         record.end == EndKind::kTimeout;
}

}  // namespace

LiveStats::LiveStats(size_t slots) : max_slots_(slots), queues_(static_cast<size_t>(kSeconds)) {
  for (Stripe& stripe : stripes_) {
    MutexLock lock(stripe.mutex);
    stripe.seconds.resize(static_cast<size_t>(kSeconds));
  }
}

LiveStats::~LiveStats() = default;

size_t LiveStats::TtftBucket(double seconds) {
  if (!(seconds > kFirstTtftBound)) return 0;
  const double steps = std::ceil(std::log2(seconds / kFirstTtftBound) * 2);
  return std::min(kTtftBuckets - 1, static_cast<size_t>(steps));
}

double LiveStats::TtftQuantile(const std::array<uint64_t, kTtftBuckets>& counts, double q) {
  uint64_t total = 0;
  for (uint64_t count : counts) total += count;
  if (total == 0) return -1;
  const double rank = q * static_cast<double>(total);
  double below = 0;
  for (size_t i = 0; i < kTtftBuckets; ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (here > 0 && below + here >= rank) {
      const double high = kFirstTtftBound * std::exp2(static_cast<double>(i) / 2);
      const double low = i == 0 ? 0 : high / std::sqrt(2.0);
      return low + (high - low) * (rank - below) / here;
    }
    below += here;
  }
  return kFirstTtftBound * std::exp2(static_cast<double>(kTtftBuckets - 1) / 2);
}

void LiveStats::Fading::FadeTo(Time now) {
  if (now <= at) return;
  const double factor = std::exp(-ToSeconds(now - at) / kFadeSeconds);
  for (double* sum :
       {&requests, &output_tokens, &hit_input_tokens, &hit_cached_tokens, &ttft_s, &ttft_count}) {
    *sum *= factor;
  }
  at = now;
}

void LiveStats::AddToEndpoint(std::vector<Fading>& slots, const director::DecisionRecord& record,
                              Time now) const {
  if (record.attempts.empty()) return;
  const director::Attempt& last = record.attempts.back();
  if (last.slot >= max_slots_) return;
  if (last.slot >= slots.size()) slots.resize(last.slot + 1);
  Fading& past = slots[last.slot];
  const uint64_t identity = IdentityOf(last.endpoint);
  if (past.identity != identity) {
    past = Fading();
    past.identity = identity;
    past.at = now;
  }
  past.FadeTo(now);
  past.requests += 1;
  past.output_tokens += static_cast<double>(record.output_tokens);
  if (record.cached_known) {
    past.hit_input_tokens += static_cast<double>(record.reported_input_tokens);
    past.hit_cached_tokens += static_cast<double>(record.cached_tokens);
  }
  if (HasFirstToken(record)) {
    past.ttft_s += record.ttft_s;
    past.ttft_count += 1;
  }
}

void LiveStats::OnRequestEnded(const director::DecisionRecord& record, Time now) {
  const int64_t second = SecondOf(now);
  Stripe& stripe = stripes_[MyStripe(kStripes)];
  MutexLock lock(stripe.mutex);
  Second& bucket = stripe.seconds[RingIndex(second)];
  if (bucket.second != second) {
    bucket = Second();
    bucket.second = second;
  }
  bucket.requests += 1;
  bucket.errors += IsError(record) ? 1 : 0;
  bucket.input_tokens += record.usage_known ? record.reported_input_tokens : 0;
  bucket.output_tokens += record.output_tokens;
  if (record.cached_known) {
    bucket.hit_input_tokens += record.reported_input_tokens;
    bucket.hit_cached_tokens += record.cached_tokens;
  }
  if (HasFirstToken(record)) bucket.ttft[TtftBucket(record.ttft_s)] += 1;
  AddToEndpoint(stripe.slots, record, now);
}

void LiveStats::SampleQueues(const model::PoolSnapshot& pool, const model::LiveColumns& live,
                             Time now) {
  Queues sample;
  sample.second = SecondOf(now);
  for (const model::EndpointInfo& endpoint : pool.endpoints) {
    const auto in_flight = live.in_flight_requests[endpoint.slot].load(std::memory_order_relaxed);
    sample.in_flight += static_cast<float>(in_flight);
    if (endpoint.health != model::Health::kHealthy) continue;  // its numbers are from the past
    const float waiting = live.waiting[endpoint.slot].load(std::memory_order_relaxed);
    sample.waiting += waiting;
    sample.max_waiting = std::max(sample.max_waiting, waiting);
    sample.running += live.running[endpoint.slot].load(std::memory_order_relaxed);
  }
  MutexLock lock(queues_mutex_);
  queues_[RingIndex(sample.second)] = sample;
}

std::vector<LiveStats::Second> LiveStats::MergedSeconds() const {
  std::vector<Second> merged(static_cast<size_t>(kSeconds));
  for (const Stripe& stripe : stripes_) {
    std::vector<Second> copy;
    copy.reserve(merged.size());  // before the lock: a loop may wait for it
    {
      MutexLock lock(stripe.mutex);
      copy.assign(stripe.seconds.begin(), stripe.seconds.end());
    }
    for (size_t i = 0; i < copy.size(); ++i) {
      const Second& from = copy[i];
      Second& to = merged[i];
      if (from.second < 0 || from.second < to.second) continue;
      if (from.second > to.second) {
        to = from;
        continue;
      }
      to.requests += from.requests;
      to.errors += from.errors;
      to.input_tokens += from.input_tokens;
      to.output_tokens += from.output_tokens;
      to.hit_input_tokens += from.hit_input_tokens;
      to.hit_cached_tokens += from.hit_cached_tokens;
      for (size_t b = 0; b < kTtftBuckets; ++b) to.ttft[b] += from.ttft[b];
    }
  }
  return merged;
}

void LiveStats::FillFromSeconds(std::span<const Second> seconds, int64_t oldest, int step_s,
                                int smooth_s, LivePoint* point) {
  std::array<uint64_t, kTtftBuckets> ttft{};
  uint64_t hit_input = 0, hit_cached = 0;
  for (int64_t s = std::max(point->second - smooth_s + 1, oldest); s <= point->second; ++s) {
    const Second& bucket = seconds[RingIndex(s)];
    if (bucket.second != s) continue;
    hit_input += bucket.hit_input_tokens;
    hit_cached += bucket.hit_cached_tokens;
    for (size_t b = 0; b < kTtftBuckets; ++b) ttft[b] += bucket.ttft[b];
    if (s <= point->second - step_s) continue;
    point->requests_per_s += bucket.requests;
    point->errors_per_s += bucket.errors;
    point->input_tokens_per_s += static_cast<double>(bucket.input_tokens);
    point->output_tokens_per_s += static_cast<double>(bucket.output_tokens);
  }
  for (double* rate : {&point->requests_per_s, &point->errors_per_s, &point->input_tokens_per_s,
                       &point->output_tokens_per_s}) {
    *rate /= step_s;
  }
  point->ttft_p50_s = TtftQuantile(ttft, 0.5);
  point->ttft_p90_s = TtftQuantile(ttft, 0.9);
  if (hit_input > 0) {
    point->hit_rate = static_cast<double>(hit_cached) / static_cast<double>(hit_input);
  }
}

void LiveStats::FillFromQueues(std::span<const Queues> queues, int64_t oldest, int step_s,
                               LivePoint* point) {
  for (int64_t s = std::max(point->second - step_s + 1, oldest); s <= point->second; ++s) {
    const Queues& sample = queues[RingIndex(s)];
    if (sample.second != s) continue;
    point->waiting = std::max<double>(point->waiting, sample.waiting);
    point->max_waiting = std::max<double>(point->max_waiting, sample.max_waiting);
    point->running = std::max<double>(point->running, sample.running);
    point->in_flight = std::max<double>(point->in_flight, sample.in_flight);
  }
}

std::vector<LivePoint> LiveStats::Series(Time now, int points, int step_s, int smooth_s) const {
  step_s = std::clamp(step_s, 1, kSeconds);
  points = std::clamp(points, 1, kSeconds / step_s);
  smooth_s = std::clamp(smooth_s, step_s, kSeconds);
  const std::vector<Second> merged = MergedSeconds();
  std::vector<Queues> queues;
  {
    MutexLock lock(queues_mutex_);
    queues = queues_;
  }
  // The second that still runs is left out; ends are multiples of the step, so that a point keeps
  // its value from one reading to the next.
  const int64_t newest = SecondOf(now) - 1;
  const int64_t last = newest - (newest % step_s + step_s) % step_s;
  const int64_t oldest = newest - kSeconds + 2;  // the running second took the place of one
  std::vector<LivePoint> series(static_cast<size_t>(points));
  for (size_t i = 0; i < series.size(); ++i) {
    series[i].second = last - (points - 1 - static_cast<int64_t>(i)) * step_s;
    FillFromSeconds(merged, oldest, step_s, smooth_s, &series[i]);
    FillFromQueues(queues, oldest, step_s, &series[i]);
  }
  return series;
}

std::vector<EndpointPast> LiveStats::Endpoints(const model::PoolSnapshot& pool, Time now) const {
  std::vector<Fading> sums(pool.endpoints.size());
  for (const Stripe& stripe : stripes_) {
    std::vector<Fading> slots;
    {
      MutexLock lock(stripe.mutex);
      slots = stripe.slots;
    }
    for (size_t i = 0; i < sums.size(); ++i) {
      const model::EndpointInfo& endpoint = pool.endpoints[i];
      if (endpoint.slot >= slots.size()) continue;
      Fading& past = slots[endpoint.slot];
      if (past.identity != IdentityOf(endpoint.spec.name)) continue;
      past.FadeTo(now);
      sums[i].requests += past.requests;
      sums[i].output_tokens += past.output_tokens;
      sums[i].hit_input_tokens += past.hit_input_tokens;
      sums[i].hit_cached_tokens += past.hit_cached_tokens;
      sums[i].ttft_s += past.ttft_s;
      sums[i].ttft_count += past.ttft_count;
    }
  }
  std::vector<EndpointPast> result(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    result[i].requests_per_s = sums[i].requests / kFadeSeconds;
    result[i].output_tokens_per_s = sums[i].output_tokens / kFadeSeconds;
    if (sums[i].hit_input_tokens > 0) {
      result[i].hit_rate = sums[i].hit_cached_tokens / sums[i].hit_input_tokens;
    }
    if (sums[i].ttft_count > 0) result[i].mean_ttft_s = sums[i].ttft_s / sums[i].ttft_count;
  }
  return result;
}

uint64_t LiveStats::MaxBytes() const {
  return kStripes * (kSeconds * sizeof(Second) + max_slots_ * sizeof(Fading)) +
         kSeconds * sizeof(Queues);
}

}  // namespace penstock::admin
