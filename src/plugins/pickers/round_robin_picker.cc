// The candidates take turns, whatever their totals.
//
// COST: one atomic increment shared by all loops.
// SOURCE: the usual peer of every other policy; llm-d has none.
#include <atomic>

#include "plugins/builtin_types.h"
#include "plugins/pickers/selection.h"

namespace penstock::plugins {
namespace {

class RoundRobinPicker : public sched::Picker {
 public:
  using Params = PickerParams;
  explicit RoundRobinPicker(const Params& params) : count_(params.count()) {}

  size_t Pick(std::span<const float>, const Mask& candidates, Random&,
              std::span<uint32_t> out) const override {
    thread_local std::vector<uint32_t> all;
    all.clear();
    candidates.ForEach([&](size_t i) { all.push_back(static_cast<uint32_t>(i)); });
    const size_t n = std::min(out.size(), all.size());
    if (n == 0) return 0;
    const uint64_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
    for (size_t k = 0; k < n; ++k) out[k] = all[(turn + k) % all.size()];
    return n;
  }
  size_t max_endpoints() const override { return count_; }

 private:
  const size_t count_;
  mutable std::atomic<uint64_t> turn_{0};
};

}  // namespace

sched::PluginType RoundRobinPickerType() {
  return sched::MakeType<RoundRobinPicker>("round-robin-picker", sched::Kind::kPicker,
                                           "Candidates take turns, whatever their totals.");
}

}  // namespace penstock::plugins
