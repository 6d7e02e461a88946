// Measurements in closed loop that the engine model is held against: published ones, and our own of
// vLLM on an H100 (tests/data/h100-vllm-0.26).
//
// THREADS: const from any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/result.h"

namespace penstock::lab {

struct Anchor {
  std::string_view name;  // of a loop of our own
  std::string_view profile;
  uint32_t concurrency;
  uint32_t prompt_tokens, output_tokens;
  uint32_t requests;
  // Conditions of the run. A request takes `delay_ms` to the engine and comes `gap_ms` after the
  // one before it at the earliest.
  double delay_ms, gap_ms;
  bool has_warm_up;                       // the first `concurrency` requests ran before
  uint32_t blocks;                        // of the KV cache; 0: the profile's
  double tpot_ms, ttft_ms, tokens_per_s;  // 0: not known
};
std::span<const Anchor> PublishedAnchors();
std::span<const Anchor> OwnAnchors();

struct AnchorResult {
  double tpot_ms = 0, ttft_ms = 0, tokens_per_s = 0;
};
// One condition changed, to see what it does.
enum class Without : uint8_t { kNothing, kDelay, kGap, kWarmUp, kAsyncScheduling };
Result<AnchorResult> RunAnchor(const Anchor& anchor, Without without = Without::kNothing);

}  // namespace penstock::lab
