// Choosing among the bits of a mask without sorting them all.
//
// COST: no allocation after a thread's first choice of that size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/mask.h"
#include "core/random.h"

namespace penstock::plugins {

// A random permutation's first out.size() set bits; returns how many there were.
inline size_t PickUniform(const Mask& candidates, Random& random, std::span<uint32_t> out) {
  thread_local std::vector<uint32_t> all;
  all.clear();
  candidates.ForEach([&](size_t i) { all.push_back(static_cast<uint32_t>(i)); });
  const size_t n = std::min(out.size(), all.size());
  for (size_t k = 0; k < n; ++k) {
    std::swap(all[k], all[k + random.Below(all.size() - k)]);
    out[k] = all[k];
  }
  return n;
}

// The out.size() candidates with the smallest keys, in rising order; equal keys in random order.
// `key(i)` is called once for each candidate. Returns how many there were.
template <class Key>
size_t PickSmallest(const Mask& candidates, Random& random, Key&& key, std::span<uint32_t> out) {
  struct Ranked {
    float key;
    uint32_t index;
    uint64_t tie;
    bool operator<(const Ranked& other) const {
      return key != other.key ? key < other.key : tie < other.tie;
    }
  };
  thread_local std::vector<Ranked> all;
  all.clear();
  candidates.ForEach([&](size_t i) {
    all.push_back({key(i), static_cast<uint32_t>(i), random.Next()});
  });
  const size_t n = std::min(out.size(), all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(n), all.end());
  for (size_t k = 0; k < n; ++k) out[k] = all[k].index;
  return n;
}

// How many endpoints a picker returns: what its parameter says, at least one.
struct PickerParams {
  int32_t max_num_of_endpoints = 1;
  template <class V>
  void Describe(V& v) {
    v.Field("maxNumOfEndpoints", max_num_of_endpoints,
            {.text = "Endpoints to return, best first; 0 or less means 1.", .max = 1024});
  }
  size_t count() const {
    return max_num_of_endpoints <= 0 ? 1 : static_cast<size_t>(max_num_of_endpoints);
  }
};

}  // namespace penstock::plugins
