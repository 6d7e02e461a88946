// A recording's decisions once more: tells a new brain what the recorded one was told, in the same
// order, and compares what it decides.
//
// THREADS: pure, apart from reading the file. COST: that of the decisions; memory of the requests
// in flight.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "director/director.h"
#include "recording/reader.h"
#include "sched/scheduler.h"
#include "workload/line_reader.h"

namespace penstock::recording {

struct RerunReport {
  Head head;
  uint64_t events = 0;
  uint64_t arrivals = 0;
  uint64_t retries = 0;
  uint64_t rejections = 0;
  uint64_t differing = 0;                // decisions that were another one
  std::vector<std::string> differences;  // the first of them: "FILE:LINE: request 3 went to ..."
  double seconds = 0;                    // of the recording
  std::string ended;                     // what it says of its end; "": it breaks off
};

// The scheduler for a recording's head.
using MakeScheduler = std::function<Result<std::unique_ptr<sched::Scheduler>>(const Head&)>;
// Told each request when it has ended, with its number in the recording; requests that had not
// ended when the recording did, too. The record is valid during the call.
using RerunObserver = std::function<void(uint64_t request, const director::DecisionRecord&)>;

// Errors read "FILE:LINE: what".
Result<RerunReport> Rerun(workload::LineReader lines, const MakeScheduler& make_scheduler,
                          const RerunObserver& observer = {});
// The same over the file; kNotFound when it is not there.
Result<RerunReport> RerunFile(const std::string& path, const MakeScheduler& make_scheduler,
                              const RerunObserver& observer = {});

}  // namespace penstock::recording
