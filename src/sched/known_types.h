// The plugin types that llm-d registers and the scheduler's registry does not hold: those that only
// name a part that Penstock has built in, and those whose machinery it lacks. The loader needs them
// to tell a typing mistake from a missing capability.
//
// SOURCE: llm-d-router cmd/epp/runner/runner.go, as described in its docs for each plugin.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace penstock::sched {

enum class KnownRole : uint8_t {
  kParser,     // request parsers; requests are read by route here
  kSource,     // reads something from engines
  kExtractor,  // takes values from what a source read
  kMissing,    // not available; `needs` says what it would take
};

struct KnownType {
  std::string_view type;
  KnownRole role;
  std::string_view needs;         // of kMissing: "flow control"
  std::string_view instead = {};  // of kMissing: "list each rank as an endpoint", or ""
};

// Sorted by type.
std::span<const KnownType> KnownTypes();
// nullptr when llm-d has no such type, or the registry should have it.
const KnownType* FindKnownType(std::string_view type);

}  // namespace penstock::sched
