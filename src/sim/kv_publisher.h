// Publishes what the simulated engines hold as vLLM does: KV events over ZeroMQ, a PUB socket per
// engine and, beside it, a ROUTER from which the last batches can be had again.
//
// THREADS: Publish from any thread; sockets, history and injected faults live on a thread of its
// own. OWNS: a queue of at most Options::queue_batches batches, beyond which they are dropped and
// counted, as vLLM's publisher does. SOURCE: vLLM vllm/distributed/kv_events.py.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/kv_log.h"

namespace penstock::sim {

struct KvOptions {
  bool is_on = false;
  uint16_t port = 0;  // of the first engine's events, then one up for each; 0: any free ports
  uint16_t replay_port = 0;  // likewise
  bool has_replay = false;
  engine::KvEncoding encoding = engine::KvEncoding::kMap;
  uint32_t history_batches = 10'000;
  // What goes wrong on the way, of what is published live. History has all of it.
  double loss = 0;             // share of batches that never come
  Duration lag = Duration(0);  // how late they come
  uint64_t seed = 1;           // of the losses
};

class KvPublisher {
 public:
  static constexpr size_t kQueueBatches = 100'000;

  struct Endpoint {
    std::string topic;
    std::string events;  // "tcp://127.0.0.1:5557"
    std::string replay;  // "" without history
  };
  // Binds for that many engines. Errors name the address.
  static Result<std::unique_ptr<KvPublisher>> Start(const KvOptions& options,
                                                    const std::string& host,
                                                    std::vector<std::string> topics);
  virtual ~KvPublisher() = default;

  virtual void Publish(size_t engine, std::string batch) = 0;
  virtual const std::vector<Endpoint>& endpoints() const = 0;
  // Batches that found the queue full.
  virtual uint64_t dropped() const = 0;
};

}  // namespace penstock::sim
