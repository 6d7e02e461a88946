#include <algorithm>

#include "engine/engine_impl.h"

namespace penstock::engine {

void Engine::Impl::Coast(uint32_t slot, size_t position) {
  Sequence& sequence = sequences_[slot];
  const uint32_t inside = sequence.room - std::min(sequence.room, sequence.computed);
  const uint32_t steps = std::min(inside, sequence.request.output_tokens - sequence.generated - 1);
  if (steps == 0) return;
  if (position >= running_.size() || running_[position] != slot) {
    position =
        static_cast<size_t>(std::find(running_.begin(), running_.end(), slot) - running_.begin());
  }
  sequence.is_coasting = true;
  sequence.coasts_since = step_number_ + 1;
  due_[position] = step_number_ + 1 + steps;
  ++coasting_;
  coasting_computed_ += sequence.computed;
}

void Engine::Impl::EndCoast(Sequence& sequence) {
  const auto steps = static_cast<uint32_t>(step_number_ - sequence.coasts_since);
  sequence.computed += steps;
  sequence.generated += steps;
  sequence.is_coasting = false;
  --coasting_;
  coasting_computed_ -= sequence.computed;
}

void Engine::Impl::AddCoasting() {
  load_.new_tokens += coasting_;
  load_.sequences += coasting_;
  load_.decode_context_tokens += coasting_computed_ + coasting_;
}

void Engine::Impl::CountCoasting() {
  stats_.generation_tokens += coasting_;
  coasting_computed_ += coasting_;
}

void Engine::Impl::PrefetchDue() {
  prefetched_.clear();
  for (size_t i = 0; i < running_.size(); ++i) {
    if (IsCoasting(i)) continue;
    const auto* const lines = reinterpret_cast<const char*>(&sequences_[running_[i]]);
    __builtin_prefetch(lines);
    __builtin_prefetch(lines + 64);
    prefetched_.push_back(running_[i]);
  }
  for (const uint32_t slot : prefetched_) {
    const Sequence& sequence = sequences_[slot];
    __builtin_prefetch(sequence.blocks.data() + sequence.blocks.size());
    if (sequence.published < sequence.request.block_hashes.size()) {
      __builtin_prefetch(sequence.request.block_hashes.data() + sequence.published);
    }
  }
  for (const uint32_t slot : prefetched_) {
    const Sequence& sequence = sequences_[slot];
    if (sequence.published < sequence.request.block_hashes.size()) {
      pool_.Prefetch(sequence.request.block_hashes[sequence.published]);
    }
  }
}

}  // namespace penstock::engine
