// A scheduling configuration as YAML, whole in itself, as LoadInlineScheduling reads it: on one
// line for recordings, in many for people.
//
// THREADS: const data in, text out.
#pragma once

#include <string>

#include "sched/scheduler.h"

namespace penstock::sched {

// {"plugins": [...], "schedulingProfiles": [...]}, and the names of attributes when there are some:
// JSON, but for plain scalars that YAML takes for
// numbers and JSON does not (".5", "0x400"), which stand as they stood.
std::string ToYaml(const SchedulingSpec& spec);
// A node in the same way.
std::string ToYaml(const wire::YamlNode& node);

// The same as a document, a line each, every line indented by `indent` spaces. What goes without
// saying is left out: names that are the type, weights of 1.
std::string ToYamlLines(const SchedulingSpec& spec, size_t indent);

}  // namespace penstock::sched
