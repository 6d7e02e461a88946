// Candidates win in proportion to their totals; those with a total of 0 only when nobody else is
// left.
//
// SOURCE: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006 (A-Res). The
// keys U^(1/score) are compared by -log(U) / score, smallest first, which does not underflow.
#include <cmath>
#include <limits>

#include "core/exact_math.h"
#include "plugins/builtin_types.h"
#include "plugins/pickers/selection.h"

namespace penstock::plugins {
namespace {

class WeightedRandomPicker : public sched::Picker {
 public:
  using Params = PickerParams;
  explicit WeightedRandomPicker(const Params& params) : count_(params.count()) {}

  size_t Pick(std::span<const float> scores, const Mask& candidates, Random& random,
              std::span<uint32_t> out) const override {
    if (out.size() == 1) return PickOne(scores, candidates, random, out);
    const auto key = [&](size_t i) {
      if (!(scores[i] > 0.0F)) return std::numeric_limits<float>::infinity();
      const double u = 1.0 - random.Uniform();  // (0, 1]
      return static_cast<float>(-ExactLog(u) / static_cast<double>(scores[i]));
    };
    return PickSmallest(candidates, random, key, out);
  }
  size_t max_endpoints() const override { return count_; }

 private:
  // The same distribution for a single winner, without a logarithm per candidate.
  static size_t PickOne(std::span<const float> scores, const Mask& candidates, Random& random,
                        std::span<uint32_t> out) {
    double total = 0;
    candidates.ForEach([&](size_t i) {
      if (scores[i] > 0.0F) total += static_cast<double>(scores[i]);
    });
    if (!(total > 0)) return PickUniform(candidates, random, out);
    double left = random.Uniform() * total;
    bool is_open = true;
    candidates.ForEach([&](size_t i) {
      if (!is_open || !(scores[i] > 0.0F)) return;
      out.front() = static_cast<uint32_t>(i);  // the last one also takes what rounding left over
      left -= static_cast<double>(scores[i]);
      is_open = left >= 0;
    });
    return 1;
  }

  const size_t count_;
};

}  // namespace

sched::PluginType WeightedRandomPickerType() {
  auto type = sched::MakeType<WeightedRandomPicker>(
      "weighted-random-picker", sched::Kind::kPicker,
      "Picks candidates at random, in proportion to their totals.");
  type.formula = "largest U^(1 / total), U uniform in (0, 1]; total 0 comes last";
  return type;
}

}  // namespace penstock::plugins
