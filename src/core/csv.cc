#include "core/csv.h"

#include <algorithm>

#include "core/text.h"

namespace penstock {

std::vector<std::string_view> SplitCells(std::string_view line) {
  std::vector<std::string_view> cells;
  for (;;) {
    const size_t comma = line.find(',');
    cells.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

Result<double> CsvRow::Number(size_t column) const {
  const auto value = ParseDouble(cells_[column]);
  if (value && *value >= 0) return *value;
  return Fail(Code::kInvalidArgument, std::string(names_[column]) + ": '" +
                                          std::string(Utf8Prefix(cells_[column], 40)) +
                                          "' is no number from 0 on");
}

Result<> ReadCsv(std::string_view csv, std::string_view file,
                 std::initializer_list<std::string_view> columns,
                 const std::function<Result<>(const CsvRow&)>& use) {
  size_t number = 0, width = 0;
  const auto complain = [&](const std::string& what) {
    return Fail(Code::kInvalidArgument,
                std::string(file) + ":" + std::to_string(number) + ": " + what);
  };
  std::vector<size_t> places;
  std::vector<std::string_view> wanted;
  while (!csv.empty()) {
    std::string_view line = csv.substr(0, csv.find('\n'));
    csv.remove_prefix(std::min(csv.size(), line.size() + 1));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    const std::vector<std::string_view> cells = SplitCells(line);
    if (width == 0) {
      width = cells.size();
      for (const std::string_view column : columns) {
        const auto found = std::find(cells.begin(), cells.end(), column);
        if (found == cells.end()) return complain("no column '" + std::string(column) + "'");
        places.push_back(static_cast<size_t>(found - cells.begin()));
      }
      continue;
    }
    if (cells.size() != width) {
      return complain(std::to_string(cells.size()) + " cells, not " + std::to_string(width));
    }
    wanted.clear();
    for (const size_t place : places) wanted.push_back(cells[place]);
    if (auto used = use(CsvRow({columns.begin(), columns.size()}, wanted)); !used) {
      return complain(used.error().message);
    }
  }
  if (width == 0) return Fail(Code::kInvalidArgument, std::string(file) + ": no header");
  return {};
}

}  // namespace penstock
