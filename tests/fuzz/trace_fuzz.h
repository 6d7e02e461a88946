// What holds of any trace reader over any bytes: it ends, its requests are in order and not empty,
// a failure names its place, and leaving out bad lines gives at least as many requests.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "workload/trace_source.h"

namespace penstock::workload {

inline void Check(bool holds) {
  if (!holds) std::abort();
}

inline uint64_t Drain(Source& source) {
  uint64_t count = 0;
  Duration before{0};
  while (const auto at = source.NextAt()) {
    Check(!source.Failure());
    const Job job = source.Take();
    Check(job.at == *at && job.at >= before);
    Check(job.output_tokens > 0 && !job.prompt.empty());
    for (const Piece& piece : job.prompt) Check(piece.tokens > 0);
    before = job.at;
    source.OnEnd(job, {.at = job.at});
    ++count;
  }
  Check(count > 0 || source.Failure().has_value());
  if (const auto failure = source.Failure()) Check(failure->message.starts_with("f:"));
  for (const auto& line : source.Skipped()) Check(!line.empty());
  return count;
}

template <class R>
int FuzzTrace(R reader, const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto strict = reader(LineReader::OfText(text, "f"), TraceOptions{});
  const auto lenient = reader(LineReader::OfText(text, "f"),
                              TraceOptions{.rate_scale = 0.001, .skips_bad_lines = true});
  const uint64_t count = Drain(*strict);
  Check(Drain(*lenient) >= count);
  return 0;
}

}  // namespace penstock::workload
