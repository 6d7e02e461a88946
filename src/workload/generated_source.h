// Traffic that a workload file describes. Open loop: requests (or conversations) come as the
// stages say, whatever the answers do; a request that finds every user waiting for an answer comes
// when the first of them has it. Closed loop: so many requests (or conversations) at a time; one
// that was refused or lost holds its place for a second.
//
// Conversations that are open at the end of a closed-loop stage are not continued.
//
// THREADS: belongs to its caller. COST: 0.2 to 0.7 us a request (bench/workload_bench); memory of
// what is in flight, no more.
#pragma once

#include <cstdint>
#include <memory>

#include "core/result.h"
#include "workload/workload.h"
#include "workload/workload_file.h"

namespace penstock::workload {

struct GenerateOptions {
  // Multiplies the rates of open-loop stages, and concurrencyLevel and numRequests of closed-loop
  // ones; no more than a million at a time.
  double rate_scale = 1;
  // No request is longer; 0: as long as the workload says.
  uint32_t max_model_len = 0;
};

// REQUIRES: a workload that ParseWorkload made, rate_scale above 0.
std::unique_ptr<Source> Generate(const Workload& workload, uint64_t seed,
                                 const GenerateOptions& options);

}  // namespace penstock::workload
