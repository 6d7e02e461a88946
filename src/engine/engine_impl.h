// The insides of Engine, for .cc files of this module only: engine.cc has the queue and the step,
// engine_coast.cc the decodes that a step need not look at, engine_transfers.cc what comes over
// links and what is held for peers.
#pragma once

#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "core/random.h"
#include "engine/block_pool.h"
#include "engine/cpu_tier.h"
#include "engine/engine.h"
#include "engine/hold_table.h"
#include "engine/link.h"

namespace penstock::engine {

// What a step of a decode reads stands first, in one cache line.
struct alignas(64) Sequence {
  enum class State : uint8_t {
    kFree,
    kArrived,  // the step that may take it is not being made yet
    kWaiting,
    kParked,   // what it would load is being loaded for another
    kLoading,  // its blocks are being written to
    kOrphan,   // so, but it was aborted
    kReady,    // has loaded, and has the blocks of its whole prompt
    kRunning,
  };
  uint64_t order = 0;     // of submission; never reused, so it also tells two lives of a slot apart
  uint32_t computed = 0;  // tokens whose KV is in `blocks` once the step under way is over
  uint32_t generated = 0;
  uint32_t room = 0;       // `computed` may grow to this without a change of blocks; see Grow
  uint32_t published = 0;  // blocks whose content the pool knows
  Request request;
  State state = State::kFree;
  bool is_coasting = false;  // `computed` and `generated` are those of the step `coasts_since`
  uint64_t coasts_since = 0;
  bool is_from_peer = false;  // what it loads or loaded
  bool admitted_before = false;
  std::vector<BlockPool::BlockId> blocks;
  uint32_t stored = 0;  // published ones that the tier was given
  uint32_t loaded = 0;  // kLoading: `computed` when the transfer is over
  Time load_end{};      // kLoading
  uint64_t prefix_hash = 0;
  // Of the last time that its blocks did not fit: how many free ones it wanted, how much of its
  // prefix was cached, and the pool's revivals then. `wanted` 0: it was not tried yet.
  uint64_t wanted = 0;
  uint64_t revivals = 0;
  size_t matched = 0;

  uint32_t tokens() const { return request.prompt_tokens + generated; }
};

// A waiting request; the smallest goes first.
struct Turn {
  int32_t priority;
  uint64_t order;
  uint32_t slot;
  friend auto operator<=>(const Turn&, const Turn&) = default;
};

// A transfer; the smallest ends first.
struct Transfer {
  Time end;
  uint64_t order;
  uint32_t slot;
  friend auto operator<=>(const Transfer&, const Transfer&) = default;
};

// A running sequence that a step works on, unless it coasts.
struct BatchEntry {
  uint32_t slot;
  uint32_t chunk;
  uint64_t order;
  size_t position;  // in running_, unless one before it was aborted since
};

class Engine::Impl {
 public:
  explicit Impl(const EngineOptions& options)
      : options_(options),
        pool_(options.num_blocks, options.block_listener),
        tier_(options.cpu_blocks, options.block_listener),
        holds_(pool_),
        tier_in_(options.tier_link),
        peer_in_(options.peer_link),
        peer_out_(options.peer_link),
        random_(options.seed) {
    waiting_.resize(1);
    loads_.resize(1);
  }

  Result<> Submit(Request request);
  bool Abort(uint64_t id);
  void Reset();
  bool ResetPrefixCache();
  Step BeginStep() { return BeginStep(step_end_); }
  Step BeginStep(Time now);
  std::span<const Event> EndStep();
  EngineStats Stats() const;
  bool DelayLoad(uint64_t id, Time time);
  bool FailLoad(uint64_t id);
  Result<Time> ConsumeHold(uint64_t id, uint64_t prefix_hash, uint32_t tokens, Time now);

  HoldTable& holds() { return holds_; }
  const EngineOptions& options() const { return options_; }
  bool has_work() const {
    return !running_.empty() || waiting_count_ > 0 || !transfers_.empty() ||
           holds_.stats().holds > 0;
  }
  bool in_step() const { return in_step_; }
  std::span<const LoraLoad> loads() const { return loads_; }

 private:
  // Schedules the running requests; returns whether one was preempted.
  bool ScheduleRunning();
  void AdmitReady();
  void AdmitWaiting();
  bool Admit(uint32_t slot);
  // Makes an admitted request a running one; its blocks and `computed` are set.
  void Run(uint32_t slot);
  bool IsLoraBlocked(uint32_t lora) const {
    return lora != 0 && loads_[lora].running == 0 && running_loras_ >= options_.max_loras;
  }
  // Tokens beyond the match that a peer or the tier has.
  uint32_t ExternalTokens(const Sequence& sequence, std::span<const uint64_t> reusable) const;
  // Some of the hashes, which the tier holds, are on their way for another request.
  bool IsBeingLoaded(std::span<const uint64_t> hashes) const;
  // The hashes of what a sequence loads.
  std::span<const uint64_t> LoadedHashes(const Sequence& sequence) const;
  enum class Source : uint8_t { kTier, kPeer };
  void StartLoad(uint32_t slot, uint32_t tokens, Source source);
  void EndLoads();
  // The transfer is over; its request, when it is not gone, can run.
  void EndLoad(uint32_t slot);
  void MakeReady(uint32_t slot);
  Sequence* FindPeerLoad(uint64_t id);
  // What the step that ends has computed.
  void StoreInTier();
  // Until a transfer or a hold ends; 0: there is none.
  Duration UntilNext() const;
  // Makes room for `target` tokens of a sequence; false when blocks are short (nothing changes).
  bool Grow(Sequence& sequence, uint32_t target);
  // Takes back what Grow published for a chunk that will not be computed.
  void Unpublish(Sequence& sequence, uint32_t chunk);
  // Makes room for a running sequence at the cost of others; false when it is one of these.
  // `at`: its position, which moves when one before it goes.
  bool PreemptFor(uint32_t slot, uint32_t target, size_t* at);
  void Preempt(uint32_t slot);
  uint32_t PickVictim() const;
  void Schedule(uint32_t slot, uint32_t chunk, size_t position);
  void EraseRunning(size_t position);

  // A decode coasts in the steps in which nothing is to be done for it but to count: no block to
  // take or publish, not its last token. They are counted all at once.
  bool IsCoasting(size_t position) const { return due_[position] > step_number_; }
  // After its token: lets it coast from the next step on, when it can.
  void Coast(uint32_t slot, size_t position);
  // Makes `computed` and `generated` true again, and it coasts no more.
  void EndCoast(Sequence& sequence);
  // A step has them in its load, and when it ends they have a token more.
  void AddCoasting();
  void CountCoasting();
  // Brings what the step's due sequences will touch into the processor's cache.
  void PrefetchDue();
  uint32_t Chunk(uint32_t wanted) const;
  // The adapter queue whose head goes next, or nullptr when nobody may be admitted.
  std::set<Turn>* NextQueue();
  // Asynchronous scheduling: those who came before the step under way was made, or all, wait in a
  // queue from now on.
  enum class Known : uint8_t { kBeforeTheLastStep, kAll };
  void Reveal(Known known);
  // The blocks of requests that ended, which the scheduler learns of now.
  void ReleaseEnded();
  void Enqueue(uint32_t slot);
  void StartWaiting(uint32_t slot);
  void StopWaiting(uint32_t slot);
  // Takes a waiting request out of where its state has it.
  void Unqueue(uint32_t slot);
  void Park(uint32_t slot);
  void ReleaseBlocks(Sequence& sequence);
  void HoldBlocks(Sequence& sequence);
  void Free(uint32_t slot);
  void FreeSlot(uint32_t slot);
  void Emit(std::vector<Event>& to, const Sequence& sequence, Event::Kind kind, uint32_t count);
  Duration NoisyDuration(const StepLoad& load, bool is_idle);
  Turn TurnOf(uint32_t slot) const {
    const Sequence& s = sequences_[slot];
    return {options_.policy == Policy::kPriority ? s.request.priority : 0, s.order, slot};
  }
  uint32_t BlocksFor(uint64_t tokens) const {
    return static_cast<uint32_t>((tokens + options_.block_size - 1) / options_.block_size);
  }

  const EngineOptions options_;
  BlockPool pool_;
  CpuTier tier_;
  HoldTable holds_;
  Link tier_in_, peer_in_, peer_out_;
  Random random_;
  std::vector<Sequence> sequences_;
  std::vector<uint32_t> free_slots_;
  boost::unordered_flat_map<uint64_t, uint32_t> by_id_;
  std::vector<std::set<Turn>> waiting_;  // by adapter, so that a blocked one costs nothing
  std::vector<uint32_t> arrived_;        // in the order of submission
  size_t arrived_before_step_ = 0;       // of them, before the last step was made
  std::vector<std::vector<BlockPool::BlockId>> ended_;  // blocks that are not free yet
  std::set<Turn> ready_;
  std::vector<uint32_t> parked_;
  std::set<Transfer> transfers_;
  boost::unordered_flat_set<uint64_t> loading_hashes_;  // from the tier
  std::vector<LoraLoad> loads_;
  std::vector<uint32_t> running_;  // in the order of admission
  std::vector<uint64_t> due_;      // of each of running_: it coasts in steps before this one
  std::vector<uint32_t> prefetched_;
  std::vector<BatchEntry> batch_;
  std::vector<Event> begin_events_, end_events_;
  BlockPool::Match match_;
  StepLoad load_;
  EngineStats stats_;
  Time time_{};      // the latest that is known
  Time step_end_{};  // of the step under way, or of the last one
  uint64_t next_order_ = 0;
  uint64_t step_number_ = 1;        // of the step under way, or of the next one
  uint32_t coasting_ = 0;           // sequences
  uint64_t coasting_computed_ = 0;  // their computed tokens before the step
  uint32_t waiting_count_ = 0;      // in whatever state before kRunning
  uint32_t running_loras_ = 0;      // distinct adapters
  uint32_t budget_ = 0;             // tokens left in the step that is being made
  bool in_step_ = false;
  bool was_idle_ = true;  // when the last step began
};

}  // namespace penstock::engine
