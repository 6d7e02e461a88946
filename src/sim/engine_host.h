// Runs one engine in wall time on its home loop, for the connections of all loops: requests come in
// by message, and what happened in a step goes out as one message per loop.
//
// THREADS: Submit and Abort from the loop that they name; the rest before the loops run. Must be
// destroyed only while the loops do not run.
// COST: per step one message to each loop that has a request in it.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/engine.h"
#include "engine/kv_log.h"
#include "net/loop.h"
#include "sim/kv_publisher.h"
#include "sim/metrics.h"

namespace penstock::sim {

struct Delta {
  enum class Kind : uint8_t {
    kAccepted,   // id: the first request of the batch
    kRejected,   // so: nothing of the batch runs
    kScheduled,  // count: prefix-cache hit in tokens
    kToken,      // count: tokens so far
    kFinished,
  };
  uint64_t id = 0;
  Kind kind = Kind::kToken;
  engine::FinishReason reason = engine::FinishReason::kStop;
  Code code = Code::kInternal;  // kRejected
  uint32_t count = 0;
};

struct Submission {
  engine::Request request;
  Time arrival{};
  uint32_t max_tokens = 0;                           // as asked for; 0: not given
  std::shared_ptr<const engine::KvContent> content;  // null: events are not published
};

class EngineHost {
 public:
  // `speed` above 1 makes steps shorter than the profile says. `log` is the engine's listener, or
  // null.
  EngineHost(net::LoopPool& loops, size_t home, std::unique_ptr<engine::Engine> engine,
             EngineMetrics& metrics, double speed, std::unique_ptr<engine::KvLog> log);
  // Where batches of events go. REQUIRES: there is a log.
  void SetPublisher(KvPublisher* publisher, size_t engine);

  // Where the deltas of requests from that loop go; called on it.
  using Sink = std::function<void(std::span<const Delta>)>;
  void SetSink(size_t loop, Sink sink);

  // All or nothing; ids are unique over all loops. The answer is a kAccepted or kRejected.
  void Submit(size_t from, std::vector<Submission> batch);
  void Abort(size_t from, std::vector<uint64_t> ids);
  // Forgets all cached blocks, unless one is in use; tells it with the next step, as vLLM does.
  void ResetPrefixCache(size_t from);

 private:
  struct Flight {
    uint32_t loop = 0;
    RequestTimes times;
    std::shared_ptr<const engine::KvContent> content;
  };
  // Runs `task` on the home loop: now when this is it.
  template <class Task>
  void AtHome(size_t from, Task task);
  void Accept(size_t from, std::vector<Submission>& batch);
  // The engine's time: from its home loop's, as much faster as its steps are.
  Time EngineTime(Time wall) const { return Time(FromSeconds(ToSeconds(wall - epoch_) * speed_)); }
  void BeginStep(Time start);
  void OnStepEnd();
  void OnEvent(const engine::Event& event, Time now);
  void Send(uint32_t loop, const Delta& delta) { outbox_[loop].push_back(delta); }
  void Flush();
  void FlushSoon();
  void EndContent(const Flight& flight);
  void PublishBlocks();

  net::LoopPool& loops_;
  const size_t home_;
  net::Loop& loop_;
  const std::unique_ptr<engine::KvLog> log_;  // null: events are not published
  KvPublisher* publisher_ = nullptr;
  size_t engine_number_ = 0;  // the publisher's
  std::unique_ptr<engine::Engine> engine_;
  EngineMetrics& metrics_;
  const double speed_;
  std::vector<Sink> sinks_;
  std::vector<std::vector<Delta>> outbox_;  // by loop
  boost::unordered_flat_map<uint64_t, Flight> flights_;
  const Time epoch_;
  Time step_end_{};  // or when to look again, when nothing can run until then
  bool stepping_ = false;
  bool flush_posted_ = false;
  net::Timer timer_;
};

}  // namespace penstock::sim
