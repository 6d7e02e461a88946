// Numbers that everything random in traffic begins with: each purpose has a generator of its own,
// so that one that draws more does not change what the others draw, and each text has a number.
#pragma once

#include <cstdint>

#include "core/random.h"

namespace penstock::workload {

enum class Purpose : uint64_t {
  kArrivals = 1,  // by stage
  kOrder,         // in which order users come
  kGroup,         // by group: its system prompt
  kUser,          // by user, or by user, chat and turn
  kConversation,  // by conversation
  kRequest,       // by request
  kAnswer,        // by request, or by whoever asks and turn
  kClass,         // by session or request: priority and adapter
  kTraceBlock,    // by hash id of a trace
  kTraceRequest,  // by request of a trace
  kTraceAnswer,   // by request of a trace
};

// splitmix64's finaliser: different numbers stay different.
constexpr uint64_t Mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}
constexpr uint64_t Mixed(uint64_t a, uint64_t b) { return Mixed(Mixed(a) ^ b); }

// A seed for a generator, or the number of a text, of number `a` (and `b` within it) of a purpose.
constexpr uint64_t NumberOf(uint64_t seed, Purpose purpose, uint64_t a, uint64_t b = 0) {
  return Mixed(Mixed(Mixed(seed, static_cast<uint64_t>(purpose)), a), b);
}

// In (0, 1), never an end: what logarithms and quantiles need.
inline double OpenUniform(Random& random) {
  return (static_cast<double>(random.Next() >> 12) + 0.5) * 0x1.0p-52;
}

}  // namespace penstock::workload
