// One publisher of KV events as its listener sees it: the order of its batches, what was missed,
// what is asked for again, and how far it can be believed. No sockets: the body tells what came and
// asks what to do.
//
//   CONNECTING  nobody is there yet, or any more
//   SYNCING     history was asked for; live batches wait meanwhile
//   EXACT       all batches since the engine's first one, or since it had nothing
//   DEGRADED    something was missed; what is known may be less, or outdated, than what is there
//   STALE       silent although the engine works
//   GONE        the endpoint has left; nothing counts any more
//
// THREADS: belongs to its lane's thread; state() and its like from any thread.
// OWNS: live batches that wait for history, at most Options::max_waiting_bytes of them.
// SOURCE: docs/design/0005-exact-caches.md; vLLM's ZmqEventPublisher for sequences and replay.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "core/time.h"
#include "kvcache/event_decoder.h"
#include "kvcache/kv_event.h"

namespace penstock::kvcache {

enum class PublisherState : uint8_t { kConnecting, kSyncing, kExact, kDegraded, kStale, kGone };
inline constexpr size_t kPublisherStates = 6;
std::string_view PublisherStateName(PublisherState state);

// Why a publisher is not exact, or what was wrong last.
enum class PublisherReason : uint8_t {
  kNone,
  kNoHistory,         // joined after its first batch, and it keeps none to ask for
  kTruncatedHistory,  // asked too late: the first batches have left the ring
  kGap,               // batches were lost on the way and could not be had again
  kNoReply,           // history was asked for, and did not come, or not to its end
  kOverflow,          // more live batches than may wait
  kUndecodable,       // events that were not understood
  kSilent,            // no batch for long while the engine works
  kDrift,             // the engine's own counts of cached tokens differ from what was expected
};
inline constexpr size_t kPublisherReasons = 9;
std::string_view PublisherReasonName(PublisherReason reason);

// Who holds the publisher's blocks.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void Apply(const KvEvent& event) = 0;
  // It has nothing: a new process is there.
  virtual void Clear() = 0;
  // What is known from before may be outdated, and less than there is.
  virtual void MarkGap(Time now) = 0;
  // As many blocks were stored since the last gap as the engine has room for, so that all it holds
  // is known.
  virtual bool HasTurnedOver() const = 0;
};

class Publisher {
 public:
  struct Options {
    bool has_replay = false;  // there is somebody to ask for history
    size_t max_waiting_bytes = size_t{8} << 20;
    Duration stale_after = seconds(30);
    Duration replay_patience = seconds(5);  // between two pieces of an answer
    Duration replay_again_after = seconds(30);
  };
  struct Counts {
    std::atomic<uint64_t> batches{0}, bytes{0}, events{0};
    std::atomic<uint64_t> gaps{0};      // how often batches were missed
    std::atomic<uint64_t> missed{0};    // batches that never came
    std::atomic<uint64_t> restarts{0};  // new processes at the same place
    std::atomic<uint64_t> replays{0};   // asked for
    std::atomic<uint64_t> repeated{0};  // batches that had come before
    std::atomic<uint64_t> broken{0};    // batches that break off
    std::atomic<uint64_t> faults[kEventFaults]{};
  };
  // Of the last sequence number; no batch has it.
  static constexpr uint64_t kEndOfReplay = ~uint64_t{0};

  Publisher(const Options& options, EventSink& sink) : options_(options), sink_(sink) {}

  // Goes on from what somebody knew of the same publisher before: its blocks are the sink's
  // already. Whether it is still the same, and what it said since, its history tells when it is
  // there. REQUIRES: it has heard nothing yet.
  struct Position {
    uint64_t sequence = 0;    // of the last batch that was applied
    uint64_t batch_hash = 0;  // of its bytes
    PublisherReason flaw = PublisherReason::kNone;
    bool tells_tiers = false;  // not saved: whether the restored blocks are in several tiers
  };
  void Restore(const Position& position);
  void OnConnected(Time now);
  void OnDisconnected(Time now);
  void OnBatch(uint64_t sequence, std::string_view payload, Time now);
  // The answer to what TakeRequest said last, piece by piece; none of an answer given up.
  void OnReplayed(uint64_t sequence, std::string_view payload, Time now);
  void OnReplayEnd(Time now);
  // `is_busy`: the engine's metrics say that it works. Ends what has waited too long.
  void OnTick(Time now, bool is_busy);
  // What the engine reported of cached tokens differs from what was expected, or does no longer.
  void OnDrift(bool differs);
  void OnGone();

  // The sequence number from which history is to be asked for now, once for each request. An answer
  // that is still on its way is given up.
  std::optional<uint64_t> TakeRequest();

  PublisherState state() const { return state_.load(std::memory_order_relaxed); }
  PublisherReason reason() const { return reason_.load(std::memory_order_relaxed); }
  // Whether this process has told of blocks outside the GPU's memory.
  bool tells_tiers() const { return tells_tiers_.load(std::memory_order_relaxed); }
  // Seconds since 1970 of the last batch, by the publisher's clock; 0: none.
  double last_timestamp() const { return last_timestamp_.load(std::memory_order_relaxed); }
  // Of the last batch that was applied or given up; none: of this process there is none.
  std::optional<uint64_t> last_sequence() const {
    const uint64_t last = applied_.load(std::memory_order_relaxed);
    return last == kEndOfReplay ? std::nullopt : std::optional(last);
  }
  // What Restore needs. None: nothing was applied. Of the lane's thread.
  std::optional<Position> position() const;
  const Counts& counts() const { return counts_; }

 private:
  struct Waiting {
    uint64_t sequence;
    std::string payload;
  };

  void Set(PublisherState state, PublisherReason reason);
  // DEGRADED, and what is known is of doubtful age.
  void Degrade(PublisherReason reason, Time now);
  void Ask(uint64_t from, Time now);
  void Restart(Time now);
  // Applies one batch. Which one it is, is settled.
  void Apply(uint64_t sequence, std::string_view payload, Time now);
  // In order or not.
  void Take(uint64_t sequence, std::string_view payload, Time now);
  void TakeWaiting(Time now);
  void Wait(uint64_t sequence, std::string_view payload, Time now);
  bool is_syncing() const { return asked_from_.has_value(); }
  // The state that follows when nothing is asked for.
  void Settle();

  const Options options_;
  EventSink& sink_;
  EventDecoder decoder_;
  Counts counts_;
  std::atomic<PublisherState> state_{PublisherState::kConnecting};
  std::atomic<PublisherReason> reason_{PublisherReason::kNone};
  std::atomic<double> last_timestamp_{0};
  std::atomic<bool> tells_tiers_{false};

  bool has_answered_ = false;  // just now, with all that it has; asking again says no more
  std::atomic<uint64_t> applied_{kEndOfReplay};  // its number; all before are applied or given up
  uint64_t applied_hash_ = 0;                    // of its bytes
  std::optional<uint64_t> last_live_;
  // Why it is not exact; none: it is.
  PublisherReason flaw_ = PublisherReason::kNone;
  bool drifts_ = false;
  std::optional<uint64_t> request_;     // to be taken
  std::optional<uint64_t> asked_from_;  // until the answer's end
  bool is_probing_ = false;    // asked for a batch that it has sent: is it the same process?
  bool replay_began_ = false;  // a piece of the answer has come
  Time heard_{}, replay_heard_{}, replay_failed_{};
  std::deque<Waiting> waiting_;
  size_t waiting_bytes_ = 0;
};

}  // namespace penstock::kvcache
