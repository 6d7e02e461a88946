// The traffic of a recording that 'penstock serve --record' made, for other fleets and policies.
//
// A request comes when it came, with the prefixes that it shared, and answers as long as the
// engine's. Prompt lengths are the gateway's estimates, scaled as a whole to what the engines
// reported. Left out, and counted: requests that were rejected or broken off, whose answers nobody
// knows, and those without a prompt.
//
// THREADS: belongs to its caller. COST: reads the file twice; 4 bytes of memory a request.
#pragma once

#include <functional>
#include <memory>

#include "core/result.h"
#include "workload/line_reader.h"
#include "workload/workload.h"

namespace penstock::workload {

struct RecordedOptions {
  double rate_scale = 1;  // how many times as fast
};

inline constexpr size_t kMaxRecordedLineBytes = 16 << 20;

// `open` opens the file anew, for lines of kMaxRecordedLineBytes. Errors read "FILE:LINE: what".
Result<std::unique_ptr<Source>> ReadRecorded(const std::function<Result<LineReader>()>& open,
                                             const RecordedOptions& options);

}  // namespace penstock::workload
