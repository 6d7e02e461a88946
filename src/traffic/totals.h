// What traffic measured: one record per request, added up in bounded memory.
//
// THREADS: belongs to its caller. COST: 9 KiB whatever the number of requests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "core/time.h"
#include "traffic/answer.h"

namespace penstock::traffic {

// Times from 0.1 ms to an hour, to 2.5 %.
class LatencyHistogram {
 public:
  void Add(Duration time);
  uint64_t count() const { return count_; }
  // Seconds; the middle of the bucket that holds the quantile, 0 when empty. q in [0, 1].
  double Quantile(double q) const;

 private:
  static constexpr size_t kBuckets = 354;  // log(3.6e7) / log(1.05)
  std::array<uint32_t, kBuckets> counts_{};
  uint64_t count_ = 0;
};

// How one request went.
struct TurnRecord {
  std::string error;   // "" when it was answered well, else its kind: "HTTP 503", "connect"
  std::string detail;  // of the error, for people
  bool has_first_token = false;  // a streamed answer that began
  Duration first_token{0};       // since it was sent
  Duration per_token{0};         // between two tokens, on average; 0: not known
  Duration whole{0};             // until the answer's end
  AnswerUsage usage;
};

struct Totals {
  static constexpr size_t kMaxErrorKinds = 16;

  uint64_t answered = 0;
  uint64_t failed = 0;
  uint64_t cut_off = 0;  // still running when traffic ended; neither of the above
  uint64_t prompt_tokens = 0;
  uint64_t output_tokens = 0;
  uint64_t hit_prompt_tokens = 0;  // of answers that say how much was cached
  uint64_t hit_cached_tokens = 0;
  LatencyHistogram first_token, per_token, whole;
  std::map<std::string, uint64_t> errors;  // beyond kMaxErrorKinds under "other"
  std::string first_error;                 // "HTTP 503: no endpoint is healthy"

  void Add(const TurnRecord& record);
  // Cached share of the prompt tokens; -1 when no answer said.
  double HitRate() const;
};

}  // namespace penstock::traffic
