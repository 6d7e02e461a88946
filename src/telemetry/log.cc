#include "telemetry/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iterator>

#include "core/text.h"
#include "telemetry/line_writer.h"

namespace penstock::telemetry::log {
namespace {

std::atomic<Level> g_level{Level::kInfo};
std::atomic<Format> g_format{Format::kText};

constexpr std::array<std::string_view, 5> kLevelNames = {"debug", "info", "warn", "error", "off"};
constexpr std::array<std::string_view, 4> kLevelLetters = {"DEBUG", "INFO ", "WARN ", "ERROR"};

constexpr size_t kMaxWaitingBytes = 1 << 20;
constexpr std::chrono::milliseconds kFlushPatience{500};

// Escaped for a JSON string; invalid UTF-8 becomes U+FFFD, so that a line is valid whatever it
// quotes.
void AppendJsonText(std::string& out, std::string_view s) {
  out += '"';
  while (!s.empty()) {
    const size_t length = Utf8SequenceLength(s);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      s.remove_prefix(1);
      continue;
    }
    const char c = s[0];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out.append(s.substr(0, length));
    }
    s.remove_prefix(length);
  }
  out += '"';
}

// Whether a text log shows it without quotes: visible ASCII that does not look like a field.
bool IsPlain(std::string_view s) {
  if (s.empty()) return false;
  for (const signed char c : s) {  // bytes above 0x7f are negative
    if (c <= 0x20 || c == '"' || c == '=' || c == '\\' || c == 0x7f) return false;
  }
  return true;
}

void AppendValue(std::string& out, const Field& field, Format format) {
  std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          if (format == Format::kText && IsPlain(value)) {
            out.append(value);
          } else {
            AppendJsonText(out, value);
          }
        } else if constexpr (std::is_same_v<T, double>) {
          const bool is_finite = value - value == 0;  // JSON has no NaN
          out += is_finite ? fmt::format("{}", value) : "null";
        } else {
          fmt::format_to(std::back_inserter(out), "{}", value);
        }
      },
      field.value);
}

// The line with its newline.
std::string Render(Level level, std::string_view event, std::initializer_list<Field> fields) {
  const Format format = g_format.load(std::memory_order_relaxed);
  const auto now =
      std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const std::string stamp =
      fmt::format("{:%Y-%m-%dT%H:%M:%S}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
  const auto millis = static_cast<int>(now.time_since_epoch().count() % 1000);
  std::string line;
  line.reserve(256);
  const auto index = static_cast<size_t>(level);
  if (format == Format::kJson) {
    line = fmt::format("{{\"ts\":\"{}.{:03}Z\",\"level\":\"{}\",\"event\":", stamp.substr(0, 19),
                       millis, kLevelNames[index]);
    AppendJsonText(line, event);
    for (const Field& field : fields) {
      line += ',';
      AppendJsonText(line, field.key);
      line += ':';
      AppendValue(line, field, format);
    }
    line += "}\n";
  } else {
    line = fmt::format("{}.{:03}Z {} {}", stamp.substr(0, 19), millis, kLevelLetters[index], event);
    for (const Field& field : fields) {
      line.append(" ").append(field.key).append("=");
      AppendValue(line, field, format);
    }
    line += '\n';
  }
  return line;
}

std::string GapLine(uint64_t dropped) {
  return Render(Level::kWarn, "log lines dropped: whoever reads the log is too slow",
                {{"lines", dropped}});
}

// Made at the first line, never destroyed: other threads may log until the very end.
LineWriter& Writer() {
  static auto* writer = [] {
    std::atexit([] { (void)Flush(kFlushPatience); });
    return new LineWriter(STDERR_FILENO, kMaxWaitingBytes, GapLine);
  }();
  return *writer;
}

}  // namespace

void Configure(Level level, Format format) {
  g_level.store(level, std::memory_order_relaxed);
  g_format.store(format, std::memory_order_relaxed);
}

Result<Level> ParseLevel(std::string_view name) {
  for (size_t i = 0; i < kLevelNames.size(); ++i) {
    if (kLevelNames[i] == name) return static_cast<Level>(i);
  }
  return Fail(Code::kInvalidArgument,
              "log level '" + std::string(name) + "' is not one of debug, info, warn, error, off");
}

Result<Format> ParseFormat(std::string_view name) {
  if (name == "text") return Format::kText;
  if (name == "json") return Format::kJson;
  return Fail(Code::kInvalidArgument,
              "log format '" + std::string(name) + "' is not one of text, json");
}

bool Enabled(Level level) { return level >= g_level.load(std::memory_order_relaxed); }

void Write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (!Enabled(level) || level == Level::kOff) return;
  Writer().Put(Render(level, event, fields));
}

bool Flush(std::chrono::milliseconds patience) { return Writer().Flush(patience); }

uint64_t DroppedLines() { return Writer().Dropped(); }

}  // namespace penstock::telemetry::log
