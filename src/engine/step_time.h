// How long one step of an engine takes: a floor that the weights' streaming sets, a part per new
// token, attention of the decodes over their contexts, attention of the prefill chunks, and small
// fixed costs.
//
//   T = max(floor, base + per_token n) + constant + decode_context Σctx m + per_sequence B
//       + prefill_attention Σ chunk (history + chunk/2) + all_reduce + all_reduce_per_token n
//
// n is the number of new tokens in the step, B the number of sequences; m is the mixed factor when
// a prefill chunk shares the step with decodes, else 1. A step that follows none takes `idle` more:
// what the host does for it is hidden behind no other step.
//
// THREADS: const from any thread.
// SOURCE: a fit to kernel tables that were measured on vLLM 0.19 (each profile says which).
#pragma once

#include <algorithm>
#include <cstdint>

#include "config/describe.h"
#include "core/time.h"

namespace penstock::engine {

struct StepCosts {
  double floor_ms = 0;
  double base_ms = 0;
  double per_token_us = 0;
  double constant_ms = 0;
  double decode_context_ns = 0;     // per token of context of each decode
  double per_sequence_us = 0;       // sampling, output processing
  double prefill_attention_ns = 0;  // per pair of a chunk's token and a token it attends to
  double mixed_factor = 1;          // on decode_context_ns when a chunk shares the step
  double all_reduce_ms = 0;         // per step, what the other terms do not hold
  double all_reduce_per_token_us = 0;
  double idle_ms = 0;  // more, when the step before it is over; not part of StepSeconds
  double noise = 0;    // relative standard deviation of a step

  template <class V>
  void Describe(V& v) {
    v.Field("floorMs", floor_ms,
            {.text = "A step takes at least this: streaming the weights.", .unit = "ms", .min = 0});
    v.Field("baseMs", base_ms,
            {.text = "Beyond the knee, a step takes this and perTokenUs per new token.",
             .unit = "ms",
             .min = 0});
    v.Field("perTokenUs", per_token_us,
            {.text = "Matrix products of one new token.", .unit = "us", .min = 0});
    v.Field("constantMs", constant_ms, {.text = "Added to every step.", .unit = "ms", .min = 0});
    v.Field("decodeContextNs", decode_context_ns,
            {.text = "Attention of a decode, per token of its context.", .unit = "ns", .min = 0});
    v.Field("perSequenceUs", per_sequence_us,
            {.text = "Sampling and output processing of one sequence.", .unit = "us", .min = 0});
    v.Field("prefillAttentionNs", prefill_attention_ns,
            {.text = "Attention of a prefill chunk, per pair of tokens.", .unit = "ns", .min = 0});
    v.Field("mixedFactor", mixed_factor,
            {.text = "Factor on decodeContextNs in steps that also prefill.", .min = 1});
    v.Field("allReduceMs", all_reduce_ms,
            {.text = "Collectives of one step that the other terms do not hold.",
             .unit = "ms",
             .min = 0});
    v.Field("allReducePerTokenUs", all_reduce_per_token_us,
            {.text = "Collectives, per new token.", .unit = "us", .min = 0});
    v.Field("idleMs", idle_ms,
            {.text = "A step that follows none takes this much longer.", .unit = "ms", .min = 0});
    v.Field("noise", noise,
            {.text = "Relative standard deviation of a step's time.", .min = 0, .max = 0.5});
  }
};

// What one step works on.
struct StepLoad {
  uint64_t new_tokens = 0;
  uint32_t sequences = 0;
  uint32_t prefill_chunks = 0;  // sequences with more than one new token
  uint64_t decode_context_tokens = 0;
  double prefill_pairs = 0;    // Σ chunk (history + chunk/2)
  double prefill_tokens = 0;   // Σ chunk
  double prefill_squares = 0;  // Σ chunk²

  // A sequence with `computed` tokens in its cache that gets `chunk` new ones. A chunk of one token
  // is what the kernels see as a decode.
  void Add(uint64_t computed, uint64_t chunk) {
    new_tokens += chunk;
    ++sequences;
    if (chunk == 1) {
      decode_context_tokens += computed + 1;
    } else {
      ++prefill_chunks;
      const double c = static_cast<double>(chunk);
      prefill_pairs += c * (static_cast<double>(computed) + c / 2);
      prefill_tokens += c;
      prefill_squares += c * c;
    }
  }
};

// Without noise, after another step. UNITS: seconds.
inline double StepSeconds(const StepCosts& costs, const StepLoad& load) {
  const double n = static_cast<double>(load.new_tokens);
  const double mixed = load.prefill_chunks > 0 ? costs.mixed_factor : 1.0;
  const double ms =
      std::max(costs.floor_ms, costs.base_ms + costs.per_token_us * n * 1e-3) + costs.constant_ms +
      costs.decode_context_ns * 1e-6 * mixed * static_cast<double>(load.decode_context_tokens) +
      costs.per_sequence_us * 1e-3 * load.sequences +
      costs.prefill_attention_ns * 1e-6 * load.prefill_pairs + costs.all_reduce_ms +
      costs.all_reduce_per_token_us * n * 1e-3;
  return ms * 1e-3;
}

}  // namespace penstock::engine
