#include "plugins/producers/cache_drift.h"

#include <algorithm>

namespace penstock::plugins {

double CacheDrift::ErrorOf(const Answer& answer) {
  const uint64_t expected = answer.expected_tokens;
  const uint64_t cached = answer.cached_tokens;
  const uint64_t block = std::max<uint32_t>(1, answer.engine_block);
  if (cached > expected && cached <= answer.known_tokens + block) return 0;
  const uint64_t difference = cached > expected ? cached - expected : expected - cached;
  if (difference <= block) return 0;
  return static_cast<double>(difference) / static_cast<double>(std::max(expected, cached));
}

CacheDrift::Verdict CacheDrift::Compare(const Answer& answer) {
  // Nothing was cached, as was expected: that says nothing about the rest.
  if (answer.expected_tokens == 0 && answer.cached_tokens == 0) return Verdict::kAsBefore;
  const double error = ErrorOf(answer);
  MutexLock lock(mutex_);
  Slot& slot = slots_[answer.slot];
  slot.error.Add(error);
  (answer.adapter.empty() ? slot.base_error : slot.adapter_error).Add(error);
  if (error > options_.limit) {
    const bool is_other =
        answer.reported_prompt_tokens.value_or(answer.prompt_tokens) != answer.prompt_tokens;
    slot.other_length.Add(is_other ? 1 : 0);
    const bool is_uneven = answer.cached_tokens % std::max<uint32_t>(1, answer.engine_block) != 0;
    slot.no_blocks.Add(is_uneven ? 1 : 0);
    if (!answer.adapter.empty()) slot.adapter = answer.adapter;
  }
  if (!slot.differs && slot.error.count >= options_.least_answers &&
      slot.error.value > options_.limit) {
    slot.differs = true;
    return Verdict::kDiffers;
  }
  if (slot.differs && slot.error.value < options_.limit / 2) {
    slot.differs = false;
    return Verdict::kAgreesAgain;
  }
  return Verdict::kAsBefore;
}

std::string CacheDrift::CauseOf(const Slot& slot) const {
  constexpr double kMost = 0.5;
  constexpr uint64_t kFewAnswers = 5;
  if (!slot.differs) return "";
  if (slot.other_length.value > kMost) {
    return "the prompt's token count differs: tokenizer or chat template";
  }
  if (slot.no_blocks.value > kMost) return "cached tokens are multiples of another block size";
  if (slot.adapter_error.value > options_.limit && slot.base_error.count >= kFewAnswers &&
      slot.base_error.value < options_.limit / 2) {
    return "only requests of adapter " + slot.adapter + " differ: LoRA";
  }
  return "unknown";
}

bool CacheDrift::Forget(uint32_t slot) {
  MutexLock lock(mutex_);
  const auto found = slots_.find(slot);
  if (found == slots_.end()) return false;
  const bool differed = found->second.differs;
  slots_.erase(found);
  return differed;
}

std::vector<sched::DriftView> CacheDrift::Views() const {
  std::vector<sched::DriftView> views;
  MutexLock lock(mutex_);
  for (const auto& [number, slot] : slots_) {
    views.push_back({number, slot.error.count, slot.error.value, slot.differs, CauseOf(slot)});
  }
  return views;
}

size_t CacheDrift::differing() const {
  MutexLock lock(mutex_);
  return static_cast<size_t>(
      std::ranges::count_if(slots_, [](const auto& slot) { return slot.second.differs; }));
}

}  // namespace penstock::plugins
