// Traffic by name: a built-in workload, a workload file, or a trace.
//
//   auto source = workload::Open("scenario-a", 7, {});
//   auto source = workload::Open("mooncake:trace.jsonl", {}, {.rate_scale = 2});
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "workload/workload.h"
#include "workload/workload_file.h"

namespace penstock::workload {

struct OpenOptions {
  // Traces run so many times as fast; generators send so many times as much (generated_source.h).
  double rate_scale = 1;
  // Requests after which the traffic is over; 0: all.
  uint64_t max_requests = 0;
  // Generators only: no request is longer; 0: as long as the workload says.
  uint32_t max_model_len = 0;
  // Traces only: leave out bad lines and count them (Source::Skipped), instead of failing.
  bool skips_bad_lines = false;
};

// `what`: a built-in name; a path, which has a '/' or ends in .yaml or .yml; or mooncake:FILE,
// azure:FILE, otel:FILE, recording:FILE (recorded.h). The seed replaces the one of a workload file;
// a trace has none. kNotFound lists the names; kInvalidArgument has a line for each complaint, as
// FILE:LINE:COLUMN.
Result<std::unique_ptr<Source>> Open(std::string_view what, std::optional<uint64_t> seed,
                                     const OpenOptions& options);

// A built-in one or one of a file; kNotFound lists the names.
Result<Workload> LoadWorkload(std::string_view name_or_path);
// In alphabetical order.
std::vector<std::string> BuiltinWorkloadNames();

}  // namespace penstock::workload
