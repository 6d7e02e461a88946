// What a replay came to, as numbers that policies are compared by.
//
// THREADS: none of its own. COST: Add about 10 ns; 150 KB.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lab/replay.h"
#include "lab/sketch.h"

namespace penstock::lab {

// Latencies that a served request must stay below to count as good; 0: none. A job's own SLO goes
// before.
struct Slo {
  double ttft_s = 0;
  double tpot_s = 0;
};

class Summary {
 public:
  explicit Summary(Slo slo = {}) : slo_(slo) {}

  void Add(const Outcome& outcome);
  void Close(const ReplayTotals& totals) { totals_ = totals; }

  uint64_t requests() const { return requests_; }
  uint64_t lost() const { return requests_ - ttft_.count(); }  // refused or broken off
  const Sketch& ttft() const { return ttft_; }                 // UNITS: seconds, as all of them
  const Sketch& tpot() const { return tpot_; }                 // of two output tokens and more
  const Sketch& e2e() const { return e2e_; }
  const ReplayTotals& totals() const { return totals_; }
  double tokens_per_s() const;    // generated, to the last answer
  double requests_per_s() const;  // served
  double hit_rate() const;        // share of prompt tokens that engines had cached
  double goodput() const;         // share of all requests that were served within their SLOs
  // Jain's index over the mean E2E of fairness ids, else of groups: 1 is even.
  double fairness() const;

  // Every number that is compared, by name, in the order of a report. Names end in their unit.
  std::vector<std::pair<std::string, double>> Numbers() const;

 private:
  struct Share {
    double sum = 0;
    uint64_t count = 0;
  };

  const Slo slo_;
  uint64_t requests_ = 0;
  uint64_t good_ = 0;
  uint64_t prompt_tokens_ = 0, cached_tokens_ = 0, output_tokens_ = 0;
  Sketch ttft_, tpot_, e2e_;
  std::map<std::string, Share, std::less<>> flows_;  // at most kMaxFlows
  ReplayTotals totals_;
};

// Whether more of the number is better.
bool IsBetterHigher(std::string_view number);

}  // namespace penstock::lab
