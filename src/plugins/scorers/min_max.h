// (max - x) / (max - min) over the candidates; 1 for all when they are equal.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "core/mask.h"

namespace penstock::plugins {

inline void ScoreLowestAsOne(const std::vector<float>& values, const Mask& candidates,
                             std::span<float> scores) {
  float least = std::numeric_limits<float>::infinity();
  float most = -least;
  candidates.ForEach([&](size_t i) {
    least = std::min(least, values[i]);
    most = std::max(most, values[i]);
  });
  if (!(most > least)) {
    std::fill(scores.begin(), scores.end(), 1.0F);
    return;
  }
  const float scale = 1.0F / (most - least);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = (most - values[i]) * scale;
}

}  // namespace penstock::plugins
