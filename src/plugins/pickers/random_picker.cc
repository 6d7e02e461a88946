// Every candidate wins equally often, whatever its total.
#include "plugins/builtin_types.h"
#include "plugins/pickers/selection.h"

namespace penstock::plugins {
namespace {

class RandomPicker : public sched::Picker {
 public:
  using Params = PickerParams;
  explicit RandomPicker(const Params& params) : count_(params.count()) {}

  size_t Pick(std::span<const float>, const Mask& candidates, Random& random,
              std::span<uint32_t> out) const override {
    return PickUniform(candidates, random, out);
  }
  size_t max_endpoints() const override { return count_; }

 private:
  const size_t count_;
};

}  // namespace

sched::PluginType RandomPickerType() {
  return sched::MakeType<RandomPicker>("random-picker", sched::Kind::kPicker,
                                       "Picks candidates at random, whatever their totals.");
}

}  // namespace penstock::plugins
