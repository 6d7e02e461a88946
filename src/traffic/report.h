// Totals as text for people.
//
// THREADS: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "core/time.h"
#include "traffic/totals.h"

namespace penstock::traffic {

struct ChatCounts {
  uint64_t begun = 0;
  uint64_t open = 0;
  uint64_t held_back = 0;  // would have begun, but as many chats as may were open
};

// One line without its end: rates, TTFT, hit rate and failures of a window of `length`.
std::string StatusLine(const Totals& window, const ChatCounts& chats, Duration length);
// A table of several lines, each with its end.
std::string Report(const Totals& totals, const ChatCounts& chats, Duration length);

}  // namespace penstock::traffic
