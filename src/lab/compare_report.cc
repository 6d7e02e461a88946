// A comparison as a table, as JSON and as a page.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <iterator>
#include <string>

#include "core/text.h"
#include "lab/compare.h"
#include "lab/svg_chart.h"

namespace penstock::lab {
namespace {

struct Column {
  std::string_view number, title;
  double scale;
  int digits;
};
constexpr Column kColumns[] = {
    {"ttft_mean_s", "TTFT mean ms", 1e3, 0}, {"ttft_p50_s", "TTFT p50 ms", 1e3, 0},
    {"ttft_p90_s", "TTFT p90 ms", 1e3, 0},   {"ttft_p99_s", "TTFT p99 ms", 1e3, 0},
    {"tpot_mean_ms", "TPOT mean ms", 1, 1},  {"tpot_p90_ms", "TPOT p90 ms", 1, 1},
    {"e2e_mean_s", "E2E mean s", 1, 2},      {"e2e_p90_s", "E2E p90 s", 1, 2},
    {"e2e_p99_s", "E2E p99 s", 1, 2},        {"output_tokens_per_s", "tokens/s", 1, 0},
    {"goodput_share", "goodput %", 100, 1},  {"hit_share", "cache hits %", 100, 1},
    {"fairness_index", "fairness", 1, 3},    {"lost_requests", "lost", 1, 0},
    {"accelerator_s", "GPU-seconds", 1, 0},
};

std::string Text(const Column& column, const Estimate& estimate) {
  std::string text = fmt::format("{:.{}f}", estimate.mean * column.scale, column.digits);
  if (estimate.half_width > 0) {
    text += fmt::format(" \u00b1{:.{}f}", estimate.half_width * column.scale, column.digits);
  }
  return text;
}

// Best, or not to be told from the best.
bool IsGood(const Comparison& comparison, size_t arm, std::string_view number) {
  const size_t best = BestArm(comparison, number);
  return arm == best ||
         Judge(comparison.arms[arm], comparison.arms[best], number) == Verdict::kNoise;
}

// Columns of a line in a terminal; a UTF-8 sequence is one.
size_t Width(std::string_view text) {
  size_t width = 0;
  for (const char c : text) width += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return width;
}

}  // namespace

std::string RenderTable(const Comparison& comparison) {
  std::vector<std::vector<std::string>> rows(1);
  rows[0].emplace_back("policy");
  for (const Column& column : kColumns) rows[0].emplace_back(column.title);
  for (size_t a = 0; a < comparison.arms.size(); ++a) {
    std::vector<std::string>& row = rows.emplace_back();
    row.push_back(comparison.arms[a].name);
    for (const Column& column : kColumns) {
      const bool is_good = IsGood(comparison, a, column.number);
      row.push_back((is_good ? "*" : "") + Text(column, comparison.arms[a].Of(column.number)));
    }
  }
  std::string out = fmt::format("{} on {}, {} seeds; * best or within noise of the best\n\n",
                                comparison.workload, comparison.fleet, comparison.seeds);
  // One line for each number: policies are few, numbers many.
  for (size_t k = 0; k < rows[0].size(); ++k) {
    for (size_t r = 0; r < rows.size(); ++r) {
      size_t width = 0;
      for (const std::string& cell : rows[r]) width = std::max(width, Width(cell));
      const std::string& cell = rows[r][k];
      const std::string space(width - Width(cell), ' ');
      out += r == 0 ? cell + space : "  " + space + cell;
    }
    out += '\n';
  }
  return out;
}

std::string RenderJson(const Comparison& comparison) {
  boost::json::array arms;
  for (const ArmResult& arm : comparison.arms) {
    boost::json::object numbers;
    for (const auto& [name, estimate] : arm.numbers) {
      numbers[name] = {{"mean", estimate.mean},
                       {"ci95", estimate.half_width},
                       {"runs", boost::json::array(estimate.runs.begin(), estimate.runs.end())}};
    }
    boost::json::array digests;
    for (const uint64_t digest : arm.digests) digests.emplace_back(fmt::format("{:016x}", digest));
    arms.push_back({{"name", arm.name}, {"numbers", numbers}, {"digests", digests}});
  }
  return boost::json::serialize(boost::json::object{{"workload", comparison.workload},
                                                    {"fleet", comparison.fleet},
                                                    {"seeds", comparison.seeds},
                                                    {"arms", arms}}) +
         "\n";
}

std::string RenderHtml(const Comparison& comparison, std::string_view command) {
  std::string out = fmt::format(
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>{0}</title><style>"
      "body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem;"
      "color:#1b1f24}}h1{{font-size:1.5rem}}table{{border-collapse:collapse;font-size:13px;"
      "font-variant-numeric:tabular-nums}}th,td{{padding:.35rem .6rem;text-align:right;"
      "border-bottom:1px solid "
      "#ddd;white-space:nowrap}}th:first-child,td:first-child{{text-align:left;position:"
      "sticky;left:0;background:#fff}}td.good{{background:#e3f4e8;font-weight:600}}"
      ".scroll{{overflow-x:auto}}.charts{{display:flex;flex-wrap:wrap;gap:1.5rem;margin-top:1.5rem}"
      "}"
      "code{{background:#f3f4f6;padding:.1rem .3rem}}</style>\n"
      "<h1>{0}</h1><p>{1}, {2} seeds. Means with 95 % confidence intervals; green: best, or not to "
      "be told from the best over the same seeds.</p>\n<div class=\"scroll\"><table><tr><th>policy",
      MarkupEscaped(comparison.workload), MarkupEscaped(comparison.fleet), comparison.seeds);
  for (const Column& column : kColumns) out += fmt::format("<th>{}", column.title);
  out += '\n';
  for (size_t a = 0; a < comparison.arms.size(); ++a) {
    out += fmt::format("<tr><td>{}", MarkupEscaped(comparison.arms[a].name));
    for (const Column& column : kColumns) {
      out += fmt::format("<td{}>{}", IsGood(comparison, a, column.number) ? " class=\"good\"" : "",
                         Text(column, comparison.arms[a].Of(column.number)));
    }
    out += '\n';
  }
  out += "</table></div>\n<div class=\"charts\">\n";
  for (const Column& column : kColumns) {
    BarChart chart{.title = std::string(column.title), .bars = {}};
    for (size_t a = 0; a < comparison.arms.size(); ++a) {
      const Estimate& estimate = comparison.arms[a].Of(column.number);
      chart.bars.push_back({comparison.arms[a].name, estimate.mean * column.scale,
                            estimate.half_width * column.scale, Text(column, estimate),
                            IsGood(comparison, a, column.number)});
    }
    out += RenderSvg(chart);
  }
  out += fmt::format("</div>\n<p>Made by <code>{}</code>.</p></html>\n", MarkupEscaped(command));
  return out;
}

}  // namespace penstock::lab
