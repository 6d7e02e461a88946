// Time as the brain sees it: a point on a monotonic axis that somebody hands in. Live bodies hand
// in the steady clock, the simulator its virtual time; nothing below row 7 reads a clock by itself.
#pragma once

#include <chrono>
#include <cstdint>

namespace penstock {

using Duration = std::chrono::nanoseconds;
using Time = std::chrono::time_point<std::chrono::steady_clock, Duration>;

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Seconds as a floating-point number, for metrics and formulas.
inline double ToSeconds(Duration d) { return std::chrono::duration<double>(d).count(); }
inline double ToMillis(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }
// UNITS: seconds. Rounds toward zero to a nanosecond.
inline Duration FromSeconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}
// Nanoseconds since the axis began, for atomic columns.
inline int64_t ToNanos(Time t) { return t.time_since_epoch().count(); }
inline Time FromNanos(int64_t nanos) { return Time(Duration(nanos)); }

}  // namespace penstock
