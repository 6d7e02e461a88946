// A scheduling configuration as JSON, whole in itself, as LoadInlineScheduling reads it: for
// recordings.
//
// THREADS: const data in, text out.
#pragma once

#include <string>

#include "sched/scheduler.h"

namespace penstock::sched {

// {"plugins": [...], "schedulingProfiles": [...]}
std::string ToJson(const SchedulingSpec& spec);

}  // namespace penstock::sched
