// Known traps of scheduling configurations: what loads and runs, and does something else than
// whoever wrote it is likely to think.
//
// THREADS: a pure function.
// SOURCE: llm-d-router's formulas, defaults and reported issues; docs/check.md lists the traps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/time.h"
#include "sched/explain.h"

namespace penstock::sched {

struct Finding {
  enum class Severity : uint8_t {
    kWarning,  // likely a mistake
    kNote,     // good to know
  };
  Severity severity = Severity::kNote;
  uint32_t line = 0;  // 0: the whole configuration
  uint32_t column = 0;
  std::string text;  // a sentence
};

// What stands around the scheduling.
struct Surroundings {
  Duration scrape_interval = milliseconds(50);
  bool reads_bodies = true;  // false: every request goes through the passthrough parser
};

// In the order of the profiles; what concerns the whole configuration comes last.
std::vector<Finding> FindTraps(const SchedulingSpec& spec, const Registry& registry,
                               const Explanation& explanation, const Surroundings& surroundings);

}  // namespace penstock::sched
