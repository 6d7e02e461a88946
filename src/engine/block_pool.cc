#include "engine/block_pool.h"

#include <cassert>

namespace penstock::engine {

BlockPool::BlockPool(uint32_t blocks) : blocks_(blocks) {
  by_hash_.reserve(blocks);
  for (BlockId block = 0; block < blocks; ++block) PushBack(block);
}

void BlockPool::Find(std::span<const uint64_t> hashes, Match* match) const {
  match->blocks.clear();
  match->on_free_list = 0;
  for (const uint64_t hash : hashes) {
    const auto it = by_hash_.find(hash);
    if (it == by_hash_.end()) break;
    match->blocks.push_back(it->second);
    match->on_free_list += blocks_[it->second].references == 0;
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
  assert(blocks_[block].references > 0 && !blocks_[block].cached);
  if (!by_hash_.emplace(hash, block).second) return;
  blocks_[block].hash = hash;
  blocks_[block].cached = true;
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
  if (!block.cached) return;
  by_hash_.erase(block.hash);
  block.cached = false;
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
