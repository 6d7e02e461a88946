// Times that were measured of a model's kernels on an accelerator, interpolated: what a step takes
// on the device. Where a profile has such a table it needs no coefficients for matrix products and
// attention; StepCosts adds what the table does not hold (collectives, the host).
//
// A table is CSV with the header "kind,a,b,c,us" and lines beginning with "#" for people; every
// time is of the whole model, all layers:
//   dense         a: tokens in the step                        all that goes by tokens
//   per_sequence  a: sequences                                 head and sampler
//   decode        a: decodes, b: mean context                  attention of a step without a chunk
//   prefill       a: tokens of the chunk, b: history           attention of a chunk alone
//   mixed         a: decodes, b: mean context, c: chunk        what decodes add to a chunk's step
// `penstock lab kernels` makes one from tables of single kernels.
//
// Between points it is linear; beyond the last, the slope of the upper half goes on (a chunk beyond
// the largest is taken as several in a row). Several chunks of a step count as one of the length
// sqrt(sum of squares) behind their mean history.
//
// THREADS: const from any thread. COST: Seconds about 150 ns; 40 KB for a table of 2,000 lines.
// SOURCE: the form is LLMServingSim's and Vidur's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "engine/step_time.h"

namespace penstock::engine {

// y over rising x.
class TimeCurve {
 public:
  // REQUIRES: x above the last one.
  void Append(double x, double y);
  bool empty() const { return xs_.empty(); }
  double last() const { return xs_.back(); }
  size_t size() const { return xs_.size(); }
  double At(double x) const;

 private:
  std::vector<double> xs_, ys_;
};

class KernelTimes {
 public:
  // Complaints as FILE:LINE. Lines of a kind must stand together, rising in a, then b, then c.
  static Result<std::shared_ptr<const KernelTimes>> Parse(std::string_view csv,
                                                          std::string_view file_name);
  // One step on the device.
  double Seconds(const StepLoad& load) const;

 private:
  // Curves over b for rising a, and so on.
  struct Grid {
    std::vector<double> as;
    std::vector<TimeCurve> rows;
    double At(double a, double b) const;
  };
  struct Cube {
    std::vector<double> as;
    std::vector<Grid> rows;
    double At(double a, double b, double c) const;
  };
  Result<> Add(std::string_view kind, double a, double b, double c, double us);
  Result<> Check() const;
  double PrefillMicros(double chunk, double history) const;

  TimeCurve dense_, per_sequence_;
  Grid decode_, prefill_;
  Cube mixed_;
};

}  // namespace penstock::engine
