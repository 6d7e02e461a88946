// Linear least squares without negative coefficients.
//
// THREADS: pure functions. COST: 2^columns small solutions; for a handful of columns.
#pragma once

#include <span>
#include <vector>

namespace penstock::lab {

struct PositiveFit {
  std::vector<double> costs;  // of each column, 0 at least; empty when the rows do not tell them
  double squares = 0;         // sum of the squared errors
};

// The costs for which the sums over each row come nearest to `wanted`. REQUIRES: rows of one length
// and as many as `wanted`. Every choice of columns is tried.
PositiveFit FitPositive(std::span<const std::vector<double>> rows, std::span<const double> wanted);

}  // namespace penstock::lab
