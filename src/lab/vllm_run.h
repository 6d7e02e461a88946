// What a real vLLM did: a folder with requests.jsonl (request_id, input_toks, output_toks,
// queued_ts, scheduled_ts, first_token_ts, last_token_ts), timeseries.csv (t, ..., running,
// waiting, ...) and meta.json (engine_kwargs), as LLMServingSim publishes them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "lab/engine_run.h"

namespace penstock::lab {

struct VllmRun {
  std::string model;
  std::string version;
  uint32_t max_num_seqs = 0;  // 0: not told
  uint32_t max_num_batched_tokens = 0;
  std::vector<RunRequest> requests;  // by arrival, the first at 0
  std::vector<RunTimes> times;       // measured
  std::vector<RunSample> samples;    // measured
};

// Complaints as FILE:LINE.
Result<VllmRun> ReadVllmRun(const std::string& folder);

}  // namespace penstock::lab
