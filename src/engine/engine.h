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
// With asynchronous scheduling a step is made while the one before it runs, so it does not know yet
// what that one ends or who came meanwhile: new requests and the blocks of ended ones are for the
// step after. The step that follows one on an idle engine is made later, when the host has started
// that one, and takes who came until then; here, until it ends.
//
// Blocks beyond the cache's hit may come over a link: from the tier of host memory, where every
// full block goes in the step that computes it, or from the peer that a request's prompt was
// prefilled on. The request then takes the blocks of its whole prompt, waits for the transfer
// without blocking those behind it, and is scheduled first once its KV is there. The other way
// round, a request can leave its blocks held for a peer when it ends.
//
// Transfers and holds end by time. The engine counts it as the sum of its steps, or is told it:
// the driver of an engine that idles, or that gets requests while it waits, passes `now`.
//
// What a request will generate is known when it is submitted: its length, and the hashes of the
// blocks that prompt and output will fill, so that a later turn finds the output's blocks, too.
//
// THREADS: none of its own; one owner. COST: a step is linear in its sequences; memory is bounded
// by max_waiting + max_num_seqs requests and the block pool.
// SOURCE: vLLM v1/core/sched/scheduler.py, v1/core/kv_cache_manager.py, v1/engine/core.py,
// distributed/kv_transfer/kv_connector/v1/offloading_connector.py and nixl_connector.py.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/block_listener.h"
#include "engine/hold_table.h"
#include "engine/kernel_times.h"
#include "engine/link.h"
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
  bool async_scheduling = false;
  bool prefix_caching = true;
  // Whether kToken is told of every token or of a request's first alone. Then a decode costs work
  // when it needs a block, fills one or ends, and a nanosecond in the steps between.
  bool tells_every_token = true;
  uint32_t cpu_blocks = 0;           // KV blocks of the tier in host memory; 0: there is none
  uint64_t kv_bytes_per_token = 0;   // of all layers; needed for whatever is transferred
  LinkCosts tier_link;               // from host memory
  LinkCosts peer_link{12.5, 2'000};  // each direction, to and from other engines
  StepCosts costs;
  // Added to what the costs say; null: nothing.
  std::shared_ptr<const KernelTimes> kernel_times;
  uint64_t seed = 1;                        // of the noise
  BlockListener* block_listener = nullptr;  // outlives the engine; null: nobody hears
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
  // Prefill role: its blocks stay held for so long after its end, for a peer to read; 0: not held.
  Duration hold{0};
  // Decode role: a peer holds the KV of so many of the prompt's first tokens. What this engine has
  // not cached of them is fetched; the prompt's last token is computed here all the same.
  uint32_t remote_tokens = 0;
};

struct Event {
  enum class Kind : uint8_t {
    // Left the queue (again, after a preemption); count: tokens that were cached or transferred.
    kScheduled,
    kPreempted,  // lost its blocks and waits again; tokens already delivered stay delivered
    kToken,      // count: tokens so far; 1 is the first token. See tells_every_token
    kFinished,   // count: tokens in all
    kLoading,    // waits for KV that is being transferred; count: tokens it will bring
  };
  uint64_t id = 0;
  Kind kind = Kind::kToken;
  FinishReason reason = FinishReason::kStop;  // kFinished
  uint32_t count = 0;
};

struct Step {
  // With load.sequences == 0 nothing could run, and this is how long that stays so unless something
  // is submitted: until a transfer or a hold ends.
  Duration duration{0};
  StepLoad load;
  // kScheduled, kPreempted and kLoading; valid until the next BeginStep.
  std::span<const Event> events;
};

// Monotonic, except the first group.
struct EngineStats {
  uint32_t running = 0;
  uint32_t waiting = 0;      // those that wait for a transfer included
  uint32_t loading = 0;      // transfers under way, of aborted requests too
  uint32_t used_blocks = 0;  // referenced, by requests, transfers or holds
  uint32_t num_blocks = 0;
  uint32_t cpu_blocks_used = 0;

  uint64_t steps = 0;
  uint64_t prompt_tokens = 0;  // of requests whose prefill is complete, cached ones included
  uint64_t generation_tokens = 0;
  uint64_t prefix_query_tokens = 0;  // at first admission
  uint64_t prefix_hit_tokens = 0;
  uint64_t preemptions = 0;
  // What the tier or a peer was asked for, and what it had: tokens beyond the prefix hit, at first
  // admission.
  uint64_t external_query_tokens = 0;
  uint64_t external_hit_tokens = 0;
  uint64_t failed_loads = 0;  // the prompt was computed here instead

  HoldStats holds;
};

// The hash that stands for a prompt when a hold of it is read: of its last full block, 0 when it
// has none.
uint64_t PrefixHash(const Request& request, uint32_t block_size);

class Engine {
 public:
  // Fails when a bound is zero, when one request of max_model_len would not fit the KV cache, or
  // when there is a tier and the size of a token is not known.
  static Result<std::unique_ptr<Engine>> Create(const EngineOptions& options);
  ~Engine();

  // kOutOfRange: the prompt is empty or leaves no room for output within max_model_len, or is
  // shorter than what a peer has of it; kInvalidArgument: a peer has some, and the size of a token
  // is not known; kResourceExhausted: the queue is full; kAlreadyExists: a live or held request has
  // this id. An output that does not fit max_model_len is cut and ends with kLength.
  Result<> Submit(Request request);
  // Forgets a request in whatever state; no event follows for it. False when it has ended or never
  // was. Blocks that a transfer is writing to are free when the transfer ends, all others at once.
  bool Abort(uint64_t id);
  // Drops all requests, transfers and holds without events (a restart); cached blocks and the
  // tier's are forgotten.
  void Reset();

  // Forgets all cached blocks, the tier's too. False, and nothing is forgotten, while a block is in
  // use. SOURCE: vLLM's BlockPool.reset_prefix_cache.
  bool ResetPrefixCache();

  // Something runs, waits, is transferred or held.
  bool HasWork() const;
  // REQUIRES: no step is under way. When nothing can run, a step of no sequences, which needs its
  // EndStep all the same and may be ended at any time.
  // `now` is not before the last call's; without it, the step begins where the last one ended.
  Step BeginStep();
  Step BeginStep(Time now);
  // REQUIRES: a step is under way. kToken and kFinished, in the order of the batch; valid until the
  // next EndStep.
  std::span<const Event> EndStep();
  bool in_step() const;

  // A request that said kLoading for a peer's KV: the peer cannot give it before `time`. False when
  // the request does not wait for a peer.
  bool DelayLoad(uint64_t id, Time time);
  // The peer will not give it: the request computes its prompt here. False as above.
  bool FailLoad(uint64_t id);

  // What a request left held; none when it never was or ended long ago (HoldTable::kMaxEnded).
  std::optional<Hold> FindHold(uint64_t id) const;
  // A peer begins to read the first `tokens` tokens of the prompt whose full blocks end with
  // `prefix_hash`. Returns when this engine's link has sent them; the blocks stay until ReleaseHold
  // or the expiry. kAlreadyExists: it has had a reader; kNotFound, kFailedPrecondition: it is over;
  // kInvalidArgument: it is of another prompt.
  Result<Time> ConsumeHold(uint64_t id, uint64_t prefix_hash, uint32_t tokens, Time now);
  // The reader has it, or nobody will read it. False when the hold has ended or never was.
  bool ReleaseHold(uint64_t id, Time now);
  // A heartbeat: it expires in `lease` from now or later. False as above.
  bool ExtendHold(uint64_t id, Duration lease, Time now);

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
