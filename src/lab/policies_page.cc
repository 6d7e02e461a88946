#include "lab/policies_page.h"

#include <fmt/format.h>

#include <iterator>
#include <vector>

namespace penstock::lab {
namespace {

struct Row {
  std::string_view number, title;
  double scale;
};
constexpr Row kTables[] = {
    {"ttft_mean_s", "TTFT, mean, ms", 1e3},
    {"ttft_p90_s", "TTFT, p90, ms", 1e3},
    {"tpot_mean_ms", "TPOT, mean, ms", 1},
    {"e2e_mean_s", "E2E, mean, s", 1},
    {"e2e_p90_s", "E2E, p90, s", 1},
    {"output_tokens_per_s", "Output tokens/s, to the last answer", 1},
    {"hit_share", "Prompt tokens found in a cache, %", 100},
};

}  // namespace

std::string RenderMarkdown(std::span<const Comparison> comparisons) {
  std::string out;
  if (comparisons.empty()) return out;
  const auto put = std::back_inserter(out);
  const std::vector<ArmResult>& arms = comparisons.front().arms;
  std::string head = "| workload |";
  std::string rule = "|---|";
  for (const ArmResult& arm : arms) {
    head += " " + arm.name + " |";
    rule += "---|";
  }
  std::vector<std::vector<size_t>> good(std::size(kTables), std::vector<size_t>(arms.size()));
  for (size_t t = 0; t < std::size(kTables); ++t) {
    const Row& table = kTables[t];
    fmt::format_to(put, "### {}\n\n{}\n{}\n", table.title, head, rule);
    for (const Comparison& comparison : comparisons) {
      fmt::format_to(put, "| {} |", comparison.workload);
      const size_t best = BestArm(comparison, table.number);
      for (size_t a = 0; a < arms.size(); ++a) {
        const bool is_good = a == best || Judge(comparison.arms[a], comparison.arms[best],
                                                table.number) == Verdict::kNoise;
        good[t][a] += is_good ? 1 : 0;
        const std::string_view mark = is_good ? "**" : "";
        fmt::format_to(put, " {}{:.4g}{} |", mark,
                       comparison.arms[a].Of(table.number).mean * table.scale, mark);
      }
      out += '\n';
    }
    out += '\n';
  }
  fmt::format_to(put, "### How often best or within noise of the best, of {} workloads\n\n{}\n{}\n",
                 comparisons.size(), "| number |" + head.substr(head.find('|', 1) + 1), rule);
  for (size_t t = 0; t < std::size(kTables); ++t) {
    fmt::format_to(put, "| {} |", kTables[t].title);
    for (const size_t count : good[t]) fmt::format_to(put, " {} |", count);
    out += '\n';
  }
  return out;
}

Result<std::string> ReplaceNumbers(std::string_view page, std::string_view numbers) {
  const size_t begin = page.find(kNumbersBegin);
  const size_t end = page.find(kNumbersEnd);
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) {
    return Fail(Code::kInvalidArgument, fmt::format("the page has no line '{}' before one '{}'",
                                                    kNumbersBegin, kNumbersEnd));
  }
  std::string out(page.substr(0, begin + kNumbersBegin.size()));
  return out.append("\n\n").append(numbers).append("\n").append(page.substr(end));
}

}  // namespace penstock::lab
