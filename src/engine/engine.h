// One LLM engine as a scheduler sees it: continuous batching with a token budget, chunked prefill,
// a paged KV cache with prefix reuse, queueing, preemption. It computes nothing but time: a step
// says how long it takes, and when it has taken that long, which requests got a token.
//
// It touches no clock, socket or thread, so the same code stands behind an HTTP server in wall time
// and runs in virtual time. The caller drives it:
//
//   engine.Submit(...);
//   while (engine.HasWork()) {
//     const Step step = engine.BeginStep();   // admissions and preemptions happen here
//     ... let step.duration pass; Submit and Abort may come meanwhile ...
//     for (const Event& event : engine.EndStep()) ...   // tokens and ends
//   }
//
// The order of work in a step is vLLM V1's: running requests first, in order; when blocks are
// short, the last (or least urgent) running request is preempted, loses its blocks and waits again
// in front; then waiting requests are admitted in order until sequences, tokens or blocks run out,
// and none in a step that preempted. A prefix hit covers full blocks only and never the last token.
// A waiting request is admitted when its whole prompt fits, not just its first chunk.
//
// What a request will generate is known when it is submitted: its length, and the hashes of the
// blocks that prompt and output will fill, so that a later turn finds the output's blocks, too.
//
// THREADS: none of its own; one owner. COST: a step is linear in its sequences; memory is bounded
// by max_waiting + max_num_seqs requests and the block pool.
// SOURCE: vLLM v1/core/sched/scheduler.py, v1/core/kv_cache_manager.py.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/kernel_times.h"
#include "engine/step_time.h"

namespace penstock::engine {

enum class Policy : uint8_t { kFcfs, kPriority };

struct EngineOptions {
  uint32_t block_size = 16;  // tokens
  uint32_t num_blocks = 0;   // KV blocks
  uint32_t max_num_seqs = 256;
  uint32_t max_num_batched_tokens = 8192;
  uint32_t long_prefill_tokens = 0;  // largest chunk of one request; 0: the budget
  uint32_t max_model_len = 32768;    // prompt and output
  uint32_t max_loras = 4;            // distinct adapters that run at once
  uint32_t max_waiting = 10'000;     // requests
  Policy policy = Policy::kFcfs;
  bool prefix_caching = true;
  StepCosts costs;
  // Added to what the costs say; null: nothing.
  std::shared_ptr<const KernelTimes> kernel_times;
  uint64_t seed = 1;  // of the noise
};

enum class FinishReason : uint8_t { kStop, kLength };

struct Request {
  uint64_t id = 0;  // the caller's; unique among live requests
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;              // 0: prefill only, as embeddings are
  FinishReason end = FinishReason::kStop;  // why it ends after output_tokens
  uint32_t lora = 0;                       // 0: the base model
  int32_t priority = 0;                    // Policy::kPriority only: lower is more urgent
  // Chained hashes of the full blocks of prompt and output (block_hash.h); blocks beyond the list
  // are not reusable.
  std::vector<uint64_t> block_hashes;
};

struct Event {
  enum class Kind : uint8_t {
    kScheduled,  // left the queue (again, after a preemption); count: prefix-cache hit in tokens
    kPreempted,  // lost its blocks and waits again; tokens already delivered stay delivered
    kToken,      // count: tokens so far; 1 is the first token
    kFinished,   // count: tokens in all
  };
  uint64_t id = 0;
  Kind kind = Kind::kToken;
  FinishReason reason = FinishReason::kStop;  // kFinished
  uint32_t count = 0;
};

struct Step {
  Duration duration{0};
  StepLoad load;                  // load.sequences == 0: nothing could run
  std::span<const Event> events;  // kScheduled and kPreempted; valid until the next BeginStep
};

// Monotonic, except the first group.
struct EngineStats {
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint32_t used_blocks = 0;  // referenced
  uint32_t num_blocks = 0;

  uint64_t steps = 0;
  uint64_t prompt_tokens = 0;  // of requests whose prefill is complete, cached ones included
  uint64_t generation_tokens = 0;
  uint64_t prefix_query_tokens = 0;  // at first admission
  uint64_t prefix_hit_tokens = 0;
  uint64_t preemptions = 0;
};

class Engine {
 public:
  // Fails when a bound is zero, or when one request of max_model_len would not fit the KV cache.
  static Result<std::unique_ptr<Engine>> Create(const EngineOptions& options);
  ~Engine();

  // kOutOfRange: the prompt is empty or leaves no room for output within max_model_len;
  // kResourceExhausted: the queue is full; kAlreadyExists: a live request has this id. An output
  // that does not fit max_model_len is cut and ends with kLength.
  Result<> Submit(Request request);
  // Forgets a request in whatever state; no event follows for it. False when it has ended or never
  // was.
  bool Abort(uint64_t id);
  // Drops all waiting and running requests without events (a restart); cached blocks are forgotten.
  void Reset();

  // Something runs or waits.
  bool HasWork() const;
  // REQUIRES: no step is under way. When nothing can run, a step of no sequences and no duration,
  // which needs its EndStep all the same.
  Step BeginStep();
  // REQUIRES: a step is under way. kToken and kFinished, in the order of the batch; valid until the
  // next EndStep.
  std::span<const Event> EndStep();
  bool in_step() const;

  EngineStats Stats() const;
  // Requests by adapter (index 0: base), as large as the highest adapter seen.
  struct LoraLoad {
    uint32_t running = 0;
    uint32_t waiting = 0;
  };
  std::span<const LoraLoad> LoraLoads() const;
  const EngineOptions& options() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::engine
