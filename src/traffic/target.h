// Which gateway the traffic goes to. Only one on this machine: a load generator that can be pointed
// anywhere is a weapon by accident.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace penstock::traffic {

struct Target {
  std::string host;  // in digits, without brackets
  uint16_t port = 0;
};

// "http://127.0.0.1:8080", "http://[::1]:8080" or "http://localhost:8080", which is 127.0.0.1 here
// whatever the machine's files say. kInvalidArgument for what is no such URL, and for every address
// that is not a loopback one; names are not looked up.
Result<Target> ParseTarget(std::string_view url);
// "127.0.0.1:8080", "[::1]:8080".
std::string AddressOf(const Target& target);

}  // namespace penstock::traffic
