// Random numbers as traffic has them, and text to fill prompts with.
//
// THREADS: pure functions of their generator.
#pragma once

#include <cstdint>
#include <string>

#include "core/random.h"

namespace penstock::traffic {

// Lengths and pauses of people are log-normal: many short ones, a long tail. Cut at both ends.
struct LogNormal {
  double median = 1;
  double sigma = 0;
  double least = 0;
  double most = 1e9;
  double Draw(Random& random) const;
  // Every draw is `factor` times what it would be.
  void ScaleBy(double factor) {
    median *= factor;
    least *= factor;
    most *= factor;
  }
};

// In seconds when `rate` is per second. REQUIRES: rate > 0.
double DrawExponential(Random& random, double rate);

// English-like sentences, about `tokens` tokens long for the usual tokenizers. ASCII without
// anything that JSON would have to escape.
std::string Prose(Random& random, uint32_t tokens);

}  // namespace penstock::traffic
