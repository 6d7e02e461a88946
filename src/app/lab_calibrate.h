// Measures a running engine with a short ladder of requests.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "engine/profile.h"
#include "lab/calibrate.h"

namespace penstock::app {

struct CalibrateOptions {
  std::string url = "http://127.0.0.1:8000";
  std::string model;            // "": the first that the engine names
  uint32_t max_tokens = 8192;   // longest prompt
  uint32_t max_sequences = 32;  // most requests at once
  uint32_t output_tokens = 64;  // of a decode
  uint32_t repeats = 3;         // of a prefill; the median counts
};

struct Measured {
  std::string model;
  uint32_t block_size = 0, blocks = 0;  // 0: the engine does not say
  std::vector<lab::PrefillPoint> prefills;
  std::vector<lab::DecodePoint> decodes;
};

// Asks for completions of random token ids. The engine must be on this machine, where the network
// adds nothing, and have nothing else to do. `progress` hears what is measured next.
Result<Measured> MeasureEngine(const CalibrateOptions& options,
                               const std::function<void(const std::string&)>& progress);

}  // namespace penstock::app
