#include "engine/block_pool.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace penstock::engine {

BlockPool::BlockPool(uint32_t blocks) : blocks_(blocks) {
  const int bits = std::max(1, static_cast<int>(std::bit_width(blocks / kNeighbours)));
  buckets_.assign(kNeighbours << bits, kNone);
  line_shift_ = 64 - bits;
  for (BlockId block = 0; block < blocks; ++block) PushBack(block);
}

BlockPool::BlockId BlockPool::Lookup(uint64_t hash) const {
  BlockId block = buckets_[BucketOf(hash)];
  while (block != kNone && blocks_[block].hash != hash) block = blocks_[block].next_in_bucket;
  return block;
}

void BlockPool::Find(std::span<const uint64_t> hashes, Match* match) const {
  match->blocks.clear();
  match->on_free_list = 0;
  // Blocks that were taken one after the other are often neighbours, upwards or, since a sequence
  // is released tail first, downwards. Looking there first spares the map's two cache misses: a
  // third of the time.
  BlockId previous = kNone;
  BlockId stride = 1;
  for (const uint64_t hash : hashes) {
    BlockId block = previous + stride;
    if (previous == kNone || block >= blocks_.size() || blocks_[block].hash != hash ||
        !blocks_[block].is_cached) {
      block = Lookup(hash);
      if (block == kNone) break;
      if (block + 1 == previous || block == previous + 1) stride = block - previous;
    }
    match->blocks.push_back(block);
    match->on_free_list += blocks_[block].references == 0;
    previous = block;
  }
}

void BlockPool::Reference(std::span<const BlockId> blocks) {
  for (const BlockId block : blocks) {
    if (blocks_[block].references++ > 0) continue;
    Unlink(block);
    ++revivals_;
  }
}

BlockPool::BlockId BlockPool::Take() {
  assert(free_count_ > 0);
  const BlockId block = head_;
  Unlink(block);
  Forget(blocks_[block]);
  blocks_[block].references = 1;
  return block;
}

void BlockPool::Publish(BlockId block, uint64_t hash) {
  assert(blocks_[block].references > 0 && !blocks_[block].is_cached);
  if (Has(hash)) return;
  BlockId& first = buckets_[BucketOf(hash)];
  blocks_[block].hash = hash;
  blocks_[block].is_cached = 1;
  blocks_[block].next_in_bucket = first;
  first = block;
  ++cached_count_;
}

void BlockPool::Release(std::span<const BlockId> blocks) {
  for (size_t i = blocks.size(); i-- > 0;) {
    assert(blocks_[blocks[i]].references > 0);
    if (--blocks_[blocks[i]].references == 0) PushBack(blocks[i]);
  }
}

void BlockPool::ForgetUnused() {
  for (BlockId block = head_; block != kNone; block = blocks_[block].next) Forget(blocks_[block]);
}

void BlockPool::Forget(Block& block) {
  if (!block.is_cached) return;
  BlockId* link = &buckets_[BucketOf(block.hash)];
  while (&blocks_[*link] != &block) link = &blocks_[*link].next_in_bucket;
  *link = block.next_in_bucket;
  block.next_in_bucket = kNone;
  block.is_cached = 0;
  --cached_count_;
}

void BlockPool::Unlink(BlockId id) {
  Block& block = blocks_[id];
  (block.previous == kNone ? head_ : blocks_[block.previous].next) = block.next;
  (block.next == kNone ? tail_ : blocks_[block.next].previous) = block.previous;
  block.previous = block.next = kNone;
  --free_count_;
}

void BlockPool::PushBack(BlockId id) {
  blocks_[id].previous = tail_;
  (tail_ == kNone ? head_ : blocks_[tail_].next) = id;
  tail_ = id;
  ++free_count_;
}

}  // namespace penstock::engine
