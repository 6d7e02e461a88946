// Traffic for virtual time: which requests come when, what their prompts share, how long the
// answers are. A source is pulled: it is asked when its next request comes and then for the
// request; a closed-loop source learns when an answer ended and then has more to send.
//
// The same source with the same seed and the same ends gives the same requests, on every machine:
// no clock, no libm function whose last bit depends on the processor (core/exact_math.h has what is
// needed).
//
// A source that reads a file meets bad input in the middle of it: it then has no more requests and
// Failure() says why, so the caller looks there when NextAt() has nothing and nothing is in flight.
//
// THREADS: a source belongs to its caller.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/time.h"

namespace penstock::workload {

// A run of tokens in a prompt. Two pieces of the same content are the same text as far as the
// shorter one goes; pieces of different content have nothing in common.
struct Piece {
  uint64_t content = 0;
  uint32_t tokens = 0;
  bool operator==(const Piece&) const = default;
};

struct Job {
  Duration at{0};        // since the start of the traffic
  uint64_t session = 0;  // 0: none
  uint32_t group = 0;    // who shares a system prompt, a tenant; for reports
  std::vector<Piece> prompt;
  uint32_t output_tokens = 0;
  uint64_t output_content = 0;     // a later turn's prompt may hold the answer as a piece
  uint32_t max_output_tokens = 0;  // what the client asks for at most; 0: says nothing
  uint32_t lora = 0;               // adapter, 0: the base model
  int32_t priority = 0;
  std::string fairness_id;  // "": none
  double ttft_slo_s = 0;    // 0: none
  double tpot_slo_s = 0;
  bool is_streamed = true;

  uint64_t prompt_tokens() const {
    uint64_t sum = 0;
    for (const Piece& piece : prompt) sum += piece.tokens;
    return sum;
  }
};

// How a job ended.
struct JobEnd {
  Duration at{0};
  bool is_served = true;  // false: refused or lost; nothing or not all of its answer came
};

class Source {
 public:
  virtual ~Source() = default;
  // When the next request comes, as far as is known now; never before one that was taken. Nothing:
  // none is known, because the traffic is over or waits for answers.
  virtual std::optional<Duration> NextAt() = 0;
  // REQUIRES: NextAt() has a value. Ownership of everything in the job passes to the caller.
  virtual Job Take() = 0;
  // A job that was taken has ended, at `end.at`, not before the time of the last one taken. Every
  // job's end is told once, with the session that the job was given with; a closed loop waits
  // for it. May make NextAt() have a value, or an earlier one.
  virtual void OnEnd(const Job& job, const JobEnd& end) = 0;
  // How many requests the whole traffic has, when that is known beforehand; for progress.
  virtual std::optional<uint64_t> Total() const { return std::nullopt; }
  // What was left out of the input, by reason, for people: "3 lines: zero tokens (first: 17)".
  virtual std::vector<std::string> Skipped() const { return {}; }
  // Why the traffic broke off early: "FILE:LINE: ...". Final once it has a value; the jobs before
  // are whole.
  virtual std::optional<Error> Failure() const { return std::nullopt; }
};

}  // namespace penstock::workload
