// From the `scheduling` section of a configuration to a scheduler.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/serve_config.h"
#include "core/result.h"
#include "sched/scheduler.h"

namespace penstock::app {

struct ChosenScheduler {
  std::unique_ptr<sched::Scheduler> scheduler;
  std::string policy;                 // "sticky", or the file that decides; for people
  std::string scheduling;             // the whole of it, as sched::ToYaml writes it
  std::vector<std::string> warnings;  // "FILE:LINE:COLUMN: sentence"
};

// The EndpointPickerConfig in a file. The error has a line for each mistake; `diagnostics` gets the
// file's name and the warnings.
Result<sched::SchedulingSpec> ReadPolicyFile(const std::string& path,
                                             config::Diagnostics* diagnostics);

// `policy` is the name for people; errors that the diagnostics hold already are the answer.
Result<ChosenScheduler> WireScheduler(const sched::SchedulingSpec& spec, std::string policy,
                                      config::Diagnostics diagnostics);

// What sched::ToYaml wrote.
Result<std::unique_ptr<sched::Scheduler>> SchedulerOfYaml(const std::string& scheduling);

// Inline plugins win over a file, a file over a policy. The error has a line for each mistake.
Result<ChosenScheduler> MakeScheduler(const config::SchedulingConfig& config);

}  // namespace penstock::app
