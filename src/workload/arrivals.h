// When the requests of an open-loop stage come: rate times duration of them, evenly or at random,
// along a rate that may rise or fall in a straight line and come in bursts.
//
// Random arrivals are a Poisson process under the condition that it has that many arrivals, so that
// every seed and every policy gets the same number of requests, as with inference-perf.
//
// THREADS: belongs to its caller. COST: 50 ns an arrival at a steady rate.
#pragma once

#include <cstdint>
#include <optional>

#include "core/random.h"
#include "core/time.h"
#include "workload/workload_file.h"

namespace penstock::workload {

enum class ArrivalKind : uint8_t { kConstant, kPoisson };

class Arrivals {
 public:
  // REQUIRES: a stage with rate and duration, bursts that ParseWorkload let through.
  Arrivals(const Stage& stage, const std::optional<Bursts>& bursts, double rate_scale,
           ArrivalKind kind, uint64_t seed);
  // How many there are in all.
  uint64_t count() const { return count_; }
  Duration duration() const { return FromSeconds(duration_s_); }
  // The next one since the stage's start, not before the one before; nothing after the last.
  std::optional<Duration> Next();

 private:
  // A stretch of time on which the rate is a straight line.
  struct Piece {
    double end_s;
    double rate;   // at its start
    double slope;  // per second
    double Area(double seconds) const { return (rate + slope * seconds / 2) * seconds; }
  };
  Piece PieceAt(double start_s, uint64_t index) const;
  double TotalArea() const;

  double duration_s_;
  double rate_;
  double slope_;
  double period_s_ = 0;  // 0: no bursts
  double on_s_ = 0;
  double on_factor_ = 1;
  double off_factor_ = 1;
  ArrivalKind kind_;
  Random random_;

  double total_area_ = 0;  // expected arrivals
  uint64_t count_ = 0;
  uint64_t given_ = 0;
  double rest_ = 1;  // share of the area after the last random arrival

  uint64_t piece_index_ = 0;
  double piece_start_s_ = 0;
  double piece_area_ = 0;  // before the piece
  Piece piece_{};
};

}  // namespace penstock::workload
