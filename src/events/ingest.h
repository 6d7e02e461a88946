// Listens to the engines' KV events on a thread of its own and keeps the index of who holds what.
//
// For each endpoint a SUB socket goes to where the engine publishes and, when it keeps history, a
// DEALER to where that can be had. Or, where engines connect to the router, one bound socket takes
// all, and the topic tells whose a batch is ("kv@10.0.0.7:8000@model").
//
// THREADS: SetEndpoints and Views from any thread; sockets, publishers and holders live on the
// listener's. REQUIRES: the caches outlive it.
// COST: an idle endpoint costs a heartbeat in 10 s. A thousand sockets wait in one epoll.
// SOURCE: docs/design/0005-exact-caches.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "kvcache/exact_caches.h"
#include "kvcache/holder.h"
#include "kvcache/publisher.h"
#include "kvcache/snapshot.h"

namespace penstock::events {

// One engine's rank that publishes.
struct EventSource {
  std::string name;         // the endpoint's; unique
  std::string address;      // "10.0.0.7:8000", as a topic has it
  uint32_t slot = 0;        // of the fleet
  std::string events;       // "tcp://10.0.0.7:5557"; "": it connects to the bound socket
  std::string replay;       // "": it keeps no history
  uint32_t gpu_blocks = 0;  // 0: unknown
  bool is_guess = false;    // nobody said that it publishes there: seldom dialled, in the end

  // Whether it is the same publisher; the rest may change.
  bool IsSame(const EventSource& other) const {
    return name == other.name && slot == other.slot && events == other.events &&
           replay == other.replay && address == other.address && is_guess == other.is_guess;
  }
};

// What there is to tell of one source, for people.
struct SourceView {
  EventSource source;
  kvcache::PublisherState state = kvcache::PublisherState::kConnecting;
  kvcache::PublisherReason reason = kvcache::PublisherReason::kNone;
  std::optional<uint64_t> last_sequence;
  double last_timestamp = 0;  // seconds since 1970; 0: none
  // How old the last live batch was when it came, in seconds, by the engine's clock and ours.
  std::optional<double> lag_s;
  uint64_t connections = 0;  // that were made, one after the other
  uint64_t refused = 0;      // that were not, because who answered is no publisher
  uint64_t restored = 0;     // blocks that it was begun with, from a snapshot
  uint64_t batches = 0, events = 0, bytes = 0;
  uint64_t gaps = 0, missed = 0, restarts = 0, replays = 0, repeated = 0, broken = 0;
  uint64_t faults[kvcache::kEventFaults] = {};
  uint64_t tier_blocks[kvcache::kTiers] = {};
  uint64_t orphans = 0, doubtful = 0;
  kvcache::HolderCounters counters;
};

// Of what was known before this process began.
struct RestoreCounts {
  uint64_t publishers = 0, blocks = 0;  // that were taken over
  uint64_t refused = 0;                 // publishers whose blocks were broken
};

class Ingest {
 public:
  using Saved = std::vector<kvcache::SavedPublisher>;

  struct Options {
    std::string bind;          // where engines connect to; "": nowhere
    std::string topic_filter;  // beginning of topics that count there; "": all
    std::string model;         // name of the forest of blocks without adapter
    Duration tick = milliseconds(500);
    size_t max_orphan_bytes = size_t{1} << 20;  // of one source
    kvcache::Publisher::Options publisher;      // has_replay is each source's own
    // Whether the engine in that slot works, by its metrics. From the listener's thread.
    std::function<bool(uint32_t slot)> is_busy;
  };

  // Tells `caches` who holds what, and hears from them of drift. Fails when the bound socket cannot
  // be had, or no descriptor is left. REQUIRES: nobody else listens for them.
  static Result<std::unique_ptr<Ingest>> Start(kvcache::ExactCaches& caches, Options options);
  virtual ~Ingest() = default;

  // All sources from now on. Those that are new are dialled, those that are gone are forgotten; a
  // slot that somebody else has is somebody else's.
  virtual void SetEndpoints(std::vector<EventSource> sources) = 0;

  // Sources that are dialled from now on, for some minutes, begin with what was saved of them; what
  // they say of it decides whether it counts.
  virtual void Restore(Saved saved) = 0;
  // Saves one source after the other, between others' batches, and hands all to `done` on the
  // listener's thread. Never, when the listener ends before.
  virtual void Save(std::move_only_function<void(Saved)> done) = 0;
  virtual RestoreCounts restored() const = 0;

  // As of the last tick. In the order of names.
  virtual std::shared_ptr<const std::vector<SourceView>> Views() const = 0;
  // Of the bound socket: batches whose topic names nobody.
  virtual uint64_t unknown_topics() const = 0;
  // Messages that are no batch: of other numbers of frames, or without a sequence number.
  virtual uint64_t malformed_messages() const = 0;
  // Where the bound socket is, with its port; "": none.
  virtual std::string bound_endpoint() const = 0;
};

}  // namespace penstock::events
