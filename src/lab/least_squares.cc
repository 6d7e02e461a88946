#include "lab/least_squares.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

namespace penstock::lab {
namespace {

using Row = std::vector<double>;

// The normal equations; the last element of a row is the right side.
std::vector<Row> NormalEquations(std::span<const Row> rows, std::span<const double> wanted) {
  const size_t n = rows.front().size();
  std::vector<Row> a(n, Row(n + 1, 0.0));
  for (size_t k = 0; k < rows.size(); ++k) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) a[i][j] += rows[k][i] * rows[k][j];
      a[i][n] += rows[k][i] * wanted[k];
    }
  }
  return a;
}

// Solves them for the columns in `mask`; empty when they do not tell them apart.
Row Solve(std::vector<Row> a, unsigned mask) {
  const size_t n = a.size();
  for (size_t i = 0; i < n; ++i) {
    if ((mask >> i & 1) != 0) continue;
    std::fill(a[i].begin(), a[i].end(), 0.0);
    for (Row& row : a) row[i] = 0;
    a[i][i] = 1;  // the cost is 0
  }
  Row scale(n);
  for (size_t i = 0; i < n; ++i) scale[i] = std::sqrt(a[i][i]);
  for (size_t i = 0; i < n; ++i) {
    if (scale[i] == 0) return {};
    for (size_t j = 0; j < n; ++j) a[i][j] /= scale[i] * scale[j];
    a[i][n] /= scale[i];
  }
  for (size_t i = 0; i < n; ++i) {
    size_t pivot = i;
    for (size_t k = i + 1; k < n; ++k) {
      pivot = std::fabs(a[k][i]) > std::fabs(a[pivot][i]) ? k : pivot;
    }
    if (std::fabs(a[pivot][i]) < 1e-10) return {};
    std::swap(a[i], a[pivot]);
    for (size_t k = 0; k < n; ++k) {
      if (k == i) continue;
      const double factor = a[k][i] / a[i][i];
      for (size_t j = i; j <= n; ++j) a[k][j] -= factor * a[i][j];
    }
  }
  Row costs(n);
  for (size_t i = 0; i < n; ++i) costs[i] = a[i][n] / a[i][i] / scale[i];
  return costs;
}

}  // namespace

PositiveFit FitPositive(std::span<const Row> rows, std::span<const double> wanted) {
  PositiveFit best;
  if (rows.empty()) return best;
  const std::vector<Row> equations = NormalEquations(rows, wanted);
  for (unsigned mask = 1; mask < 1U << equations.size(); ++mask) {
    Row costs = Solve(equations, mask);
    if (costs.empty() || *std::min_element(costs.begin(), costs.end()) < 0) continue;
    double squares = 0;
    for (size_t k = 0; k < rows.size(); ++k) {
      double off = -wanted[k];
      for (size_t i = 0; i < costs.size(); ++i) off += rows[k][i] * costs[i];
      squares += off * off;
    }
    if (best.costs.empty() || squares < best.squares) best = {std::move(costs), squares};
  }
  return best;
}

}  // namespace penstock::lab
