// The plugin types that llm-d registers and the scheduler's registry does not hold: those that only
// name a part that Penstock has built in, and those whose machinery it lacks. The loader needs them
// to tell a typing mistake from a missing capability.
//
// SOURCE: llm-d-router cmd/epp/runner/runner.go, as described in its docs for each plugin.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "config/parse.h"
#include "sched/picker_settings.h"

namespace penstock::sched {

enum class KnownRole : uint8_t {
  kParser,      // request parsers
  kSource,      // reads something from engines
  kExtractor,   // takes values from what a source read
  kDiscovery,   // says which endpoints there are
  kFlowPolicy,  // of flow control: idle, as in llm-d, while its feature gate is off
  kMissing,     // not available in any program
};

struct KnownType {
  // Tells what is wrong with its parameters.
  using Check = void (*)(const wire::YamlNode& parameters, std::string_view path,
                         config::Diagnostics*);

  std::string_view type;
  KnownRole role;
  std::string_view needs;    // "flow control"; "" when every program has it
  std::string_view instead;  // "list each rank as an endpoint", or ""
  // Whether a program has what it needs; nullptr with `needs`: none has.
  bool Abilities::*ability;
  Check check;  // nullptr: the picker's settings are read from them
};

// Sorted by type.
std::span<const KnownType> KnownTypes();
// nullptr when llm-d has no such type, or the registry should have it.
const KnownType* FindKnownType(std::string_view type);

}  // namespace penstock::sched
