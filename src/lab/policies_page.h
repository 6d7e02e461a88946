// Several comparisons on one Markdown page: how every policy did on every workload.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "lab/compare.h"

namespace penstock::lab {

// A table for each of TTFT, E2E, TPOT, throughput and cache hits, a row for each workload, a column
// for each policy; bold where a policy is best or not to be told from the best; then how often each
// was. REQUIRES: the same arms in all comparisons.
std::string RenderMarkdown(std::span<const Comparison> comparisons);

inline constexpr std::string_view kNumbersBegin = "<!-- numbers -->";
inline constexpr std::string_view kNumbersEnd = "<!-- end of numbers -->";
// The page with `numbers` in place of what stood between the two marks. kInvalidArgument: it has
// not both, in that order.
Result<std::string> ReplaceNumbers(std::string_view page, std::string_view numbers);

}  // namespace penstock::lab
