// A journal hears what the brain is told and what it decides, in the order in which it takes
// effect, so that telling another brain the same makes it decide the same (recording/).
//
// With a journal, whoever tells the brain something holds a Turn, so that facts and decisions take
// effect one after the other; without one, a Turn is the look at a pointer.
// docs/design/0003-recordings.md says why.
//
// THREADS: any; every On... is called within a turn.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/time.h"
#include "model/columns.h"
#include "model/endpoint.h"
#include "sched/plugin.h"

namespace penstock::director {

struct EngineSignals;
struct DecisionRecord;
enum class TryFailure : uint8_t;

class Journal {
 public:
  virtual ~Journal() = default;
  // Once false it stays so: nothing more is written, and nobody takes turns for it.
  bool is_open() const { return is_open_.load(std::memory_order_relaxed); }

  // What is worth keeping of a request that the plugins have prepared, while its prompt can be
  // read. Puts tokens in the place of what is private and decides (sessions), in the context too,
  // so that the brain decides on what is kept. Outside of any turn; what it returns comes back with
  // OnArrived.
  virtual std::string Describe(sched::RequestContext* context) = 0;

  // The prefix columns that a decision went by, one per producer; empty: it looked at none.
  using Matches = std::span<const model::PrefixColumn>;

  // A lane was made; returns its number.
  virtual uint32_t OnLane(uint64_t seed) = 0;
  // A request was decided: record.attempts has the target, or is empty when it was rejected with
  // `status`. Returns the number by which the request is known from here on.
  virtual uint64_t OnArrived(uint32_t lane, std::string described, const DecisionRecord& record,
                             int status, Matches matches, Time now) = 0;
  // A try failed; `next` is the endpoint that is tried next, or "".
  virtual void OnTryFailed(uint64_t request, TryFailure failure, std::string_view next,
                           Matches matches, Time now) = 0;
  // The proxy says that `endpoint` answers instead of the one that was picked.
  virtual void OnServedBy(uint64_t request, std::string_view endpoint, Matches matches,
                          Time now) = 0;
  virtual void OnFirstChunk(uint64_t request, Time now) = 0;
  virtual void OnEnded(uint64_t request, const DecisionRecord& record, Time now) = 0;

  virtual void OnReplaced(std::span<const model::EndpointSpec> endpoints) = 0;
  virtual void OnScraped(uint32_t slot, const EngineSignals& signals, Time now) = 0;
  virtual void OnScrapeFailed(uint32_t slot, std::string_view reason, Time now) = 0;
  virtual void OnModelsRead(uint32_t slot, std::span<const std::string> models) = 0;
  virtual void OnTick(Time now) = 0;

 protected:
  void Close() { is_open_.store(false, std::memory_order_relaxed); }

 private:
  friend class Turn;
  std::atomic<bool> is_open_{true};
  std::mutex turns_;
};

// One telling. Not for one thread twice at a time.
class Turn {
 public:
  explicit Turn(Journal* journal) {
    if (journal == nullptr || !journal->is_open()) return;
    lock_ = std::unique_lock(journal->turns_);
    journal_ = journal;
  }
  explicit operator bool() const { return journal_ != nullptr; }
  Journal* operator->() const { return journal_; }

 private:
  std::unique_lock<std::mutex> lock_;
  Journal* journal_ = nullptr;
};

}  // namespace penstock::director
