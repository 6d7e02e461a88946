// What KV blocks travel over: from host memory, or from another engine. Transfers of one direction
// share the link first come, first served: each has the whole bandwidth from when those before it
// are through. The latency is every transfer's own and keeps nobody waiting.
//
// THREADS: none of its own; one owner.
#pragma once

#include <algorithm>
#include <cstdint>

#include "config/describe.h"
#include "core/time.h"

namespace penstock::engine {

struct LinkCosts {
  double gb_per_s = 20;  // 10^9 bytes
  double latency_us = 1;

  template <class V>
  void Describe(V& v) {
    v.Field("gbPerS", gb_per_s,
            {.text = "Bandwidth that transfers share, in 10^9 bytes a second.",
             .unit = "GB/s",
             .min = 0.001,
             .max = 1e6});
    v.Field("latencyUs", latency_us,
            {.text = "Each transfer takes at least this.", .unit = "us", .min = 0, .max = 1e9});
  }
};

class Link {
 public:
  explicit Link(const LinkCosts& costs) : costs_(costs) {}

  // When `bytes` that are given to it at `now` have arrived.
  Time Send(Time now, uint64_t bytes) {
    free_at_ =
        std::max(free_at_, now) + FromSeconds(static_cast<double>(bytes) / (costs_.gb_per_s * 1e9));
    return free_at_ + FromSeconds(costs_.latency_us * 1e-6);
  }
  void Clear() { free_at_ = Time(); }

 private:
  LinkCosts costs_;
  Time free_at_{};
};

}  // namespace penstock::engine
