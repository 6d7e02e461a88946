// The traffic of a recording that 'penstock serve --record' made, for other fleets and policies.
//
// A request comes when it came, with the prefixes that it shared, and answers as long as the
// engine's. Prompt lengths are the gateway's estimates, scaled as a whole to what the engines
// reported. Left out, and counted: requests that were rejected or broken off, whose answers nobody
// knows, and those without a prompt.
//
// THREADS: belongs to its caller. COST: reads the file twice; 4 bytes of memory a request.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "workload/line_reader.h"
#include "workload/workload.h"

namespace penstock::workload {

struct RecordedOptions {
  double rate_scale = 1;  // how many times as fast
};

inline constexpr size_t kMaxRecordedLineBytes = 16 << 20;
// The most block keys of a request, of each producer: 4 million tokens in blocks of 64.
inline constexpr size_t kMaxRecordedKeys = 65536;

// Appends keys that stand behind one another as 16 hexadecimal digits each. False: they are none,
// or too many.
bool ReadHexKeys(std::string_view text, std::vector<uint64_t>* keys);

// `open` opens the file anew, for lines of kMaxRecordedLineBytes. Errors read "FILE:LINE: what".
Result<std::unique_ptr<Source>> ReadRecorded(const std::function<Result<LineReader>()>& open,
                                             const RecordedOptions& options);

}  // namespace penstock::workload
