// A scheduling configuration as one line of YAML, whole in itself, as LoadInlineScheduling reads
// it: for recordings.
//
// THREADS: const data in, text out.
#pragma once

#include <string>

#include "sched/scheduler.h"

namespace penstock::sched {

// {"plugins": [...], "schedulingProfiles": [...]}: JSON, but for plain scalars that YAML takes for
// numbers and JSON does not (".5", "0x400"), which stand as they stood.
std::string ToYaml(const SchedulingSpec& spec);

}  // namespace penstock::sched
