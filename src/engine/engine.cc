#include "engine/engine.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <string>
#include <utility>

#include "core/exact_math.h"
#include "engine/engine_impl.h"

namespace penstock::engine {
namespace {

constexpr uint32_t kMaxLoraIndex = 1023;
// A driver's clock may be this late for a step that follows another.
constexpr Duration kFollows = microseconds(100);

Result<> Check(const EngineOptions& o) {
  const std::pair<const char*, uint32_t> bounds[] = {
      {"block_size", o.block_size},       {"num_blocks", o.num_blocks},
      {"max_num_seqs", o.max_num_seqs},   {"max_num_batched_tokens", o.max_num_batched_tokens},
      {"max_model_len", o.max_model_len}, {"max_loras", o.max_loras},
      {"max_waiting", o.max_waiting},
  };
  for (const auto& [name, value] : bounds) {
    if (value == 0) return Fail(Code::kInvalidArgument, std::string(name) + " is 0");
  }
  const uint64_t capacity = uint64_t{o.num_blocks} * o.block_size;
  if (capacity < o.max_model_len) {
    return Fail(Code::kInvalidArgument, "max_model_len " + std::to_string(o.max_model_len) +
                                            " is above the " + std::to_string(capacity) +
                                            " tokens that the KV cache holds");
  }
  if (o.cpu_blocks > 0 && o.kv_bytes_per_token == 0) {
    return Fail(Code::kInvalidArgument,
                "a CPU tier needs the size of a token's KV: kvCache.bytesPerToken is 0");
  }
  return {};
}

}  // namespace

Result<> Engine::Impl::Submit(Request request) {
  const uint32_t longest_prompt = options_.max_model_len - (request.output_tokens > 0 ? 1 : 0);
  if (request.prompt_tokens == 0) return Fail(Code::kOutOfRange, "the prompt has no tokens");
  if (request.prompt_tokens > longest_prompt) {
    return Fail(Code::kOutOfRange, "the prompt's " + std::to_string(request.prompt_tokens) +
                                       " tokens are more than the " +
                                       std::to_string(longest_prompt) + " that the model takes");
  }
  if (request.lora > kMaxLoraIndex) {
    return Fail(Code::kOutOfRange, "adapter " + std::to_string(request.lora) + " is above " +
                                       std::to_string(kMaxLoraIndex));
  }
  if (waiting_count_ >= options_.max_waiting) {
    return Fail(Code::kResourceExhausted,
                std::to_string(waiting_count_) + " requests wait already");
  }
  if (request.remote_tokens > request.prompt_tokens) {
    return Fail(Code::kOutOfRange, "a peer has " + std::to_string(request.remote_tokens) +
                                       " tokens of a prompt of " +
                                       std::to_string(request.prompt_tokens));
  }
  if (request.remote_tokens > 0 && options_.kv_bytes_per_token == 0) {
    return Fail(Code::kInvalidArgument, "remote KV needs kv_bytes_per_token, which is 0");
  }
  if (holds_.IsHeld(request.id)) {
    return Fail(Code::kAlreadyExists, "request " + std::to_string(request.id) + " is held");
  }
  if (by_id_.contains(request.id)) {
    return Fail(Code::kAlreadyExists, "request " + std::to_string(request.id) + " is running");
  }
  const uint32_t room = options_.max_model_len - request.prompt_tokens;
  if (request.output_tokens > room) {
    request.output_tokens = room;
    request.end = FinishReason::kLength;
  }
  const uint64_t prefix_hash = PrefixHash(request, options_.block_size);
  if (!options_.prefix_caching) request.block_hashes.clear();

  uint32_t slot;
  if (free_slots_.empty()) {
    slot = static_cast<uint32_t>(sequences_.size());
    sequences_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  by_id_.emplace(request.id, slot);
  if (request.lora >= waiting_.size()) {
    waiting_.resize(request.lora + 1);
    loads_.resize(request.lora + 1);
  }
  sequences_[slot].request = std::move(request);
  sequences_[slot].order = next_order_++;
  sequences_[slot].prefix_hash = prefix_hash;
  StartWaiting(slot);
  return {};
}

void Engine::Impl::Reveal(Known known) {
  const size_t count = known == Known::kAll ? arrived_.size() : arrived_before_step_;
  for (size_t i = 0; i < count; ++i) Enqueue(arrived_[i]);
  arrived_.erase(arrived_.begin(), arrived_.begin() + static_cast<ptrdiff_t>(count));
  arrived_before_step_ = arrived_.size();
}

void Engine::Impl::ReleaseEnded() {
  for (const std::vector<BlockPool::BlockId>& blocks : ended_) pool_.Release(blocks);
  ended_.clear();
}

void Engine::Impl::StartWaiting(uint32_t slot) {
  if (options_.async_scheduling && !sequences_[slot].admitted_before) {
    sequences_[slot].state = Sequence::State::kArrived;
    arrived_.push_back(slot);
  } else {
    Enqueue(slot);
  }
  ++loads_[sequences_[slot].request.lora].waiting;
  ++waiting_count_;
}

void Engine::Impl::StopWaiting(uint32_t slot) {
  Unqueue(slot);
  --loads_[sequences_[slot].request.lora].waiting;
  --waiting_count_;
}

void Engine::Impl::Enqueue(uint32_t slot) {
  Sequence& sequence = sequences_[slot];
  sequence.state = Sequence::State::kWaiting;
  waiting_[sequence.request.lora].insert(TurnOf(slot));
}

void Engine::Impl::Unqueue(uint32_t slot) {
  const Sequence& sequence = sequences_[slot];
  if (sequence.state == Sequence::State::kWaiting) {
    waiting_[sequence.request.lora].erase(TurnOf(slot));
  } else if (sequence.state == Sequence::State::kReady) {
    ready_.erase(TurnOf(slot));
  } else if (sequence.state == Sequence::State::kParked) {
    std::erase(parked_, slot);
  } else if (sequence.state == Sequence::State::kArrived) {
    const auto at = std::find(arrived_.begin(), arrived_.end(), slot);
    if (at < arrived_.begin() + static_cast<ptrdiff_t>(arrived_before_step_)) {
      --arrived_before_step_;
    }
    arrived_.erase(at);
  }
}

void Engine::Impl::Park(uint32_t slot) {
  Unqueue(slot);
  sequences_[slot].state = Sequence::State::kParked;
  parked_.push_back(slot);
}

bool Engine::Impl::Abort(uint64_t id) {
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return false;
  const uint32_t slot = it->second;
  if (sequences_[slot].state == Sequence::State::kRunning) {
    EraseRunning(
        static_cast<size_t>(std::find(running_.begin(), running_.end(), slot) - running_.begin()));
  }
  Free(slot);
  if (running_.empty()) ReleaseEnded();
  return true;
}

void Engine::Impl::Reset() {
  for (uint32_t slot = 0; slot < sequences_.size(); ++slot) {
    Sequence& sequence = sequences_[slot];
    if (sequence.state == Sequence::State::kFree) continue;
    if (sequence.state != Sequence::State::kOrphan) Free(slot);
    if (sequence.state == Sequence::State::kOrphan) {
      ReleaseBlocks(sequence);
      FreeSlot(slot);
    }
  }
  running_.clear();
  due_.clear();
  ReleaseEnded();
  was_idle_ = true;
  transfers_.clear();
  loading_hashes_.clear();
  tier_in_.Clear();
  peer_in_.Clear();
  peer_out_.Clear();
  holds_.Clear();
  tier_.Clear();
  pool_.ForgetUnused();
}

bool Engine::Impl::ResetPrefixCache() {
  if (pool_.free_blocks() < pool_.total_blocks()) return false;
  tier_.Clear();
  pool_.ForgetUnused();
  return true;
}

// Ends a sequence's life; a running one is taken from running_ by the caller. One whose blocks are
// being written to keeps its slot until EndLoad.
void Engine::Impl::Free(uint32_t slot) {
  Sequence& sequence = sequences_[slot];
  by_id_.erase(sequence.request.id);
  if (sequence.state == Sequence::State::kRunning) {
    if (sequence.is_coasting) EndCoast(sequence);
    LoraLoad& load = loads_[sequence.request.lora];
    if (--load.running == 0 && sequence.request.lora != 0) --running_loras_;
  } else {
    StopWaiting(slot);
  }
  if (sequence.state == Sequence::State::kLoading) {
    sequence.state = Sequence::State::kOrphan;
    return;
  }
  ReleaseBlocks(sequence);
  FreeSlot(slot);
}

void Engine::Impl::FreeSlot(uint32_t slot) {
  sequences_[slot] = Sequence();
  sequences_[slot].order = UINT64_MAX;
  free_slots_.push_back(slot);
}

void Engine::Impl::ReleaseBlocks(Sequence& sequence) {
  if (sequence.stored > 0) tier_.Touch({sequence.request.block_hashes.data(), sequence.stored});
  pool_.Release(sequence.blocks);
  sequence.blocks.clear();
  sequence.computed = 0;
  sequence.room = 0;
  sequence.published = 0;
  sequence.stored = 0;
}

Step Engine::Impl::BeginStep(Time now) {
  assert(!in_step_);
  in_step_ = true;
  const bool is_idle = running_.empty() || now > step_end_ + kFollows;
  time_ = std::max(time_, now);
  begin_events_.clear();
  batch_.clear();
  load_ = StepLoad();
  budget_ = options_.max_num_batched_tokens;
  EndLoads();
  holds_.Expire(time_);
  Reveal(is_idle || was_idle_ ? Known::kAll : Known::kBeforeTheLastStep);
  if (is_idle) ReleaseEnded();
  was_idle_ = is_idle;
  const bool preempted = ScheduleRunning();
  if (!preempted) {
    AdmitReady();
    AdmitWaiting();
  }
  ReleaseEnded();

  if (preempted) {
    load_ = StepLoad();
    for (const BatchEntry& entry : batch_) {
      load_.Add(sequences_[entry.slot].computed - entry.chunk, entry.chunk);
    }
  }
  AddCoasting();
  Step step;
  step.load = load_;
  step.events = begin_events_;
  if (load_.sequences > 0) {
    ++stats_.steps;
    step.duration = NoisyDuration(load_, is_idle);
  } else if (!preempted) {
    step.duration = UntilNext();
  }
  step_end_ = time_ + step.duration;
  return step;
}

bool Engine::Impl::ScheduleRunning() {
  if (!options_.tells_every_token) PrefetchDue();
  const size_t before = running_.size();
  size_t i = 0;
  while (i < running_.size() && budget_ > 0) {
    if (IsCoasting(i)) {
      --budget_;
      ++i;
      continue;
    }
    const uint32_t slot = running_[i];
    Sequence& sequence = sequences_[slot];
    if (sequence.is_coasting) EndCoast(sequence);
    const uint32_t chunk = Chunk(sequence.tokens() - sequence.computed);
    const uint32_t target = sequence.computed + chunk;
    // Most steps of a decode stay inside a block. When it must go itself, the next one moves to i.
    if (target > sequence.room && !Grow(sequence, target) && !PreemptFor(slot, target, &i)) {
      continue;
    }
    Schedule(slot, chunk, i++);
  }
  // Who has coasted had budget left in the last step, so that nobody before it took less than it
  // wanted and nobody takes more now: the budget reaches all that coast.
  assert(std::none_of(due_.begin() + static_cast<ptrdiff_t>(i), due_.end(),
                      [&](uint64_t due) { return due > step_number_; }));
  return running_.size() < before;
}

bool Engine::Impl::PreemptFor(uint32_t slot, uint32_t target, size_t* at) {
  while (true) {
    const uint32_t victim = PickVictim();
    const auto position =
        static_cast<size_t>(std::find(running_.begin(), running_.end(), victim) - running_.begin());
    // A victim before this one was scheduled in this step already; its share is free again.
    if (position < *at) {
      const auto entry = std::find_if(batch_.begin(), batch_.end(),
                                      [&](const BatchEntry& e) { return e.slot == victim; });
      if (entry == batch_.end()) {
        ++budget_;  // it coasts
      } else {
        budget_ += entry->chunk;
        Unpublish(sequences_[victim], entry->chunk);
        batch_.erase(entry);
      }
      for (BatchEntry& later : batch_) later.position -= later.position > position ? 1 : 0;
      --*at;
    }
    EraseRunning(position);
    Preempt(victim);
    if (victim == slot) return false;
    if (Grow(sequences_[slot], target)) return true;
  }
}

void Engine::Impl::EraseRunning(size_t position) {
  running_.erase(running_.begin() + static_cast<ptrdiff_t>(position));
  due_.erase(due_.begin() + static_cast<ptrdiff_t>(position));
}

uint32_t Engine::Impl::Chunk(uint32_t wanted) const {
  uint32_t chunk = std::min(wanted, budget_);
  if (options_.long_prefill_tokens > 0) chunk = std::min(chunk, options_.long_prefill_tokens);
  return chunk;
}

bool Engine::Impl::Grow(Sequence& sequence, uint32_t target) {
  if (target <= sequence.room) return true;
  const size_t needed = BlocksFor(target);
  const size_t held = sequence.blocks.size();
  if (needed > held && needed - held > pool_.free_blocks()) ReleaseEnded();  // before a preemption
  if (needed > held && needed - held > pool_.free_blocks()) return false;
  while (sequence.blocks.size() < needed) sequence.blocks.push_back(pool_.Take());
  // Content counts as present from the step that computes it on: whoever is admitted later in the
  // same step runs after it.
  const std::vector<uint64_t>& hashes = sequence.request.block_hashes;
  const uint32_t full =
      std::min<uint32_t>(target / options_.block_size, static_cast<uint32_t>(hashes.size()));
  for (; sequence.published < full; ++sequence.published) {
    pool_.Publish(sequence.blocks[sequence.published], hashes[sequence.published]);
  }
  uint64_t room = uint64_t{options_.block_size} * sequence.blocks.size();
  if (full < hashes.size()) room = std::min(room, uint64_t{options_.block_size} * (full + 1) - 1);
  sequence.room = static_cast<uint32_t>(std::min<uint64_t>(room, UINT32_MAX));
  return true;
}

uint32_t Engine::Impl::PickVictim() const {
  if (options_.policy == Policy::kFcfs) return running_.back();
  return *std::max_element(running_.begin(), running_.end(),
                           [&](uint32_t a, uint32_t b) { return TurnOf(a) < TurnOf(b); });
}

void Engine::Impl::Unpublish(Sequence& sequence, uint32_t chunk) {
  const uint32_t full = (sequence.computed - chunk) / options_.block_size;
  sequence.room = 0;
  while (sequence.published > full) {
    pool_.Unpublish(sequence.blocks[--sequence.published]);
  }
}

void Engine::Impl::Preempt(uint32_t slot) {
  Sequence& sequence = sequences_[slot];
  if (sequence.is_coasting) EndCoast(sequence);
  ReleaseBlocks(sequence);
  if (--loads_[sequence.request.lora].running == 0 && sequence.request.lora != 0) --running_loras_;
  // Its order is older than that of everything that waits for its first turn, so it goes in front.
  StartWaiting(slot);
  ++stats_.preemptions;
  Emit(begin_events_, sequence, Event::Kind::kPreempted, sequence.generated);
}

void Engine::Impl::Schedule(uint32_t slot, uint32_t chunk, size_t position) {
  Sequence& sequence = sequences_[slot];
  load_.Add(sequence.computed, chunk);
  sequence.computed += chunk;
  budget_ -= chunk;
  batch_.push_back({slot, chunk, sequence.order, position});
}

// They have their blocks, so nothing that waits for blocks may stand in their way.
void Engine::Impl::AdmitReady() {
  for (auto it = ready_.begin(); it != ready_.end();) {
    if (budget_ == 0 || running_.size() + ended_.size() >= options_.max_num_seqs) return;
    const uint32_t slot = (it++)->slot;
    if (!IsLoraBlocked(sequences_[slot].request.lora)) Run(slot);
  }
}

void Engine::Impl::AdmitWaiting() {
  while (budget_ > 0 && running_.size() + ended_.size() < options_.max_num_seqs &&
         waiting_count_ > 0) {
    std::set<Turn>* queue = NextQueue();
    if (queue == nullptr) return;
    // The head of the line waits for its blocks; nobody overtakes it.
    if (!Admit(queue->begin()->slot)) return;
  }
}

std::set<Turn>* Engine::Impl::NextQueue() {
  std::set<Turn>* best = nullptr;
  for (uint32_t lora = 0; lora < waiting_.size(); ++lora) {
    if (waiting_[lora].empty()) continue;
    if (IsLoraBlocked(lora)) continue;
    if (best == nullptr || *waiting_[lora].begin() < *best->begin()) best = &waiting_[lora];
  }
  return best;
}

bool Engine::Impl::Admit(uint32_t slot) {
  Sequence& sequence = sequences_[slot];
  const uint32_t tokens = sequence.tokens();
  const std::vector<uint64_t>& hashes = sequence.request.block_hashes;
  const size_t reusable = std::min<size_t>((tokens - 1) / options_.block_size, hashes.size());
  const Source source = sequence.request.remote_tokens > 0 ? Source::kPeer : Source::kTier;
  const bool asks = source == Source::kPeer || tier_.capacity() > 0;
  // The head of the line asks in every step. As long as its prefix does not go on in the cache,
  // each revival can spare it one block at most, and a look-up of all of them is not needed: 20 %
  // of a replay of long prompts.
  const bool can_go_on = sequence.matched < reusable && pool_.Has(hashes[sequence.matched]);
  const uint64_t revived = pool_.revivals() - sequence.revivals;
  if (!asks && !can_go_on && sequence.wanted > pool_.free_blocks() + revived) return false;
  pool_.Find({hashes.data(), reusable}, &match_);
  const uint32_t hit = static_cast<uint32_t>(match_.blocks.size()) * options_.block_size;
  const uint64_t wanted = BlocksFor(tokens) - match_.blocks.size() + match_.on_free_list;
  const uint32_t external = asks ? ExternalTokens(sequence, {hashes.data(), reusable}) : 0;
  if (external > 0 && source == Source::kTier &&
      IsBeingLoaded({hashes.data() + match_.blocks.size(), external / options_.block_size})) {
    Park(slot);
    return true;
  }
  if (wanted > pool_.free_blocks()) {
    sequence.wanted = wanted;
    sequence.revivals = pool_.revivals();
    sequence.matched = match_.blocks.size();
    return false;
  }
  sequence.wanted = 0;

  pool_.Reference(match_.blocks);
  sequence.blocks.reserve(
      BlocksFor(uint64_t{sequence.request.prompt_tokens} + sequence.request.output_tokens));
  sequence.blocks.assign(match_.blocks.begin(), match_.blocks.end());
  sequence.published = static_cast<uint32_t>(match_.blocks.size());
  sequence.computed = hit;
  if (!sequence.admitted_before) {
    sequence.admitted_before = true;
    stats_.prefix_query_tokens += tokens;
    stats_.prefix_hit_tokens += hit;
    if (asks) stats_.external_query_tokens += tokens - hit;
    stats_.external_hit_tokens += external;
  }
  sequence.request.remote_tokens = 0;  // after a preemption it computes its prompt
  if (external > 0) {
    StartLoad(slot, external, source);
  } else {
    Run(slot);
  }
  return true;
}

void Engine::Impl::Run(uint32_t slot) {
  Sequence& sequence = sequences_[slot];
  StopWaiting(slot);
  LoraLoad& load = loads_[sequence.request.lora];
  if (load.running++ == 0 && sequence.request.lora != 0) ++running_loras_;
  sequence.state = Sequence::State::kRunning;
  running_.push_back(slot);
  due_.push_back(0);
  Emit(begin_events_, sequence, Event::Kind::kScheduled, sequence.computed);
  const uint32_t chunk = Chunk(sequence.tokens() - sequence.computed);
  [[maybe_unused]] const bool grown = Grow(sequence, sequence.computed + chunk);
  assert(grown);
  Schedule(slot, chunk, running_.size() - 1);
}

std::span<const Event> Engine::Impl::EndStep() {
  assert(in_step_);
  in_step_ = false;
  end_events_.clear();
  if (load_.sequences > 0) time_ = step_end_;
  if (tier_.capacity() > 0) StoreInTier();
  CountCoasting();
  bool finished = false;
  for (const BatchEntry& entry : batch_) {
    Sequence& sequence = sequences_[entry.slot];
    if (sequence.order != entry.order) continue;          // aborted during the step
    if (sequence.computed < sequence.tokens()) continue;  // more chunks of the prompt to come
    if (sequence.generated == 0) stats_.prompt_tokens += sequence.request.prompt_tokens;
    if (sequence.generated < sequence.request.output_tokens) {
      ++sequence.generated;
      ++stats_.generation_tokens;
      if (sequence.generated == 1 || options_.tells_every_token) {
        Emit(end_events_, sequence, Event::Kind::kToken, sequence.generated);
      }
    }
    if (sequence.generated == sequence.request.output_tokens) {
      Emit(end_events_, sequence, Event::Kind::kFinished, sequence.generated);
      if (sequence.request.hold > Duration(0)) HoldBlocks(sequence);
      if (options_.async_scheduling) ended_.push_back(std::exchange(sequence.blocks, {}));
      Free(entry.slot);
      finished = true;
    } else if (!options_.tells_every_token) {
      Coast(entry.slot, entry.position);
    }
  }
  if (finished) {
    size_t kept = 0;
    for (size_t i = 0; i < running_.size(); ++i) {
      if (sequences_[running_[i]].state != Sequence::State::kRunning) continue;
      due_[kept] = due_[i];
      running_[kept++] = running_[i];
    }
    running_.resize(kept);
    due_.resize(kept);
    if (running_.empty()) ReleaseEnded();
  }
  batch_.clear();
  ++step_number_;
  return end_events_;
}

void Engine::Impl::Emit(std::vector<Event>& to, const Sequence& sequence, Event::Kind kind,
                        uint32_t count) {
  to.push_back({sequence.request.id, kind, sequence.request.end, count});
}

Duration Engine::Impl::NoisyDuration(const StepLoad& load, bool is_idle) {
  double seconds = StepSeconds(options_.costs, load);
  if (is_idle) seconds += options_.costs.idle_ms * 1e-3;
  if (options_.kernel_times != nullptr) seconds += options_.kernel_times->Seconds(load);
  if (options_.costs.noise > 0) {
    const double normal = ExactNormalQuantile(std::max(random_.Uniform(), 0x1.0p-53));
    seconds *= std::clamp(1 + options_.costs.noise * normal, 0.5, 2.0);
  }
  return FromSeconds(seconds);
}

EngineStats Engine::Impl::Stats() const {
  EngineStats stats = stats_;
  stats.running = static_cast<uint32_t>(running_.size());
  stats.waiting = waiting_count_;
  stats.loading = static_cast<uint32_t>(transfers_.size());
  stats.num_blocks = pool_.total_blocks();
  stats.used_blocks = pool_.total_blocks() - pool_.free_blocks();
  stats.cpu_blocks_used = tier_.blocks();
  stats.holds = holds_.stats();
  return stats;
}

Result<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options) {
  if (Result<> ok = Check(options); !ok) return std::unexpected(ok.error());
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(options)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
Result<> Engine::Submit(Request request) { return impl_->Submit(std::move(request)); }
bool Engine::Abort(uint64_t id) { return impl_->Abort(id); }
void Engine::Reset() { impl_->Reset(); }
bool Engine::ResetPrefixCache() { return impl_->ResetPrefixCache(); }
bool Engine::HasWork() const { return impl_->has_work(); }
Step Engine::BeginStep() { return impl_->BeginStep(); }
Step Engine::BeginStep(Time now) { return impl_->BeginStep(now); }
std::span<const Event> Engine::EndStep() { return impl_->EndStep(); }
bool Engine::in_step() const { return impl_->in_step(); }
bool Engine::DelayLoad(uint64_t id, Time time) { return impl_->DelayLoad(id, time); }
bool Engine::FailLoad(uint64_t id) { return impl_->FailLoad(id); }
std::optional<Hold> Engine::FindHold(uint64_t id) const { return impl_->holds().Find(id); }
Result<Time> Engine::ConsumeHold(uint64_t id, uint64_t prefix_hash, uint32_t tokens, Time now) {
  return impl_->ConsumeHold(id, prefix_hash, tokens, now);
}
bool Engine::ReleaseHold(uint64_t id, Time now) { return impl_->holds().Release(id, now); }
bool Engine::ExtendHold(uint64_t id, Duration lease, Time now) {
  return impl_->holds().Extend(id, now + lease, now);
}
EngineStats Engine::Stats() const { return impl_->Stats(); }
std::span<const Engine::LoraLoad> Engine::LoraLoads() const { return impl_->loads(); }
const EngineOptions& Engine::options() const { return impl_->options(); }

}  // namespace penstock::engine
