// What the demonstration says about itself when it has started.
//
// THREADS: pure function.
#pragma once

#include <cstdint>
#include <string>

#include "engine/profile.h"
#include "traffic/traffic.h"

namespace penstock::app {

struct DemoFacts {
  const engine::Profile& profile;
  uint32_t engines = 0;
  double speed = 1;
  std::string policy;  // name, or the file that decides
  std::string address;
  std::string admin_address;
  bool knows_caches = false;  // the policy goes by what engines tell of their caches
  const traffic::TrafficOptions* traffic = nullptr;  // nullptr: none
};

// Several lines with real addresses: what runs, where to look, what to try next.
std::string DemoText(const DemoFacts& facts);

}  // namespace penstock::app
