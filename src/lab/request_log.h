// What an engine was asked and when it answered, one request a row: JSON lines, CSV with a header,
// or what the gateway gives at /debug/decisions. Rows may stand in any order.
//
//   arrival   queued_ts, arrival_s (seconds), arrival_ms or unix_micros
//   prompt    input_toks, input_tokens or prompt_tokens
//   output    output_toks, output_tokens or completion_tokens
//   first     first_token_ts (seconds on the arrival's clock), or since it ttft_s or ttft_ms
//   end       last_token_ts or end_ts, or since the arrival e2e_s or e2e_ms
//   cached    cached_tokens; may be missing
//   endpoint  where it ran; may be missing
//
// SOURCE: requests.jsonl of LLMServingSim's runs of vLLM; admin/decision_json.cc.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "lab/engine_run.h"

namespace penstock::lab {

struct RequestLog {
  std::vector<RunRequest> requests;  // by arrival, the first at 0
  // Measured. `scheduled` is unknown, and the first token of what was answered in one piece.
  std::vector<RunTimes> times;
  size_t rows = 0;  // those that were skipped, too
  struct Skipped {
    std::string reason;
    size_t count = 0;
    size_t first_line = 0;
  };
  std::vector<Skipped> skipped;  // rows that no request can be made of, by reason
};

// Only what ran at `endpoint`; "": all, which must be one endpoint. Complaints as FILE:LINE: a
// column that is missing, several endpoints, no row that can be used.
Result<RequestLog> ParseRequestLog(std::string_view text, std::string_view file,
                                   std::string_view endpoint = "");
Result<RequestLog> ReadRequestLog(const std::string& path, std::string_view endpoint = "");

// "3 rows: without tokens (first at line 17), ..."; "" when nothing was skipped.
std::string SkippedText(const RequestLog& log);

}  // namespace penstock::lab
