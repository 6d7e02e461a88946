#include "engine/kernel_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/csv.h"
#include "core/text.h"

namespace penstock::engine {
namespace {

// Linear between the curves, grids or numbers at neighbours of a; `at(i)` gives the value at as[i].
template <class At>
double Between(const std::vector<double>& as, double a, const At& at) {
  const auto above = std::lower_bound(as.begin(), as.end(), a);
  size_t high = static_cast<size_t>(above - as.begin());
  if (high == 0) return at(0);
  if (high < as.size() && as[high] == a) return at(high);
  size_t low = high - 1;
  if (high == as.size()) {
    high = as.size() - 1;
    low = static_cast<size_t>(std::lower_bound(as.begin(), as.end(), as[high] / 2) - as.begin());
    if (low == high) {
      if (high == 0) return at(0);
      low = high - 1;
    }
  }
  const double y0 = at(low);
  const double y1 = at(high);
  return std::max(0.0, y0 + (y1 - y0) * (a - as[low]) / (as[high] - as[low]));
}

}  // namespace

void TimeCurve::Append(double x, double y) {
  xs_.push_back(x);
  ys_.push_back(y);
}

double TimeCurve::At(double x) const {
  return Between(xs_, x, [this](size_t i) { return ys_[i]; });
}

double KernelTimes::Grid::At(double a, double b) const {
  return Between(as, a, [&](size_t i) { return rows[i].At(b); });
}

double KernelTimes::Cube::At(double a, double b, double c) const {
  return Between(as, a, [&](size_t i) { return rows[i].At(b, c); });
}

double KernelTimes::PrefillMicros(double chunk, double history) const {
  double micros = 0;
  const double largest = prefill_.as.back();
  for (; chunk > largest; chunk -= largest, history += largest) {
    micros += prefill_.At(largest, history);
  }
  return micros + prefill_.At(chunk, history);
}

double KernelTimes::Seconds(const StepLoad& load) const {
  double micros = dense_.At(static_cast<double>(load.new_tokens)) +
                  per_sequence_.At(static_cast<double>(load.sequences));
  const uint32_t decodes = load.sequences - load.prefill_chunks;
  const double context =
      decodes == 0 ? 0
                   : static_cast<double>(load.decode_context_tokens) / static_cast<double>(decodes);
  if (load.prefill_chunks == 0) {
    if (decodes > 0) micros += decode_.At(decodes, context);
    return micros * 1e-6;
  }
  const double chunk = std::sqrt(load.prefill_squares);
  const double history = (load.prefill_pairs - load.prefill_squares / 2) / load.prefill_tokens;
  micros += PrefillMicros(chunk, history);
  if (decodes > 0) micros += mixed_.At(decodes, context, chunk);
  return micros * 1e-6;
}

Result<> KernelTimes::Add(std::string_view kind, double a, double b, double c, double us) {
  const auto falls = [](const std::vector<double>& xs, double x) {
    return !xs.empty() && x < xs.back();
  };
  const auto append = [](TimeCurve& curve, double x, double y) {
    if (!curve.empty() && x <= curve.last()) return false;
    curve.Append(x, y);
    return true;
  };
  const auto append_to_grid = [&](Grid& grid, double x, double y, double value) {
    if (falls(grid.as, x)) return false;
    if (grid.as.empty() || x > grid.as.back()) {
      grid.as.push_back(x);
      grid.rows.emplace_back();
    }
    return append(grid.rows.back(), y, value);
  };
  bool rises = true;
  if (kind == "dense") {
    rises = append(dense_, a, us);
  } else if (kind == "per_sequence") {
    rises = append(per_sequence_, a, us);
  } else if (kind == "decode") {
    rises = append_to_grid(decode_, a, b, us);
  } else if (kind == "prefill") {
    rises = append_to_grid(prefill_, a, b, us);
  } else if (kind == "mixed") {
    rises = !falls(mixed_.as, a);
    if (rises && (mixed_.as.empty() || a > mixed_.as.back())) {
      mixed_.as.push_back(a);
      mixed_.rows.emplace_back();
    }
    rises = rises && append_to_grid(mixed_.rows.back(), b, c, us);
  } else {
    constexpr std::array<std::string_view, 5> kKinds = {"dense", "per_sequence", "decode",
                                                        "prefill", "mixed"};
    return Fail(Code::kInvalidArgument,
                fmt::format("unknown kind '{}'{}", kind, DidYouMean(kind, kKinds)));
  }
  if (!rises) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: points must rise in a, then b, then c, without repeats", kind));
  }
  return {};
}

Result<> KernelTimes::Check() const {
  for (const auto& [name, is_empty] :
       {std::pair{"dense", dense_.empty()}, std::pair{"per_sequence", per_sequence_.empty()},
        std::pair{"decode", decode_.rows.empty()}, std::pair{"prefill", prefill_.rows.empty()},
        std::pair{"mixed", mixed_.rows.empty()}}) {
    if (is_empty) {
      return Fail(Code::kInvalidArgument, fmt::format("there is no line of the kind '{}'", name));
    }
  }
  return {};
}

Result<std::shared_ptr<const KernelTimes>> KernelTimes::Parse(std::string_view csv,
                                                              std::string_view file_name) {
  auto times = std::make_shared<KernelTimes>();
  auto read =
      ReadCsv(csv, file_name, {"kind", "a", "b", "c", "us"}, [&](const CsvRow& row) -> Result<> {
        std::array<double, 4> values{};
        for (size_t i = 0; i < values.size(); ++i) {
          if (row.Text(i + 1).empty() && (i == 1 || i == 2)) continue;  // of kinds without b and c
          const auto value = row.Number(i + 1);
          if (!value) return std::unexpected(value.error());
          values[i] = *value;
        }
        return times->Add(row.Text(0), values[0], values[1], values[2], values[3]);
      });
  if (!read) return std::unexpected(read.error());
  if (auto whole = times->Check(); !whole) {
    return Fail(whole.error().code, fmt::format("{}: {}", file_name, whole.error().message));
  }
  return times;
}

}  // namespace penstock::engine
