// Fits a profile's step times to the log of an engine's requests: the costs for which the simulated
// engine, given the log's requests at their times, answers when the real one did.
//
// Every request's time per token is first taken for a sum of what shared its steps, as the log
// itself tells it (sequences, their contexts, prefills that ended meanwhile): linear least squares
// without negative costs. From there a downhill simplex goes on with replays, over the logarithms
// of the costs.
//
// THREADS: pure functions; the same log gives the same costs, bit for bit, on every machine.
// COST: about 1,000 to 1,500 replays of the log; 3 s for 300 requests.
// SOURCE: the first part after BLIS's estimation of step times from traces; Nelder and Mead, "A
// simplex method for function minimization", 1965.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "engine/engine.h"
#include "lab/request_log.h"

namespace penstock::lab {

// How far the replay is off; medians over requests of |simulated / measured - 1|.
struct LogError {
  size_t requests = 0;
  double ttft = 0, tpot = 0;
  double mean_ttft = 0, mean_tpot = 0;  // simulated mean / measured mean - 1
};

struct LogFit {
  engine::StepCosts costs;  // baseMs is 0: the costs of a token go through the origin
  double overhead_s = 0;    // of a request, beside its step
  LogError fitted;          // every other request
  LogError held_out;        // those between them
  uint32_t most_at_once = 0;
  std::vector<std::string> notes;  // what the log does not tell, a sentence each
};

// `options`: limits and cache of the engine; its costs and kernel times are not used. Takes at most
// `max_requests` from the log's beginning, which should find the engine idle; of a log that goes
// on, those count that ended before the rest came. kInvalidArgument: fewer than 20 requests, or
// none with several tokens; what the engine says to a request that it refuses.
Result<LogFit> FitLog(const RequestLog& log, const engine::EngineOptions& options,
                      size_t max_requests = 2'000);

}  // namespace penstock::lab
