// Small tables as CSV: a header that names the columns, then rows; cells without quotes. Empty
// lines and those that begin with "#" are for people.
//
// THREADS: pure functions.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace penstock {

// The text between the commas of a line; an empty line is one empty cell.
std::vector<std::string_view> SplitCells(std::string_view line);

// The cells that were asked for, in the order in which they were.
class CsvRow {
 public:
  CsvRow(std::span<const std::string_view> names, std::span<const std::string_view> cells)
      : names_(names), cells_(cells) {}
  std::string_view Text(size_t column) const { return cells_[column]; }
  // kInvalidArgument names the column and what stands there instead of a number from 0 on.
  Result<double> Number(size_t column) const;

 private:
  std::span<const std::string_view> names_, cells_;
};

// Calls `use` for each row, until it fails. The columns may stand in any order and among others.
// Complaints, those of `use` too, as FILE:LINE: no header, a column that is missing, a row with
// more or fewer cells than the header.
Result<> ReadCsv(std::string_view csv, std::string_view file,
                 std::initializer_list<std::string_view> columns,
                 const std::function<Result<>(const CsvRow&)>& use);

}  // namespace penstock
