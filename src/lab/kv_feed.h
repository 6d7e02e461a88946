// What a simulated engine tells of its cache, on its way to the index that decisions look at: the
// same events, decoder, publisher and holder as behind a socket, without the socket.
//
// THREADS: the replay's. REQUIRES: the caches outlive it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "core/result.h"
#include "core/time.h"
#include "engine/kv_log.h"
#include "kvcache/exact_caches.h"
#include "kvcache/holder.h"
#include "kvcache/publisher.h"

namespace penstock::lab {

class KvFeed final : public kvcache::EventSink {
 public:
  // `gpu_blocks`: that the engine has; blocks of `block_size` tokens.
  // Errors: kResourceExhausted, the index has no slot left.
  static Result<std::unique_ptr<KvFeed>> Create(kvcache::ExactCaches& caches, uint32_t block_size,
                                                uint32_t gpu_blocks, Time now);
  ~KvFeed() override;

  engine::BlockListener& listener() { return log_; }
  // A request is in the engine, and is no more.
  void Begin(std::shared_ptr<const engine::KvContent> content) { log_.Begin(std::move(content)); }
  void End(const engine::KvContent& content) { log_.End(content); }

  // Sends what there is to tell since the last time. False: nothing.
  bool Send();
  // What was sent first of all that is on its way has come.
  void Receive(Time now);
  // The engine is a new process: what it had not sent is lost, and it counts anew.
  void Restart();
  // To be called about once a second.
  void Tick(Time now);

  // As the table of slots has it.
  kvcache::SlotTable::Entry entry() const { return {true, holder_.slot(), publisher_}; }

 private:
  struct Batch {
    uint64_t sequence;
    std::string payload;
  };

  KvFeed(kvcache::ExactCaches& caches, kvcache::ChainIndex::Slot slot, uint32_t block_size,
         uint32_t gpu_blocks, Time now);
  void Apply(const kvcache::KvEvent& event) override { holder_.Apply(event, now_); }
  void Clear() override;
  void MarkGap(Time now) override { holder_.MarkGap(now); }
  bool HasTurnedOver() const override { return false; }

  engine::KvLog log_;
  kvcache::Holder holder_;
  const std::shared_ptr<kvcache::Publisher> publisher_;
  std::deque<Batch> on_the_way_;
  uint64_t next_sequence_ = 0;
  Time now_;
};

}  // namespace penstock::lab
