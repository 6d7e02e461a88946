#include "lab/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <string_view>

#include "core/text.h"

namespace penstock::lab {
namespace {

// Distinct for people who do not see all colours (Okabe and Ito).
constexpr std::array<std::string_view, 8> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#000000", "#999999"};
constexpr double kLeft = 64, kRight = 16, kTop = 34, kBottom = 62;
constexpr size_t kMaxPoints = 1000;  // of a line

// 1, 2 or 5 times a power of ten, for about `wanted` steps.
double RoundStep(double range, int wanted) {
  const double raw = range / wanted;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  std::vector<double> ticks;
  double At(double value) const {  // 0..1
    return is_log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }
};

// `is_tight`: the axis ends where the numbers do, not at a round one.
Axis MakeAxis(double low, double high, bool is_log, bool is_tight) {
  Axis axis{.low = low, .high = high, .is_log = is_log};
  if (is_log) {
    axis.low = std::pow(10, std::floor(std::log10(low)));
    axis.high = std::pow(10, std::ceil(std::log10(high)));
    if (axis.high <= axis.low) axis.high = 10 * axis.low;
    for (double tick = axis.low; tick <= axis.high * 1.001; tick *= 10) axis.ticks.push_back(tick);
    return axis;
  }
  axis.low = std::min(0.0, low);
  if (high <= axis.low) high = axis.low + 1;
  const double step = RoundStep(high - axis.low, 5);
  axis.high = is_tight ? high : std::ceil(high / step - 1e-9) * step;
  for (int i = 0; axis.low + i * step <= axis.high * (1 + 1e-9); ++i) {
    axis.ticks.push_back(axis.low + i * step);
  }
  return axis;
}

}  // namespace

std::string RenderSvg(const Chart& chart) {
  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low;
  double y_low = x_low, y_high = -x_low;
  for (const ChartSeries& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      if (chart.has_log_y && y <= 0) continue;
      x_low = std::min(x_low, x);
      x_high = std::max(x_high, x);
      y_low = std::min(y_low, y);
      y_high = std::max(y_high, y);
    }
  }
  if (x_low > x_high) x_low = 0, x_high = 1, y_low = chart.has_log_y ? 1 : 0, y_high = 1;
  const Axis xs = MakeAxis(x_low, x_high, false, true);
  const Axis ys = MakeAxis(y_low, y_high, chart.has_log_y, false);
  const double inner_width = chart.width - kLeft - kRight;
  const double inner_height = chart.height - kTop - kBottom;
  const auto px = [&](double x) { return kLeft + xs.At(x) * inner_width; };
  const auto py = [&](double y) { return kTop + (1 - ys.At(y)) * inner_height; };

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n"
      "<text x=\"{2}\" y=\"20\" font-size=\"14\" font-weight=\"600\">{3}</text>\n",
      chart.width, chart.height, kLeft, MarkupEscaped(chart.title));
  const auto put = std::back_inserter(out);
  for (const double tick : ys.ticks) {
    fmt::format_to(put,
                   "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" "
                   "stroke=\"#ddd\"/><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\" "
                   "fill=\"#444\">{:.6g}</text>\n",
                   kLeft, chart.width - kRight, py(tick), py(tick), kLeft - 6, py(tick) + 4, tick);
  }
  for (const double tick : xs.ticks) {
    fmt::format_to(put,
                   "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" "
                   "fill=\"#444\">{:.6g}</text>\n",
                   px(tick), chart.height - kBottom + 16, tick);
  }
  fmt::format_to(put,
                 "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" fill=\"#444\">{}</text>\n"
                 "<text transform=\"translate(14 {:.1f}) rotate(-90)\" text-anchor=\"middle\" "
                 "fill=\"#444\">{}</text>\n",
                 kLeft + inner_width / 2, chart.height - kBottom + 32, MarkupEscaped(chart.x_label),
                 kTop + inner_height / 2, MarkupEscaped(chart.y_label));
  double legend_x = kLeft;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const ChartSeries& series = chart.series[i];
    const std::string_view colour = kColours[i % kColours.size()];
    const std::string_view dash = series.is_dashed ? " stroke-dasharray=\"5 4\"" : "";
    fmt::format_to(put, "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"{} points=\"",
                   colour, dash);
    const size_t stride = series.points.size() / kMaxPoints + 1;
    for (size_t k = 0; k < series.points.size(); k += stride) {
      const auto& [x, y] = series.points[k];
      if (chart.has_log_y && y <= 0) continue;
      fmt::format_to(put, "{:.1f},{:.1f} ", px(x), py(y));
    }
    const double legend_y = chart.height - 12;
    fmt::format_to(put,
                   "\"/>\n<line x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" "
                   "stroke=\"{3}\" stroke-width=\"2.5\"{4}/><text x=\"{5:.1f}\" "
                   "y=\"{6:.1f}\">{7}</text>\n",
                   legend_x, legend_x + 22, legend_y - 4, colour, dash, legend_x + 27, legend_y,
                   MarkupEscaped(series.name));
    legend_x += 44 + 6.6 * static_cast<double>(series.name.size());
  }
  return out + "</svg>\n";
}

std::string RenderSvg(const BarChart& chart) {
  constexpr double kNames = 130, kLabels = 110, kRow = 22, kHead = 30;
  const double height = kHead + kRow * static_cast<double>(chart.bars.size()) + 6;
  double most = 0;
  for (const BarChart::Bar& bar : chart.bars) most = std::max(most, bar.value + bar.half_width);
  const double scale = most > 0 ? (chart.width - kNames - kLabels) / most : 0;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n"
      "<text x=\"4\" y=\"18\" font-size=\"14\" font-weight=\"600\">{2}</text>\n",
      chart.width, height, MarkupEscaped(chart.title));
  double y = kHead;
  for (const BarChart::Bar& bar : chart.bars) {
    const double middle = y + kRow / 2;
    const double end = kNames + bar.value * scale;
    fmt::format_to(std::back_inserter(out),
                   "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>"
                   "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
                   "fill=\"{}\"/>",
                   kNames - 6, middle + 4, MarkupEscaped(bar.name), kNames, y + 3,
                   std::max(0.0, bar.value * scale), kRow - 6,
                   bar.is_highlighted ? "#009e73" : "#8fb8d6");
    if (bar.half_width > 0) {
      fmt::format_to(std::back_inserter(out),
                     "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" "
                     "stroke=\"#222\" stroke-width=\"1.5\"/>",
                     std::max(kNames, end - bar.half_width * scale), end + bar.half_width * scale,
                     middle, middle);
    }
    fmt::format_to(std::back_inserter(out),
                   "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"#444\">{}</text>\n",
                   end + bar.half_width * scale + 5, middle + 4, MarkupEscaped(bar.label));
    y += kRow;
  }
  return out + "</svg>\n";
}

}  // namespace penstock::lab
