// Line charts as SVG, for reports: axes with round numbers, a legend, up to eight series.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace penstock::lab {

struct ChartSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // rising in x
  bool is_dashed = false;
};

struct Chart {
  std::string title;
  std::string x_label, y_label;
  std::vector<ChartSeries> series;
  double width = 640, height = 280;
  bool has_log_y = false;  // numbers that are not positive are left out then
};

// A whole <svg> element, light background, readable without a style sheet.
std::string RenderSvg(const Chart& chart);

}  // namespace penstock::lab
