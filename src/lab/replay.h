// Traffic through the real brain and simulated engines in virtual time: the Fleet, Director, Lane
// and plugins of the gateway, an engine model for each endpoint, a heap of events instead of
// sockets and clocks. docs/design/0002-lab.md says how and why.
//
// The same workload, policy, engines and seed give the same decisions, bit for bit, on every
// machine. Memory is that of the requests in flight, whatever the length of the traffic.
//
// THREADS: a Replay belongs to one thread; several may run at once on threads of their own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/engine.h"
#include "sched/scheduler.h"
#include "workload/workload.h"

namespace penstock::lab {

struct EngineSpec {
  std::string name;  // unique
  engine::EngineOptions options;
  uint32_t accelerators = 1;  // for GPU-seconds
};

// Something that happens to an engine.
struct Incident {
  enum class Kind : uint8_t {
    kFail,   // dies: what it had is lost; connections to it are refused
    kStart,  // starts again, with an empty cache; or for the first time, when it was absent
    kLeave,  // leaves the pool; what runs there goes on to its end
    kJoin,   // joins the pool
  };
  Duration at{0};
  uint32_t engine = 0;
  Kind kind = Kind::kFail;
};

struct ReplayOptions {
  std::vector<EngineSpec> engines;
  std::vector<Incident> incidents;  // in the order of time
  std::vector<uint32_t> absent;     // engines that are not in the pool at the start
  Duration scrape_interval = milliseconds(50);
  Duration network = microseconds(300);  // one way, between gateway and engine
  uint32_t max_tries = 2;
  double retry_budget_ratio = 0.2;
  uint64_t seed = 1;
  uint64_t max_requests = UINT64_MAX;
  std::optional<Duration> until;  // no request that comes later is taken
  bool engines_tell = false;      // of their blocks, to policies that listen
};

struct Outcome {
  const workload::Job& job;
  uint64_t number = 0;  // of the job, from 0
  bool is_served = false;
  int status = 0;       // 200, or what the client was told
  uint32_t engine = 0;  // that answered; only when served
  uint32_t tries = 0;
  uint32_t cached_tokens = 0;
  Duration ttft{0};  // to the first token at the gateway; only when served
  Duration e2e{0};
};

struct ReplayTotals {
  uint64_t requests = 0;
  uint64_t decisions = 0;
  uint64_t steps = 0;
  uint64_t preemptions = 0;
  uint64_t external_hit_tokens = 0;  // from the engines' tiers
  uint64_t digest = 0;               // of all decisions: which request, when, which endpoint
  Duration end{0};                   // of the last answer
  double accelerator_seconds = 0;
};

class Replay {
 public:
  // Called when a request has ended; the outcome is valid during the call.
  using Observer = std::function<void(const Outcome&)>;
  // Called about once a virtual second with the time that has been reached.
  using Progress = std::function<void(Duration)>;

  Replay(ReplayOptions options, std::unique_ptr<sched::Scheduler> scheduler);
  ~Replay();
  // Once. Fails when an engine cannot be made, names are not unique, an incident names no engine,
  // or the traffic's source fails.
  Result<ReplayTotals> Run(workload::Source& source, const Observer& observer,
                           const Progress& progress = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::lab
