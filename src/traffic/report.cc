#include "traffic/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace penstock::traffic {
namespace {

std::string TimeText(double seconds) {
  if (seconds >= 9.995) return fmt::format("{:.1f} s", seconds);
  if (seconds >= 0.9995) return fmt::format("{:.2f} s", seconds);
  if (seconds >= 0.00995) return fmt::format("{:.0f} ms", seconds * 1e3);
  return fmt::format("{:.1f} ms", seconds * 1e3);
}

std::string RateText(double per_s) {
  return per_s < 100 ? fmt::format("{:.1f}", per_s) : fmt::format("{:.0f}", per_s);
}

// "12345678" as "12,345,678".
std::string Grouped(uint64_t number) {
  std::string text = fmt::format("{}", number);
  for (auto at = static_cast<ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<size_t>(at), 1, ',');
  }
  return text;
}

std::string HitText(const Totals& totals) {
  const double rate = totals.HitRate();
  return rate < 0 ? "not known" : fmt::format("{:.1f} %", 100 * rate);
}

std::string Row(std::string_view name, const LatencyHistogram& times) {
  if (times.count() == 0) return fmt::format("  {:<22}none\n", name);
  return fmt::format("  {:<22}p50 {:<9} p90 {:<9} p99 {}\n", name, TimeText(times.Quantile(0.5)),
                     TimeText(times.Quantile(0.9)), TimeText(times.Quantile(0.99)));
}

double PerSecond(uint64_t count, Duration length) {
  return static_cast<double>(count) / std::max(ToSeconds(length), 1e-3);
}

}  // namespace

std::string StatusLine(const Totals& window, const ChatCounts& chats, Duration length) {
  std::string line = fmt::format("{:>5} req/s", RateText(PerSecond(window.answered, length)));
  if (window.first_token.count() == 0) {
    line += "   no answer yet";
  } else {
    line += fmt::format("   TTFT p50 {:>7}, p90 {:>7}   cache hits {:>7}",
                        TimeText(window.first_token.Quantile(0.5)),
                        TimeText(window.first_token.Quantile(0.9)), HitText(window));
  }
  line += fmt::format("   {} chats", chats.open);
  if (window.failed > 0) line += fmt::format("   {} failed", window.failed);
  return line;
}

std::string Report(const Totals& totals, const ChatCounts& chats, Duration length) {
  std::string out = fmt::format("Traffic of {:.1f} s\n", ToSeconds(length));
  const auto append = [&out]<class... T>(fmt::format_string<T...> text, T&&... values) {
    fmt::format_to(std::back_inserter(out), text, std::forward<T>(values)...);
  };
  append("  {:<22}{} begun", "chats", Grouped(chats.begun));
  if (chats.held_back > 0) append(", {} held back by the limit", Grouped(chats.held_back));
  append("\n  {:<22}{} answered ({} a second), {} failed", "requests", Grouped(totals.answered),
         RateText(PerSecond(totals.answered, length)), Grouped(totals.failed));
  if (totals.cut_off > 0) append(", {} cut off at the end", Grouped(totals.cut_off));
  out += '\n';
  out += Row("time to first token", totals.first_token);
  out += Row("time per output token", totals.per_token);
  out += Row("whole answer", totals.whole);
  append("  {:<22}{} of {} prompt tokens\n", "cache hits", HitText(totals),
         Grouped(totals.prompt_tokens));
  append("  {:<22}{} in, {} out\n", "tokens a second",
         RateText(PerSecond(totals.prompt_tokens, length)),
         RateText(PerSecond(totals.output_tokens, length)));
  for (const auto& [kind, count] : totals.errors) {
    append("  {:<22}{} x {}\n", "failed", Grouped(count), kind);
  }
  if (!totals.first_error.empty()) append("  {:<22}{}\n", "first failure", totals.first_error);
  return out;
}

}  // namespace penstock::traffic
