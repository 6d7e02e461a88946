// The highest totals win; equal ones win equally often.
#include "plugins/builtin_types.h"
#include "plugins/pickers/selection.h"

namespace penstock::plugins {
namespace {

class MaxScorePicker : public sched::Picker {
 public:
  using Params = PickerParams;
  explicit MaxScorePicker(const Params& params) : count_(params.count()) {}

  size_t Pick(std::span<const float> scores, const Mask& candidates, Random& random,
              std::span<uint32_t> out) const override {
    if (out.size() != 1) {
      return PickSmallest(
          candidates, random, [&](size_t i) { return -scores[i]; }, out);
    }
    return PickBest(scores, candidates, random, &out.front());
  }
  size_t max_endpoints() const override { return count_; }

 private:
  // One pass to find the best total and how many have it, one to find the one drawn among them.
  static size_t PickBest(std::span<const float> scores, const Mask& candidates, Random& random,
                         uint32_t* out) {
    size_t ties = 0;
    size_t first = 0;
    float best = 0;
    candidates.ForEach([&](size_t i) {
      if (ties == 0 || scores[i] > best) {
        best = scores[i];
        first = i;
        ties = 1;
      } else if (scores[i] == best) {
        ++ties;
      }
    });
    if (ties == 0) return 0;
    *out = static_cast<uint32_t>(first);
    if (ties == 1) return 1;
    uint64_t skip = random.Below(ties);
    candidates.ForEach([&](size_t i) {
      if (scores[i] == best && skip-- == 0) *out = static_cast<uint32_t>(i);
    });
    return 1;
  }

  const size_t count_;
};

}  // namespace

sched::PluginType MaxScorePickerType() {
  return sched::MakeType<MaxScorePicker>("max-score-picker", sched::Kind::kPicker,
                                         "Picks the endpoints with the highest totals; equal "
                                         "totals are equally likely.");
}

}  // namespace penstock::plugins
