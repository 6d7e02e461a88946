// Two candidates drawn at random, the one with the higher total wins: nearly as even as the best
// total, and many gateways with old knowledge do not all run to the same endpoint. Asked for
// several, it draws twice as many and gives the better half.
//
// SOURCE: Mitzenmacher, "The power of two choices in randomized load balancing", 2001.
#include "plugins/builtin_types.h"
#include "plugins/pickers/selection.h"

namespace penstock::plugins {
namespace {

class PowerOfTwoPicker : public sched::Picker {
 public:
  using Params = PickerParams;
  explicit PowerOfTwoPicker(const Params& params) : count_(params.count()) {}

  size_t Pick(std::span<const float> scores, const Mask& candidates, Random& random,
              std::span<uint32_t> out) const override {
    thread_local std::vector<uint32_t> drawn;
    drawn.resize(2 * out.size());
    drawn.resize(PickUniform(candidates, random, drawn));
    const size_t n = std::min(out.size(), drawn.size());
    std::partial_sort(drawn.begin(), drawn.begin() + static_cast<ptrdiff_t>(n), drawn.end(),
                      [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
    std::copy_n(drawn.begin(), n, out.begin());
    return n;
  }
  size_t max_endpoints() const override { return count_; }

 private:
  const size_t count_;
};

}  // namespace

sched::PluginType PowerOfTwoPickerType() {
  return sched::MakeType<PowerOfTwoPicker>(
      "power-of-two-picker", sched::Kind::kPicker,
      "Draws two candidates at random (twice as many as are asked for) and picks the one with the "
      "higher total.");
}

}  // namespace penstock::plugins
