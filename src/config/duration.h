// Durations as people and Go programs write them: "250ms", "1.5s", "1m30s", "5m", "1h".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/time.h"

namespace penstock::config {

// Nothing for a text without a unit (0 excepted), an unknown unit, or more than about 292 years.
// Units: ns, us (also µs), ms, s, m, h. A leading minus is accepted.
std::optional<Duration> ParseDuration(std::string_view text);

// The shortest such text: "250ms", "1m30s", "0s".
std::string FormatDuration(Duration duration);

}  // namespace penstock::config
