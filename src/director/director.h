// The life of a request: admit, learn, pick, follow, account. Events come in with their time,
// commands go out; nothing here touches a socket, a clock or a thread.
//
// A Flight is one request from arrival to its end. It holds at most one claim on one endpoint's
// ledger at a time and gives it back exactly once, whatever happens; destroying a Flight that has
// not ended counts as the client having gone.
//
// THREADS: one Director for all loops; Lane is a loop's own part (scratch, random numbers). A
// Flight belongs to the lane that made it. Ledgers and the index are shared.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/mask.h"
#include "core/random.h"
#include "core/snapshot.h"
#include "core/time.h"
#include "director/decisions.h"
#include "director/fleet.h"
#include "director/retry_budget.h"
#include "sched/scheduler.h"

namespace penstock::director {

class Director;
class Lane;

// Where to send a request. Texts stand in the pool that the last attempt on record holds.
struct Target {
  uint32_t slot = 0;
  std::string_view name, host, address;
  uint16_t port = 0;
  uint16_t dial_port = 0;  // `port`, unless a detour leads to another
  model::Scheme scheme = model::Scheme::kHttp;
  std::string detour;  // its address; "": there is none
  // Addresses of the next best picks, when the picker has some.
  std::vector<std::string_view> fallbacks;
  std::string_view destination() const { return detour.empty() ? address : detour; }
  std::vector<std::pair<std::string, std::string>> headers;  // to add to the request, in lower case
};

struct Rejection {
  int status = 503;
  std::string_view code;  // "no_endpoint", "saturated", "model_not_found"
  std::string message;
};

// Why a try ended without an answer.
enum class TryFailure : uint8_t {
  kLocal,  // this process had no descriptor, port or memory for a connection: nobody is blamed
  kConnect,
  kReset,
  kTimeout,
  kStatus502,
  kStatus503,
  kStatus504,
};
std::string_view TryFailureName(TryFailure failure);

struct ReportedUsage {
  bool known = false;
  uint64_t input_tokens = 0, output_tokens = 0;
  bool cached_known = false;
  uint64_t cached_tokens = 0;
};

class Flight {
 public:
  ~Flight();  // not ended: OnEnd(kClientGone)
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  const Target& target() const { return target_; }
  const sched::RequestContext& context() const { return context_; }

  // The try failed before the first byte. Returns true and a new target() when the request may and
  // can be tried elsewhere.
  bool OnTryFailed(TryFailure failure, Time now);
  // The proxy in front says who answers, as it was told where to go, which is another endpoint when
  // it went on to a fallback: the claim moves there, plugins learn of it, and the endpoint that was
  // picked counts as one that could not be reached. Before the first chunk. False, and nothing is
  // changed, when that is no news or nobody in the pool.
  bool OnServedBy(std::string_view address, Time now);
  // The first byte of the answer's body (or its end, for an empty one).
  void OnFirstChunk(Time now);
  // The request ended. Exactly once; later events are ignored.
  void OnEnd(EndKind kind, int status, std::string_view reason, const ReportedUsage& usage,
             Time now);
  bool ended() const { return ended_; }
  // What is on record so far; complete and immutable once ended().
  const DecisionRecord& record() const { return *record_; }
  uint32_t tries() const { return tries_; }
  // What the next decision goes by in place of what is known of caches, an element for each prefix
  // producer that a recording tells of; it is to be taken back after it, by none.
  void SetRecordedMatches(std::vector<std::optional<sched::ToldMatches>> told);
  // For the record: how long the first decision took on the caller's clock.
  void SetDecisionTime(Duration duration) { record_->decision_us = ToSeconds(duration) * 1e6; }

 private:
  friend class Lane;
  Flight(Lane& lane) : lane_(lane) {}
  void Claim(uint32_t slot, int64_t tokens);
  void ReleaseTokens();
  void Release();
  bool TryElsewhere(TryFailure failure, Time now);
  bool MoveTo(std::string_view address, Time now);
  void SettleEnd(EndKind kind, int status, std::string_view reason, const ReportedUsage& usage,
                 Time now);
  void PublishRecord(Time now);

  Lane& lane_;
  sched::RequestContext context_;
  Target target_;
  std::shared_ptr<DecisionRecord> record_;
  std::vector<uint32_t> tried_slots_;
  bool claimed_ = false;
  int64_t claimed_tokens_ = 0;
  uint64_t journal_number_ = 0;  // of the journal, when there is one
  bool first_chunk_ = false;
  bool ended_ = false;
  uint32_t tries_ = 0;
};

struct Arrival {
  // Exactly one of the two is set.
  std::unique_ptr<Flight> flight;
  Rejection rejection;
};

class Lane {
 public:
  Lane(Director& director, uint64_t seed);
  // Decides where the request runs. `request.prompt` is read now and not kept. A request that is
  // rejected is given back.
  Arrival Arrive(model::Request&& request, Time now, int64_t unix_micros);
  // The same in steps, for prompts that take long: between the two director().scheduler().Prepare
  // is called with the context, on any thread, while `request.prompt` can be read.
  sched::RequestContext Begin(model::Request&& request);
  Arrival Proceed(sched::RequestContext&& context, Time now, int64_t unix_micros);
  // The same for a request that plugins have prepared before, as a recording holds it.
  // REQUIRES: context.prefix_keys has an element for each prefix producer.
  Arrival ArrivePrepared(sched::RequestContext&& context, Time now, int64_t unix_micros);
  Director& director() { return director_; }

 private:
  friend class Flight;
  std::unique_ptr<Flight> MakeFlight();
  void Measure(sched::RequestContext& context);
  // What the journal says of it, when there is one.
  std::string Describe(sched::RequestContext& context);
  // Of a flight that has its context. A request that is rejected is moved to `rejected`.
  Arrival Admit(std::unique_ptr<Flight> flight, std::string described, Time now,
                int64_t unix_micros, sched::RequestContext* rejected);
  // Gathers what plugins look at.
  void FillColumns(const Flight& flight, const model::PoolSnapshot& pool, Time now);
  // Of the decision that has just been made. REQUIRES: are_columns_filled_ was cleared before it.
  std::span<const model::PrefixColumn> Matches() const {
    if (!are_columns_filled_) return {};
    return columns_.prefix;
  }
  // Picks a target and claims it. False: rejection says why not.
  bool Decide(Flight& flight, Time now, Rejection* rejection);
  // The healthy endpoints that serve the model and were not tried yet, in candidates_.
  bool MarkCandidates(const Flight& flight, const model::PoolSnapshot& pool, Rejection* rejection);
  // Whether another endpoint could take the request.
  bool CanRetry(const Flight& flight);
  // The request is the endpoint's in that column from now on.
  void Claim(Flight& flight, const std::shared_ptr<const model::PoolSnapshot>& pool,
             uint32_t column, const Mask* scored, Time now);
  void Record(Flight& flight, const std::shared_ptr<const model::PoolSnapshot>& pool,
              uint32_t column, Time now);

  Director& director_;
  uint32_t journal_number_ = 0;
  uint32_t arrivals_ = 0;
  Random random_;
  SnapshotCell<model::PoolSnapshot>::Reader pool_;
  model::EndpointColumns columns_;
  bool are_columns_filled_ = false;
  sched::Workspace workspace_;
  sched::Decision decision_;
  sched::DecisionTrace trace_;
  Mask candidates_;
};

struct DirectorOptions {
  uint32_t max_tries = 2;           // engines asked per request, the first included
  double retry_budget_ratio = 0.2;  // retries per request, over the last seconds
  size_t decision_log_bytes = 32u << 20;
  // Called with each finished record, from the loop that ended it. May be empty.
  std::function<void(const DecisionRecord&, Time)> on_record;
  // Measures the plugins' work for the first of every kMeasureEvery requests of a lane. May be
  // null; else it outlives the director.
  sched::Stopwatch* stopwatch = nullptr;
  static constexpr uint32_t kMeasureEvery = 16;
};

class Director : public FleetObserver {
 public:
  Director(Fleet& fleet, std::unique_ptr<sched::Scheduler> scheduler, DirectorOptions options);
  ~Director() override;

  Fleet& fleet() { return fleet_; }
  const sched::Scheduler& scheduler() const { return *scheduler_; }
  DecisionLog& decisions() { return decisions_; }
  const DirectorOptions& options() const { return options_; }
  void Tick(Time now);  // about once a second, from one thread

  void OnEndpointRemoved(uint32_t slot) override;
  void OnEndpointChanged(const model::EndpointInfo&) override;
  void OnEndpointRestarted(uint32_t slot) override;

 private:
  friend class Lane;
  friend class Flight;
  Fleet& fleet_;
  std::unique_ptr<sched::Scheduler> scheduler_;
  const DirectorOptions options_;
  RetryBudget retries_;
  DecisionLog decisions_;
};

}  // namespace penstock::director
