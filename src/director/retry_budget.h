// Limits retries to a share of the traffic, so that a failing fleet is not finished off by them.
// A bucket: each request puts in `ratio`, each retry takes one; it starts full, so that a quiet
// gateway can still retry what one lost engine had in hand.
//
// THREADS: any; one relaxed atomic per call.
#pragma once

#include <atomic>
#include <cstdint>

namespace penstock::director {

class RetryBudget {
 public:
  // `reserve`: retries that may be saved up (and the start value).
  explicit RetryBudget(double ratio, double reserve = 200)
      : deposit_(static_cast<int64_t>(ratio * kUnit)),
        cap_(static_cast<int64_t>(reserve * kUnit)),
        balance_(ratio > 0 ? cap_ : 0) {}

  void OnRequest() {
    int64_t now = balance_.load(std::memory_order_relaxed);
    while (now < cap_ &&
           !balance_.compare_exchange_weak(now, now + deposit_ > cap_ ? cap_ : now + deposit_,
                                           std::memory_order_relaxed)) {
    }
  }

  bool TryTake() {
    int64_t now = balance_.load(std::memory_order_relaxed);
    while (now >= kUnit) {
      if (balance_.compare_exchange_weak(now, now - kUnit, std::memory_order_relaxed)) return true;
    }
    return false;
  }

 private:
  static constexpr int64_t kUnit = 1000;
  const int64_t deposit_;
  const int64_t cap_;
  std::atomic<int64_t> balance_;
};

}  // namespace penstock::director
