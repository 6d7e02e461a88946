#include <algorithm>
#include <optional>
#include <utility>

#include "engine/engine_impl.h"

namespace penstock::engine {

uint64_t PrefixHash(const Request& request, uint32_t block_size) {
  const size_t full =
      std::min<size_t>(request.prompt_tokens / block_size, request.block_hashes.size());
  return full == 0 ? 0 : request.block_hashes[full - 1];
}

uint32_t Engine::Impl::ExternalTokens(const Sequence& sequence,
                                      std::span<const uint64_t> reusable) const {
  const auto blocks = static_cast<uint32_t>(match_.blocks.size());
  if (sequence.request.remote_tokens == 0) {
    return static_cast<uint32_t>(tier_.Prefix(reusable.subspan(blocks))) * options_.block_size;
  }
  const uint32_t hit = blocks * options_.block_size;
  const uint32_t loaded = std::min(sequence.request.remote_tokens, sequence.tokens() - 1);
  return loaded > hit ? loaded - hit : 0;
}

bool Engine::Impl::IsBeingLoaded(std::span<const uint64_t> hashes) const {
  return !loading_hashes_.empty() && std::any_of(hashes.begin(), hashes.end(), [&](uint64_t hash) {
    return loading_hashes_.contains(hash);
  });
}

std::span<const uint64_t> Engine::Impl::LoadedHashes(const Sequence& sequence) const {
  const std::vector<uint64_t>& hashes = sequence.request.block_hashes;
  const size_t full = std::min<size_t>(sequence.loaded / options_.block_size, hashes.size());
  if (full <= sequence.published) return {};
  return {hashes.data() + sequence.published, full - sequence.published};
}

void Engine::Impl::StartLoad(uint32_t slot, uint32_t tokens, Source source) {
  Sequence& sequence = sequences_[slot];
  Unqueue(slot);
  sequence.state = Sequence::State::kLoading;
  sequence.loaded = sequence.computed + tokens;
  sequence.is_from_peer = source == Source::kPeer;
  const uint64_t blocks = BlocksFor(sequence.loaded) - sequence.blocks.size();
  const size_t all = BlocksFor(sequence.tokens());
  while (sequence.blocks.size() < all) sequence.blocks.push_back(pool_.Take());
  if (source == Source::kTier) {
    const auto hashes = LoadedHashes(sequence);
    loading_hashes_.insert(hashes.begin(), hashes.end());
    tier_.Touch(hashes);
  }
  Link& link = source == Source::kPeer ? peer_in_ : tier_in_;
  sequence.load_end = link.Send(time_, blocks * options_.block_size * options_.kv_bytes_per_token);
  transfers_.insert({sequence.load_end, sequence.order, slot});
  Emit(begin_events_, sequence, Event::Kind::kLoading, tokens);
}

void Engine::Impl::EndLoads() {
  while (!transfers_.empty() && transfers_.begin()->end <= time_) {
    const uint32_t slot = transfers_.begin()->slot;
    transfers_.erase(transfers_.begin());
    EndLoad(slot);
  }
}

void Engine::Impl::EndLoad(uint32_t slot) {
  Sequence& sequence = sequences_[slot];
  const auto hashes = LoadedHashes(sequence);
  if (!sequence.is_from_peer) {
    for (const uint64_t hash : hashes) loading_hashes_.erase(hash);
    for (const uint32_t parked : std::exchange(parked_, {})) Enqueue(parked);
  }
  if (sequence.state == Sequence::State::kOrphan) {
    ReleaseBlocks(sequence);
    FreeSlot(slot);
    return;
  }
  for (const uint64_t hash : hashes) pool_.Publish(sequence.blocks[sequence.published++], hash);
  sequence.computed = sequence.loaded;
  MakeReady(slot);
}

void Engine::Impl::MakeReady(uint32_t slot) {
  sequences_[slot].state = Sequence::State::kReady;
  ready_.insert(TurnOf(slot));
}

Sequence* Engine::Impl::FindPeerLoad(uint64_t id) {
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return nullptr;
  Sequence& sequence = sequences_[it->second];
  return sequence.state == Sequence::State::kLoading && sequence.is_from_peer ? &sequence : nullptr;
}

bool Engine::Impl::DelayLoad(uint64_t id, Time time) {
  Sequence* const sequence = FindPeerLoad(id);
  if (sequence == nullptr) return false;
  const uint32_t slot = by_id_.at(id);
  transfers_.erase({sequence->load_end, sequence->order, slot});
  sequence->load_end = std::max(sequence->load_end, time);
  transfers_.insert({sequence->load_end, sequence->order, slot});
  return true;
}

bool Engine::Impl::FailLoad(uint64_t id) {
  Sequence* const sequence = FindPeerLoad(id);
  if (sequence == nullptr) return false;
  const uint32_t slot = by_id_.at(id);
  transfers_.erase({sequence->load_end, sequence->order, slot});
  ++stats_.failed_loads;
  MakeReady(slot);
  return true;
}

Result<Time> Engine::Impl::ConsumeHold(uint64_t id, uint64_t prefix_hash, uint32_t tokens,
                                       Time now) {
  if (auto consumed = holds_.Consume(id, prefix_hash, tokens, now); !consumed) {
    return std::unexpected(std::move(consumed.error()));
  }
  return peer_out_.Send(
      now, uint64_t{BlocksFor(tokens)} * options_.block_size * options_.kv_bytes_per_token);
}

// The copies run beside the next steps and cost them nothing.
void Engine::Impl::StoreInTier() {
  for (const BatchEntry& entry : batch_) {
    Sequence& sequence = sequences_[entry.slot];
    if (sequence.order != entry.order) continue;  // aborted during the step
    const std::vector<uint64_t>& hashes = sequence.request.block_hashes;
    tier_.Store({hashes.data() + sequence.stored, sequence.published - sequence.stored});
    sequence.stored = sequence.published;
  }
}

void Engine::Impl::HoldBlocks(Sequence& sequence) {
  Hold hold;
  hold.tokens = sequence.computed;
  hold.prefix_hash = sequence.prefix_hash;
  hold.expiry = time_ + sequence.request.hold;
  holds_.Add(sequence.request.id, std::exchange(sequence.blocks, {}), hold);
}

Duration Engine::Impl::UntilNext() const {
  Time next = Time::max();
  if (!transfers_.empty()) next = transfers_.begin()->end;
  if (const std::optional<Time> expiry = holds_.NextExpiry()) next = std::min(next, *expiry);
  return next == Time::max() ? Duration(0) : next - time_;
}

}  // namespace penstock::engine
