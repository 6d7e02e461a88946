// Charts as SVG, for reports: lines with axes of round numbers and a legend, and bars.
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

// Horizontal bars from zero, with whiskers.
struct BarChart {
  struct Bar {
    std::string name;
    double value = 0;
    double half_width = 0;  // of the whisker; 0: none
    std::string label;      // beside the bar
    bool is_highlighted = false;
  };
  std::string title;
  std::vector<Bar> bars;
  double width = 400;
};

std::string RenderSvg(const BarChart& chart);

}  // namespace penstock::lab
