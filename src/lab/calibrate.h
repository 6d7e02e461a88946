// Fits a profile's step times to what a running engine was measured to take.
//
// THREADS: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "engine/profile.h"

namespace penstock::lab {

// One request alone whose answer is one token.
struct PrefillPoint {
  uint32_t prompt_tokens = 0;
  double seconds = 0;  // to the first token
};
// Requests that decode together.
struct DecodePoint {
  uint32_t sequences = 0;
  double context_tokens = 0;  // of each, mean over the time
  double seconds = 0;         // between two tokens
};

struct Calibration {
  engine::StepCosts costs;
  double overhead_s = 0;     // of a request, beside its step: parsing, queueing, the way back
  double prefill_error = 0;  // median of |fit / measured - 1|
  double decode_error = 0;
};

// Least squares of the relative errors without negative costs. From the decodes: floor, a part per
// sequence and per token of context. From the prefills beyond `knee_tokens`: base, a part per token
// and per pair of tokens; the shortest one gives the overhead. kInvalidArgument says what is
// missing: three prefills beyond the knee and one below it, decodes of two numbers of sequences.
Result<Calibration> FitStepCosts(std::span<const PrefillPoint> prefills,
                                 std::span<const DecodePoint> decodes, uint32_t knee_tokens = 256);

// The profile as YAML that LoadProfile reads.
std::string RenderProfile(const engine::Profile& profile);

}  // namespace penstock::lab
