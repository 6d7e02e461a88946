#include "workload/trace_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "core/text.h"

namespace penstock::workload {
namespace {

constexpr double kMostNanos = 9e18;

// How many lines were left out for which reason, and which was the first. Reasons are few.
class FaultCounts {
 public:
  void Add(std::string_view reason, uint64_t line) {
    const auto [it, is_new] = counts_.try_emplace(std::string(reason), Count{0, line});
    ++it->second.lines;
  }
  std::vector<std::string> Lines() const {
    std::vector<std::string> out;
    for (const auto& [reason, count] : counts_) {
      out.push_back(fmt::format("{} {}: {} (first: {})", count.lines,
                                count.lines == 1 ? "line" : "lines", reason, count.first));
    }
    return out;
  }

 private:
  struct Count {
    uint64_t lines;
    uint64_t first;
  };
  std::map<std::string, Count> counts_;
};

class TraceSource final : public Source {
 public:
  TraceSource(LineReader lines, std::unique_ptr<TraceFormat> format, const TraceOptions& options)
      : lines_(std::move(lines)), format_(std::move(format)), options_(options) {
    Advance();
  }

  std::optional<Duration> NextAt() override {
    return next_ ? std::optional(next_->job.at) : std::nullopt;
  }

  Job Take() override {
    Job job = std::move(next_->job);
    Advance();
    return job;
  }

  void OnEnd(const Job&, const JobEnd&) override {}

  std::vector<std::string> Skipped() const override {
    std::vector<std::string> out = faults_.Lines();
    for (std::string& note : format_->Notes()) out.push_back(std::move(note));
    return out;
  }

  // Requests before the bad line come first.
  std::optional<Error> Failure() const override { return next_ ? std::nullopt : failure_; }

 private:
  struct Held {
    TraceRow row;
    uint64_t line;
    bool operator>(const Held& other) const {
      return row.time_ns != other.row.time_ns ? row.time_ns > other.row.time_ns : line > other.line;
    }
  };

  // Makes the next row `next_`.
  void Advance() {
    next_.reset();
    if (failure_ && held_.empty()) return;
    while (!is_over_ && held_.size() <= format_->reordered_rows()) ReadRow();
    while (!held_.empty() && !next_) {
      std::pop_heap(held_.begin(), held_.end(), std::greater<>());
      Held held = std::move(held_.back());
      held_.pop_back();
      if (!Place(&held)) continue;
      format_->Complete(&held.row);
      next_ = std::move(held.row);
    }
  }

  // Reads lines until one is a row; none are left when is_over_.
  void ReadRow() {
    for (;;) {
      std::string_view line;
      switch (lines_.Read(&line)) {
        case LineReader::Next::kEnd:
          is_over_ = true;
          if (!has_rows_) {
            failure_ = Error{Code::kInvalidArgument, lines_.name() + ": has no request in it"};
          }
          return;
        case LineReader::Next::kUnreadable:
          Stop(lines_.number(), lines_.error());
          return;
        case LineReader::Next::kCutOff:
          Stop(lines_.number(), "the compressed data breaks off here");
          return;
        case LineReader::Next::kTooLong:
          if (!Bad({"longer than 1 MiB", ""}, lines_.number())) return;
          continue;
        case LineReader::Next::kLine:
          break;
      }
      if (TrimSpace(line).empty()) continue;
      Held held{.row = {}, .line = lines_.number()};
      LineFault fault;
      switch (format_->Parse(line, ordinal_++, &held.row, &fault)) {
        case TraceFormat::Verdict::kRow:
          has_rows_ = true;
          held_.push_back(std::move(held));
          std::push_heap(held_.begin(), held_.end(), std::greater<>());
          return;
        case TraceFormat::Verdict::kNothing:
          if (!fault.reason.empty()) faults_.Add(fault.reason, held.line);
          break;
        case TraceFormat::Verdict::kBad:
          if (!Bad(fault, held.line)) return;
          break;
        case TraceFormat::Verdict::kFatal:
          Stop(held.line, Sentence(fault));
          return;
      }
    }
  }

  // Gives a row its time; false when it ends the traffic.
  bool Place(Held* held) {
    if (!first_ns_) first_ns_ = held->row.time_ns;
    int64_t since_ns = held->row.time_ns - *first_ns_;
    if (options_.rate_scale != 1) {
      const double scaled = static_cast<double>(since_ns) / options_.rate_scale;
      since_ns = static_cast<int64_t>(std::clamp(scaled, -kMostNanos, kMostNanos));
    }
    if (Duration(since_ns) < last_) {
      const auto back = fmt::format("by {:.3f} s", ToSeconds(last_ - Duration(since_ns)));
      if (!Bad({"time goes back", back}, held->line)) {
        held_.clear();
        return false;
      }
      since_ns = last_.count();
    }
    last_ = Duration(since_ns);
    held->row.job.at = last_;
    return true;
  }

  // Whether to go on.
  bool Bad(const LineFault& fault, uint64_t line) {
    if (options_.skips_bad_lines) {
      faults_.Add(fault.reason, line);
      return true;
    }
    Stop(line, Sentence(fault));
    return false;
  }

  static std::string Sentence(const LineFault& fault) {
    std::string what(fault.reason);
    if (!fault.detail.empty()) what += ": " + fault.detail;
    return what;
  }

  void Stop(uint64_t line, std::string_view what) {
    is_over_ = true;
    if (failure_) return;
    failure_ = Error{Code::kInvalidArgument, fmt::format("{}:{}: {}", lines_.name(), line, what)};
  }

  LineReader lines_;
  const std::unique_ptr<TraceFormat> format_;
  const TraceOptions options_;
  FaultCounts faults_;
  uint64_t ordinal_ = 0;
  bool is_over_ = false;
  bool has_rows_ = false;
  std::optional<Error> failure_;
  std::vector<Held> held_;  // a heap, the earliest first
  std::optional<TraceRow> next_;
  std::optional<int64_t> first_ns_;
  Duration last_{0};
};

// `digits` decimal digits at the front of `*text`, which are cut off.
std::optional<int> TakeDigits(std::string_view* text, size_t digits) {
  if (text->size() < digits) return std::nullopt;
  int value = 0;
  for (const char c : text->substr(0, digits)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  text->remove_prefix(digits);
  return value;
}

bool TakeOne(std::string_view* text, std::string_view one_of) {
  if (text->empty() || one_of.find(text->front()) == std::string_view::npos) return false;
  text->remove_prefix(1);
  return true;
}

// Minutes east of UTC; the whole of `text` is "", "Z" or "+hh:mm".
std::optional<int> ParseZone(std::string_view text) {
  if (text.empty() || text == "Z" || text == "z") return 0;
  const int sign = text.front() == '-' ? -1 : 1;
  if (!TakeOne(&text, "+-")) return std::nullopt;
  const auto hours = TakeDigits(&text, 2);
  if (!hours || !TakeOne(&text, ":")) return std::nullopt;
  const auto minutes = TakeDigits(&text, 2);
  if (!minutes || !text.empty() || *hours > 23 || *minutes > 59) return std::nullopt;
  return sign * (*hours * 60 + *minutes);
}

}  // namespace

std::unique_ptr<Source> MakeTraceSource(LineReader lines, std::unique_ptr<TraceFormat> format,
                                        const TraceOptions& options) {
  return std::make_unique<TraceSource>(std::move(lines), std::move(format), options);
}

std::optional<int64_t> ParseTimestamp(std::string_view text) {
  int parts[6];
  constexpr std::string_view kBefore[6] = {"", "-", "-", "T t", ":", ":"};
  for (int i = 0; i < 6; ++i) {
    if (i > 0 && !TakeOne(&text, kBefore[i])) return std::nullopt;
    const auto part = TakeDigits(&text, i == 0 ? 4 : 2);
    if (!part) return std::nullopt;
    parts[i] = *part;
  }
  const std::chrono::year_month_day date{std::chrono::year(parts[0]),
                                         std::chrono::month(static_cast<unsigned>(parts[1])),
                                         std::chrono::day(static_cast<unsigned>(parts[2]))};
  if (!date.ok() || parts[0] < 1970 || parts[0] > 2200) return std::nullopt;
  if (parts[3] > 23 || parts[4] > 59 || parts[5] > 60) return std::nullopt;  // 60: a leap second
  int64_t nanos = 0;
  if (TakeOne(&text, ".")) {
    int64_t unit = 1'000'000'000;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      if (unit == 1) return std::nullopt;
      unit /= 10;
      nanos += unit * (text.front() - '0');
      text.remove_prefix(1);
    }
    if (unit == 1'000'000'000) return std::nullopt;
  }
  const auto zone = ParseZone(text);
  if (!zone) return std::nullopt;
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  const int64_t minutes = (days * 24 + parts[3]) * 60 + parts[4] - *zone;
  const int64_t at = (minutes * 60 + parts[5]) * 1'000'000'000 + nanos;
  return at < 0 ? std::nullopt : std::optional(at);
}

}  // namespace penstock::workload
