#include "kvcache/publisher.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <utility>

namespace penstock::kvcache {
namespace {

uint64_t HashOf(std::string_view payload) { return XXH3_64bits(payload.data(), payload.size()); }

// vLLM counts from 0, llm-d's simulator from 1: a history that begins at 1 is taken for whole. One
// of which exactly the first batch has left the ring cannot be told from it.
constexpr uint64_t kMaxFirst = 1;

}  // namespace

std::string_view PublisherStateName(PublisherState state) {
  constexpr std::string_view kNames[kPublisherStates] = {"CONNECTING", "SYNCING", "EXACT",
                                                         "DEGRADED",   "STALE",   "GONE"};
  return kNames[static_cast<size_t>(state)];
}

std::string_view PublisherReasonName(PublisherReason reason) {
  constexpr std::string_view kNames[kPublisherReasons] = {
      "none",   "no_history", "truncated_history", "gap", "no_reply", "overflow", "undecodable",
      "silent", "drift"};
  return kNames[static_cast<size_t>(reason)];
}

void Publisher::Set(PublisherState state, PublisherReason reason) {
  state_.store(state, std::memory_order_relaxed);
  reason_.store(reason, std::memory_order_relaxed);
}

void Publisher::Settle() {
  if (is_syncing()) return;
  if (!last_sequence()) return Set(PublisherState::kConnecting, flaw_);
  const PublisherReason reason =
      flaw_ == PublisherReason::kNone && drifts_ ? PublisherReason::kDrift : flaw_;
  Set(reason == PublisherReason::kNone ? PublisherState::kExact : PublisherState::kDegraded,
      reason);
}

void Publisher::Degrade(PublisherReason reason, Time now) {
  flaw_ = reason;
  sink_.MarkGap(now);
}

void Publisher::Ask(uint64_t from, Time now) {
  request_ = asked_from_ = from;
  replay_began_ = false;
  replay_heard_ = now;
  counts_.replays.fetch_add(1, std::memory_order_relaxed);
  Set(PublisherState::kSyncing, flaw_);
}

std::optional<uint64_t> Publisher::TakeRequest() { return std::exchange(request_, std::nullopt); }

void Publisher::Restore(const Position& position) {
  applied_.store(position.sequence, std::memory_order_relaxed);
  applied_hash_ = position.batch_hash;
  // What is published from now on has a higher one, or comes from another process.
  last_live_ = position.sequence;
  flaw_ = position.flaw;
  tells_tiers_.store(position.tells_tiers, std::memory_order_relaxed);
  Set(PublisherState::kConnecting, flaw_);
}

std::optional<Publisher::Position> Publisher::position() const {
  const auto last = last_sequence();
  if (!last) return std::nullopt;
  return Position{
      .sequence = *last, .batch_hash = applied_hash_, .flaw = flaw_, .tells_tiers = tells_tiers()};
}

void Publisher::OnConnected(Time now) {
  if (state() == PublisherState::kGone) return;
  heard_ = now;
  if (!options_.has_replay) {
    // Whether it is who it was, and what it said meanwhile, nobody tells.
    if (last_sequence()) Degrade(PublisherReason::kGap, now);
    return Settle();
  }
  // Who has its last batch still, and no other in its place, is who it was.
  is_probing_ = last_sequence().has_value();
  Ask(last_sequence().value_or(0), now);
}

void Publisher::OnDisconnected(Time now) {
  if (state() == PublisherState::kGone) return;
  // Nobody is there to ask for what is missing between those that wait.
  const Time failed = std::exchange(replay_failed_, now);
  request_.reset();
  asked_from_.reset();
  // Whether those are still the same one's, it has not told.
  if (std::exchange(is_probing_, false)) Degrade(PublisherReason::kGap, now);
  TakeWaiting(now);
  replay_failed_ = failed;
  Set(PublisherState::kConnecting, flaw_);
}

void Publisher::Restart(Time now) {
  counts_.restarts.fetch_add(1, std::memory_order_relaxed);
  sink_.Clear();
  applied_.store(kEndOfReplay, std::memory_order_relaxed);
  last_live_.reset();
  flaw_ = PublisherReason::kNone;
  tells_tiers_.store(false, std::memory_order_relaxed);
  drifts_ = false;
  waiting_.clear();
  waiting_bytes_ = 0;
  is_probing_ = false;
  asked_from_.reset();
  if (options_.has_replay) Ask(0, now);
}

void Publisher::OnBatch(uint64_t sequence, std::string_view payload, Time now) {
  if (state() == PublisherState::kGone || sequence == kEndOfReplay) return;
  heard_ = now;
  // Live batches only ever count up.
  if (last_live_ && sequence <= *last_live_) Restart(now);
  last_live_ = sequence;
  if (is_syncing()) return Wait(sequence, payload, now);
  Take(sequence, payload, now);
  Settle();
}

void Publisher::Wait(uint64_t sequence, std::string_view payload, Time now) {
  if (waiting_bytes_ + payload.size() + sizeof(Waiting) <= options_.max_waiting_bytes) {
    waiting_bytes_ += payload.size() + sizeof(Waiting);
    waiting_.push_back({sequence, std::string(payload)});
    return;
  }
  // History is given up; what has come since is not.
  request_.reset();
  asked_from_.reset();
  is_probing_ = false;
  replay_failed_ = now;
  Degrade(PublisherReason::kOverflow, now);
  TakeWaiting(now);
  Take(sequence, payload, now);
  Settle();
}

void Publisher::TakeWaiting(Time now) {
  std::deque<Waiting> waiting;
  waiting.swap(waiting_);
  waiting_bytes_ = 0;
  for (const Waiting& batch : waiting) Take(batch.sequence, batch.payload, now);
}

void Publisher::Take(uint64_t sequence, std::string_view payload, Time now) {
  if (is_syncing()) return Wait(sequence, payload, now);
  const bool may_ask = options_.has_replay && (replay_failed_ == Time{} ||
                                               now - replay_failed_ >= options_.replay_again_after);
  if (!last_sequence()) {
    // All that it ever told begins here, whatever was asked for in vain.
    if (sequence == 0) flaw_ = PublisherReason::kNone;
    // Whether it counts from 1, or the first one was lost, its history tells.
    if (sequence > 0 && may_ask && !has_answered_) {
      Ask(0, now);
      return Wait(sequence, payload, now);
    }
    if (sequence > 0 && flaw_ == PublisherReason::kNone) Degrade(PublisherReason::kNoHistory, now);
    return Apply(sequence, payload, now);
  }
  const uint64_t last = *last_sequence();
  if (sequence <= last) {
    counts_.repeated.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (sequence == last + 1) return Apply(sequence, payload, now);
  counts_.gaps.fetch_add(1, std::memory_order_relaxed);
  if (may_ask) {
    is_probing_ = false;
    Ask(last + 1, now);
    return Wait(sequence, payload, now);
  }
  counts_.missed.fetch_add(sequence - last - 1, std::memory_order_relaxed);
  Degrade(PublisherReason::kGap, now);
  Apply(sequence, payload, now);
}

void Publisher::Apply(uint64_t sequence, std::string_view payload, Time now) {
  applied_.store(sequence, std::memory_order_relaxed);
  applied_hash_ = HashOf(payload);
  counts_.batches.fetch_add(1, std::memory_order_relaxed);
  counts_.bytes.fetch_add(payload.size(), std::memory_order_relaxed);
  bool is_whole = decoder_.Begin(payload);
  if (is_whole) last_timestamp_.store(decoder_.timestamp(), std::memory_order_relaxed);
  uint64_t events = 0;
  for (KvEvent event; decoder_.Next(&event); ++events) {
    sink_.Apply(event);
    // Who has nothing is known to the last block.
    if (event.type == KvEvent::Type::kCleared) flaw_ = PublisherReason::kNone;
    if (event.type == KvEvent::Type::kStored && event.tier != Tier::kGpu && !tells_tiers()) {
      tells_tiers_.store(true, std::memory_order_relaxed);
    }
  }
  counts_.events.fetch_add(events, std::memory_order_relaxed);
  if (!decoder_.ok()) {
    is_whole = false;
    counts_.broken.fetch_add(1, std::memory_order_relaxed);
  }
  for (size_t i = 0; i < kEventFaults; ++i) {
    const uint64_t faults = decoder_.faults(static_cast<EventFault>(i));
    if (faults == counts_.faults[i].load(std::memory_order_relaxed)) continue;
    counts_.faults[i].store(faults, std::memory_order_relaxed);
    if (static_cast<EventFault>(i) != EventFault::kUnknownMedium) is_whole = false;
  }
  if (!is_whole) Degrade(PublisherReason::kUndecodable, now);
}

void Publisher::OnReplayed(uint64_t sequence, std::string_view payload, Time now) {
  if (!is_syncing() || sequence == kEndOfReplay) return;
  const uint64_t from = *asked_from_;
  if (sequence < from) return;
  replay_heard_ = now;
  const bool is_first = !std::exchange(replay_began_, true);
  if (is_first && is_probing_ &&
      (sequence != last_sequence() || HashOf(payload) != applied_hash_)) {
    // Another batch in its place: another process. Where it is gone from the ring, much was missed.
    if (sequence == last_sequence()) return Restart(now);
    counts_.gaps.fetch_add(1, std::memory_order_relaxed);
    counts_.missed.fetch_add(sequence - *last_sequence() - 1, std::memory_order_relaxed);
    Degrade(PublisherReason::kTruncatedHistory, now);
    return Apply(sequence, payload, now);
  }
  if (is_first && !last_sequence()) {
    if (sequence > from + kMaxFirst) Degrade(PublisherReason::kTruncatedHistory, now);
    return Apply(sequence, payload, now);
  }
  const uint64_t last = *last_sequence();
  if (sequence <= last) {
    if (!is_probing_) counts_.repeated.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (sequence > last + 1) {
    counts_.missed.fetch_add(sequence - last - 1, std::memory_order_relaxed);
    Degrade(is_first ? PublisherReason::kTruncatedHistory : PublisherReason::kGap, now);
  }
  Apply(sequence, payload, now);
}

void Publisher::OnReplayEnd(Time now) {
  if (!is_syncing()) return;
  const uint64_t from = *asked_from_;
  asked_from_.reset();
  // It has not sent what it sent: another process that has sent less.
  if (is_probing_ && !replay_began_) return Restart(now);
  is_probing_ = false;
  replay_failed_ = Time{};
  if (!last_sequence() && waiting_.empty()) {
    // It has sent nothing yet, so nothing is missed.
    if (from == 0) Set(PublisherState::kExact, PublisherReason::kNone);
    return;
  }
  if (!waiting_.empty() && last_sequence() && waiting_.front().sequence > *last_sequence() + 1) {
    // What lies between has left the ring already; asking again finds it no more.
    const uint64_t last = *last_sequence();
    counts_.missed.fetch_add(waiting_.front().sequence - last - 1, std::memory_order_relaxed);
    Degrade(PublisherReason::kTruncatedHistory, now);
    applied_.store(waiting_.front().sequence - 1, std::memory_order_relaxed);
  }
  has_answered_ = from == 0;
  TakeWaiting(now);
  has_answered_ = false;
  Settle();
}

void Publisher::OnTick(Time now, bool is_busy) {
  if (state() == PublisherState::kGone || state() == PublisherState::kConnecting) return;
  if (is_syncing()) {
    if (now - replay_heard_ < options_.replay_patience) return;
    request_.reset();
    asked_from_.reset();
    replay_failed_ = now;
    is_probing_ = false;
    Degrade(PublisherReason::kNoReply, now);
    TakeWaiting(now);
    Settle();
    return;
  }
  if (flaw_ != PublisherReason::kNone && last_sequence() && sink_.HasTurnedOver()) {
    flaw_ = PublisherReason::kNone;
  }
  if (is_busy && now - heard_ >= options_.stale_after) {
    return Set(PublisherState::kStale, PublisherReason::kSilent);
  }
  if (last_sequence()) Settle();
}

void Publisher::OnDrift(bool differs) {
  drifts_ = differs;
  if (state() == PublisherState::kExact || state() == PublisherState::kDegraded) Settle();
}

void Publisher::OnGone() {
  waiting_.clear();
  waiting_bytes_ = 0;
  request_.reset();
  asked_from_.reset();
  Set(PublisherState::kGone, PublisherReason::kNone);
}

}  // namespace penstock::kvcache
