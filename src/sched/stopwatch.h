// Measures how long plugins take. The brain has no clock: who wants to know hands one in, with
// those requests that are measured.
//
// THREADS: any.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/time.h"

namespace penstock::sched {

class Plugin;

// What a plugin was asked to do, in llm-d's words.
enum class Step : uint8_t {
  kDataProducer,
  kProfilePicker,
  kFilter,
  kScorer,
  kPicker,
  kProcessProfilesResults,
  kPreRequest,
};
std::string_view StepName(Step step);  // "DataProducer", ...

class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  virtual Time Now() = 0;
  virtual void Observe(Step step, const Plugin& plugin, Duration took) = 0;
};

}  // namespace penstock::sched
