// Which of many variations is best over several workloads, and which of the others cannot be told
// from it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "lab/compare.h"

namespace penstock::lab {

struct Ranked {
  std::string name;
  double ratio = 1;  // mean over the workloads of (its number / the best one's); 1: best everywhere
  size_t alike = 0;  // workloads on which it is best or within noise of the best
};

// Best first; ties in the order of the arms. kInvalidArgument: there is no such number. REQUIRES:
// at least one comparison, the same arms in all of them.
Result<std::vector<Ranked>> Rank(std::span<const Comparison> comparisons, std::string_view number);

// For a terminal, the first `most` of them.
std::string RenderRanking(std::span<const Ranked> ranking, std::span<const Comparison> comparisons,
                          std::string_view number, size_t most);

}  // namespace penstock::lab
