// What the plugins hold now, for people: counts and sizes, never what requests said. Bounded: of
// the ledger the busiest endpoints.
//
// SOURCE: llm-d-router's /debug/plugins/state.
#pragma once

#include <chrono>
#include <string>

#include "director/director.h"
#include "wire/json.h"

namespace penstock::admin {

inline constexpr size_t kMaxStateEndpoints = 100;

// {"timestamp": ..., "plugins": {NAME: {"name", "type", "state" or "message"}}}, plugins by name.
void WritePluginStates(director::Director& director, std::chrono::nanoseconds unix_time,
                       wire::JsonWriter* json);

// "2026-01-31T23:59:59.123456789Z"; zeros at the end are left out, as Go does.
std::string FormatRfc3339(std::chrono::nanoseconds unix_time);

}  // namespace penstock::admin
