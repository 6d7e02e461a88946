#include "workload/arrivals.h"

#include <algorithm>
#include <cmath>

#include "core/exact_math.h"
#include "workload/seeds.h"

namespace penstock::workload {

Arrivals::Arrivals(const Stage& stage, const std::optional<Bursts>& bursts, double rate_scale,
                   ArrivalKind kind, uint64_t seed)
    : duration_s_(ToSeconds(*stage.duration)),
      rate_(*stage.rate * rate_scale),
      slope_((stage.rate_to.value_or(*stage.rate) - *stage.rate) * rate_scale / duration_s_),
      kind_(kind),
      random_(seed) {
  if (bursts) {
    period_s_ = ToSeconds(bursts->period);
    on_s_ = ToSeconds(bursts->on);
    on_factor_ = bursts->factor;
    off_factor_ = std::max(0.0, (period_s_ - on_s_ * on_factor_) / (period_s_ - on_s_));
  }
  total_area_ = TotalArea();
  count_ = static_cast<uint64_t>(total_area_ + 0.5);
  piece_ = PieceAt(0, 0);
}

// The even pieces are bursts, the odd ones what is between them.
Arrivals::Piece Arrivals::PieceAt(double start_s, uint64_t index) const {
  double end_s = duration_s_;
  double factor = 1;
  if (period_s_ > 0) {
    const double periods = static_cast<double>(index / 2);
    const bool is_on = index % 2 == 0;
    end_s = is_on ? periods * period_s_ + on_s_ : (periods + 1) * period_s_;
    end_s = std::min(end_s, duration_s_);
    factor = is_on ? on_factor_ : off_factor_;
  }
  return {end_s, (rate_ + slope_ * start_s) * factor, slope_ * factor};
}

double Arrivals::TotalArea() const {
  double area = 0;
  double start_s = 0;
  for (uint64_t index = 0; start_s < duration_s_; ++index) {
    const Piece piece = PieceAt(start_s, index);
    area += piece.Area(piece.end_s - start_s);
    start_s = piece.end_s;
  }
  return area;
}

std::optional<Duration> Arrivals::Next() {
  if (given_ == count_) return std::nullopt;
  double area = 0;  // expected arrivals before this one
  if (kind_ == ArrivalKind::kConstant) {
    area = total_area_ * static_cast<double>(given_) / static_cast<double>(count_);
  } else {
    // The least of the n that are left is spread like 1 - U^(1/n) over what is left.
    rest_ *= ExactPow(OpenUniform(random_), 1 / static_cast<double>(count_ - given_));
    area = total_area_ * (1 - rest_);
  }
  ++given_;
  double piece_area = piece_.Area(piece_.end_s - piece_start_s_);
  while (piece_.end_s < duration_s_ && piece_area_ + piece_area <= area) {
    piece_area_ += piece_area;
    piece_start_s_ = piece_.end_s;
    piece_ = PieceAt(piece_start_s_, ++piece_index_);
    piece_area = piece_.Area(piece_.end_s - piece_start_s_);
  }
  // Solves rate x + slope x^2 / 2 = left, in the form that does not cancel.
  const double left = std::max(0.0, area - piece_area_);
  const double root = std::sqrt(std::max(0.0, piece_.rate * piece_.rate + 2 * piece_.slope * left));
  const double x = left == 0 ? 0 : 2 * left / (piece_.rate + root);
  return FromSeconds(std::clamp(piece_start_s_ + x, piece_start_s_, piece_.end_s));
}

}  // namespace penstock::workload
