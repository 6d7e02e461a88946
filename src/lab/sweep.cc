#include "lab/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/text.h"
#include "lab/summary.h"

namespace penstock::lab {
namespace {

// How many times the best one's number it is, 1 or more whichever way is better.
double RatioTo(double best, double value, bool is_higher_better) {
  if (best == value) return 1;
  const double ratio =
      is_higher_better ? best / std::max(value, 1e-12) : value / std::max(best, 1e-12);
  return std::max(1.0, ratio);
}

}  // namespace

Result<std::vector<Ranked>> Rank(std::span<const Comparison> comparisons, std::string_view number) {
  std::vector<std::string_view> names;
  for (const auto& [name, estimate] : comparisons.front().arms.front().numbers) {
    names.emplace_back(name);
  }
  if (std::find(names.begin(), names.end(), number) == names.end()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("there is no number '{}'{}; there are {}", number,
                            DidYouMean(number, names), fmt::join(names, ", ")));
  }
  std::vector<Ranked> ranking;
  for (const ArmResult& arm : comparisons.front().arms) ranking.push_back({arm.name, 0, 0});
  for (const Comparison& comparison : comparisons) {
    const size_t best = BestArm(comparison, number);
    for (size_t a = 0; a < ranking.size(); ++a) {
      const ArmResult& arm = comparison.arms[a];
      ranking[a].ratio += RatioTo(comparison.arms[best].Of(number).mean, arm.Of(number).mean,
                                  IsBetterHigher(number)) /
                          static_cast<double>(comparisons.size());
      const bool is_alike =
          a == best || Judge(arm, comparison.arms[best], number) == Verdict::kNoise;
      ranking[a].alike += is_alike ? 1 : 0;
    }
  }
  std::stable_sort(ranking.begin(), ranking.end(),
                   [](const Ranked& a, const Ranked& b) { return a.ratio < b.ratio; });
  return ranking;
}

std::string RenderRanking(std::span<const Ranked> ranking, std::span<const Comparison> comparisons,
                          std::string_view number, size_t most) {
  size_t width = 9;
  for (const Ranked& ranked : ranking) width = std::max(width, ranked.name.size());
  std::string out = fmt::format(
      "{} over {} workloads, {} seeds each\n\n{:<{}}  off the best  best or within noise\n", number,
      comparisons.size(), comparisons.front().seeds, "variation", width);
  for (const Ranked& ranked : ranking.first(std::min(most, ranking.size()))) {
    fmt::format_to(std::back_inserter(out), "{:<{}}  {:>10.2f} %  {:>8} of {}\n", ranked.name,
                   width, (ranked.ratio - 1) * 100, ranked.alike, comparisons.size());
  }
  if (ranking.size() > most) out += fmt::format("and {} others\n", ranking.size() - most);
  return out;
}

}  // namespace penstock::lab
