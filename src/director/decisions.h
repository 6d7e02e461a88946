// The record of decisions: what was known, what every plugin said, what was picked and what
// happened. A ring with a byte budget; the oldest go first. The snapshots of the pool that records
// refer to are a part of it: an engine that comes and goes makes a new one every time.
//
// THREADS: internally locked; a loop adds, the admin server reads copies.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/mutex.h"
#include "core/time.h"
#include "model/columns.h"
#include "model/endpoint.h"
#include "model/request.h"
#include "sched/scheduler.h"

namespace penstock::director {

enum class EndKind : uint8_t {
  kRunning,   // not ended yet
  kComplete,  // the engine's response was relayed to its end
  kClientGone,
  kEngineGone,  // the engine broke off after the first byte
  kTimeout,
  kRejected,  // never dispatched, or no try was left
};
std::string_view EndKindName(EndKind kind);
// "exact"
std::string_view MatchSourceName(model::MatchSource source);

// What was known when a target was picked, and why it was. The arrays, an element for each endpoint
// of the pool where they are not empty, stand in the trace's memory.
struct Attempt {
  std::string_view endpoint;  // name, in the pool
  std::string_view address;   // likewise
  uint32_t slot = 0;
  Time dispatched;
  std::string_view failure;                         // "" when this try answered; else a literal
  std::shared_ptr<const model::PoolSnapshot> pool;  // names of the columns below
  sched::DecisionTrace trace;
  std::span<const float> waiting, running, kv_usage, in_flight_requests, in_flight_tokens,
      uncached_tokens;
  std::span<const float> matched_blocks;  // of the first prefix producer
  // Likewise; empty where all are approximate.
  std::span<const model::MatchSource> match_sources;
  std::span<const float> told_blocks;
  float hit_blocks = 0;  // of them, the picked endpoint's
  uint32_t total_blocks = 0;
  uint32_t block_size_tokens = 0;
};

struct DecisionRecord {
  std::string request_id;
  model::Api api = model::Api::kOther;
  std::string model;
  bool stream = false;
  model::Subset subset;       // who might have served it at all
  uint64_t input_tokens = 0;  // estimate
  // A literal: why the prompt's tokens were not known; "": they were, or nobody wanted them.
  std::string_view estimated_because;
  uint64_t body_bytes = 0;
  int64_t unix_micros = 0;  // wall time of arrival, for people
  Time arrived;
  double decision_us = 0;  // CPU-side duration of the first decision
  std::vector<Attempt> attempts;
  EndKind end = EndKind::kRunning;
  int status = 0;      // of the answer that the client got
  std::string reason;  // of a rejection or failure
  double ttft_s = -1;  // -1: no first byte
  double e2e_s = -1;
  uint64_t reported_input_tokens = 0, output_tokens = 0, cached_tokens = 0;
  bool usage_known = false, cached_known = false;
};

class DecisionLog {
 public:
  explicit DecisionLog(size_t max_bytes = 32u << 20, size_t max_records = 4096);
  void Add(std::shared_ptr<const DecisionRecord> record);  // at the end of a request
  // Newest first, at most `limit`.
  std::vector<std::shared_ptr<const DecisionRecord>> Latest(size_t limit) const;
  std::shared_ptr<const DecisionRecord> Find(std::string_view request_id) const;
  uint64_t total() const;
  size_t bytes() const;
  size_t max_bytes() const { return max_bytes_; }

 private:
  const size_t max_bytes_;
  const size_t max_records_;
  // A snapshot of the pool that records refer to. It lives as long as the last of them, so all of
  // it counts, once.
  struct HeldPool {
    size_t records = 0;
    size_t bytes = 0;
  };
  void Hold(const DecisionRecord& record) REQUIRES_LOCK(mutex_);
  void LetGo(const DecisionRecord& record) REQUIRES_LOCK(mutex_);
  void FetchNext() const REQUIRES_LOCK(mutex_);

  mutable Mutex mutex_;  // held for one insertion or one copy of pointers
  std::deque<std::pair<std::shared_ptr<const DecisionRecord>, size_t>> ring_ GUARDED_BY(mutex_);
  std::unordered_map<const model::PoolSnapshot*, HeldPool> pools_ GUARDED_BY(mutex_);
  size_t bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t total_ GUARDED_BY(mutex_) = 0;
};

}  // namespace penstock::director
