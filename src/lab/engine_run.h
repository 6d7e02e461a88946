// One engine alone in virtual time, with requests of given lengths and arrivals: what the engine
// model is checked with. Every request's text is its own, but for what is said to be cached; one
// that was preempted finds what is left of its blocks, as in vLLM.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/engine.h"

namespace penstock::lab {

struct RunRequest {
  Duration arrival{0};
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
  // Of the prompt, known to be in the cache when it came. Whoever has such tokens shares them: they
  // are computed once and counted once among the blocks.
  uint32_t cached_tokens = 0;
};

// What became of a request; times since the start, -1 s where it did not happen.
struct RunTimes {
  Duration sent{-1'000'000'000};
  Duration scheduled{-1'000'000'000};
  Duration first_token{-1'000'000'000};
  Duration last_token{-1'000'000'000};
};

struct RunSample {
  Duration at{0};
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint64_t generation_tokens = 0;  // so far
};

struct RunResult {
  std::vector<RunTimes> requests;  // in the order of the input
  std::vector<RunSample> samples;  // at every full `sample_every`
  engine::EngineStats stats;
  Duration end{0};
};

struct RunOptions {
  engine::EngineOptions engine;
  Duration sample_every = seconds(1);
  // Closed loop: so many at once, each sent when one before it ended; arrivals are ignored. 0:
  // open.
  uint32_t concurrency = 0;
  // Closed loop: the way to the engine takes so long, and what is sent at once comes one after the
  // other, so far apart.
  Duration client_delay{0}, client_gap{0};
  // Closed loop: the first `concurrency` requests ran before, and left their blocks in the cache.
  bool warm_up = false;
};

// `requests` in the order of arrival. The engine's complaint when it refuses one.
Result<RunResult> RunEngine(std::span<const RunRequest> requests, const RunOptions& options);

// Mean times as the field defines them, over the requests that ended. UNITS: seconds.
struct LatencyMeans {
  double ttft = 0;
  double tpot = 0;  // of requests with two output tokens or more
  double e2e = 0;
};
LatencyMeans MeansOf(std::span<const RunRequest> requests, std::span<const RunTimes> times);

}  // namespace penstock::lab
