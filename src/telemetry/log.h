// Structured log lines on stderr, as text or JSON. Once per event, with request_id and endpoint
// where there are any; never bodies, prompts or credentials.
//
//   log::Warn("endpoint failed its scrape", {{"endpoint", name}, {"reason", error.message}});
//
// THREADS: any. COST: formatting on the calling thread; a thread of the log writes. Nothing when
// the level is off. Whoever reads stderr may stand still: 1 MiB of lines wait, later ones are
// dropped and counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "core/result.h"

namespace penstock::telemetry::log {

enum class Level : uint8_t { kDebug, kInfo, kWarn, kError, kOff };
enum class Format : uint8_t { kText, kJson };

struct Field {
  std::string_view key;
  std::variant<std::string_view, int64_t, double, bool> value;
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(std::string_view(v)) {}
  Field(std::string_view k, const char* v) : key(k), value(std::string_view(v)) {}
  Field(std::string_view k, bool v) : key(k), value(v) {}
  Field(std::string_view k, double v) : key(k), value(v) {}
  template <class T>
  requires std::is_integral_v<T> Field(std::string_view k, T v)
      : key(k), value(static_cast<int64_t>(v)) {}
};

void Configure(Level level, Format format);
Result<Level> ParseLevel(std::string_view name);    // debug, info, warn, error, off
Result<Format> ParseFormat(std::string_view name);  // text, json
bool Enabled(Level level);
void Write(Level level, std::string_view event, std::initializer_list<Field> fields);

// Waits until the lines before have been written, `patience` at most. Returns whether. A process
// that returns from main or calls exit does so by itself.
bool Flush(std::chrono::milliseconds patience);
// Lines that were not written, because their reader stands still or is gone.
uint64_t DroppedLines();

inline void Debug(std::string_view event, std::initializer_list<Field> f = {}) {
  if (Enabled(Level::kDebug)) Write(Level::kDebug, event, f);
}
inline void Info(std::string_view event, std::initializer_list<Field> f = {}) {
  Write(Level::kInfo, event, f);
}
inline void Warn(std::string_view event, std::initializer_list<Field> f = {}) {
  Write(Level::kWarn, event, f);
}
inline void Err(std::string_view event, std::initializer_list<Field> f = {}) {
  Write(Level::kError, event, f);
}

}  // namespace penstock::telemetry::log
