#include "lab/kv_feed.h"

#include <limits>
#include <utility>

namespace penstock::lab {
namespace {

constexpr size_t kBlocksATick = 4096;

}  // namespace

Result<std::unique_ptr<KvFeed>> KvFeed::Create(kvcache::ExactCaches& caches, uint32_t block_size,
                                               uint32_t gpu_blocks, Time now) {
  const auto slot = caches.index().Join();
  if (!slot) return Fail(Code::kResourceExhausted, "the index of KV blocks has no slot left");
  return std::unique_ptr<KvFeed>(new KvFeed(caches, *slot, block_size, gpu_blocks, now));
}

KvFeed::KvFeed(kvcache::ExactCaches& caches, kvcache::ChainIndex::Slot slot, uint32_t block_size,
               uint32_t gpu_blocks, Time now)
    : log_(engine::KvEncoding::kMap, block_size),
      holder_(caches.index(), caches.keys(), slot, {}),
      publisher_(std::make_shared<kvcache::Publisher>(kvcache::Publisher::Options{}, *this)),
      now_(now) {
  holder_.SetCapacity(gpu_blocks);
  publisher_->OnConnected(now);
}

KvFeed::~KvFeed() {
  publisher_->OnGone();
  while (!holder_.Leave(std::numeric_limits<size_t>::max())) {
  }
}

bool KvFeed::Send() {
  if (log_.empty()) return false;
  on_the_way_.push_back({next_sequence_++, log_.Take(0)});
  return true;
}

void KvFeed::Receive(Time now) {
  now_ = now;
  const Batch batch = std::move(on_the_way_.front());
  on_the_way_.pop_front();
  publisher_->OnBatch(batch.sequence, batch.payload, now);
}

void KvFeed::Restart() {
  if (!log_.empty()) log_.Take(0);
  next_sequence_ = 0;
}

void KvFeed::Tick(Time now) {
  now_ = now;
  publisher_->OnTick(now, false);
  holder_.Tend(now, kBlocksATick);
}

void KvFeed::Clear() { holder_.Apply({.type = kvcache::KvEvent::Type::kCleared}, now_); }

}  // namespace penstock::lab
