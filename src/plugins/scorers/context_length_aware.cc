// Prefers, and on demand keeps only, the endpoints that are meant for prompts of this length.
//
// SOURCE: llm-d-router's context-length-aware plugin.
#include <algorithm>
#include <cstdint>

#include "core/text.h"
#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

// What an endpoint's label says.
struct Range {
  enum class Kind : uint8_t { kNone, kInvalid, kTokens };
  Kind kind = Kind::kNone;
  uint64_t min = 0;
  uint64_t max = 0;

  bool Holds(uint64_t tokens) const { return min <= tokens && tokens <= max; }
};

Range ReadRange(const std::string* label) {
  if (label == nullptr) return {};
  const size_t dash = label->find('-');
  if (dash == std::string::npos) return {Range::Kind::kInvalid};
  const auto min = ParseUint(TrimSpace(std::string_view(*label).substr(0, dash)));
  const auto max = ParseUint(TrimSpace(std::string_view(*label).substr(dash + 1)));
  if (!min || !max || *min > *max) return {Range::Kind::kInvalid};
  return {Range::Kind::kTokens, *min, *max};
}

// Within the range narrow ranges and room to its end count, outside of it the distance.
float ScoreOf(const Range& range, uint64_t tokens) {
  constexpr double kBase = 0.3;
  if (range.kind == Range::Kind::kNone) return 0.5F;
  if (range.kind == Range::Kind::kInvalid) return 0.0F;
  if (!range.Holds(tokens)) {
    const uint64_t distance = tokens < range.min ? range.min - tokens : tokens - range.max;
    return static_cast<float>(kBase / (1.0 + static_cast<double>(distance) / 1000.0));
  }
  if (range.max == range.min) return 1.0F;
  const auto width = static_cast<double>(range.max - range.min);
  const auto headroom = static_cast<double>(range.max - tokens);
  return static_cast<float>(kBase + 0.7 * (0.7 / (1.0 + width / 10000.0) + 0.3 * headroom / width));
}

class ContextLengthAware : public sched::Filter, public sched::Scorer {
 public:
  struct Params {
    std::string label = "llm-d.ai/context-length-range";
    bool enable_filtering = false;
    template <class V>
    void Describe(V& v) {
      v.Field("label", label, {.text = "Label that says MIN-MAX, in tokens."});
      v.Field("enableFiltering", enable_filtering,
              {.text = "Whether endpoints with another range are taken out, too."});
    }
    std::string Problem() const { return label.empty() ? "label: it is empty" : ""; }
  };
  explicit ContextLengthAware(Params params) : params_(std::move(params)) {}

  std::vector<sched::Need> Needs() override { return {{sched::DataKey::kTokens, ""}}; }

  void Apply(const sched::RequestContext& context, const model::EndpointColumns& columns,
             Mask& candidates, Random&) const override {
    if (!params_.enable_filtering) return;
    const std::vector<Range>& ranges = RangesOf(columns);
    candidates.Keep([&](size_t i) {
      return ranges[i].kind == Range::Kind::kNone ||
             (ranges[i].kind == Range::Kind::kTokens && ranges[i].Holds(context.input_tokens));
    });
  }
  std::string_view WhyAllPass(const sched::RequestContext&, const model::EndpointColumns&,
                              const Mask&) const override {
    return params_.enable_filtering ? "" : "enableFiltering is off";
  }

  void Score(const sched::RequestContext& context, const model::EndpointColumns& columns,
             const Mask&, std::span<float> scores) const override {
    const std::vector<Range>& ranges = RangesOf(columns);
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = ScoreOf(ranges[i], context.input_tokens);
  }

 private:
  const std::vector<Range>& RangesOf(const model::EndpointColumns& columns) const {
    return ranges_.Get(*columns.pool, "", [&](std::vector<Range>* of_endpoints) {
      of_endpoints->clear();
      for (const model::EndpointInfo& endpoint : columns.pool->endpoints) {
        of_endpoints->push_back(ReadRange(FindLabel(endpoint.spec.labels, params_.label)));
      }
    });
  }

  const Params params_;
  const SnapshotMemo<std::vector<Range>> ranges_;
};

}  // namespace

sched::PluginType ContextLengthAwareType() {
  auto type = sched::MakeType<ContextLengthAware>(
      "context-length-aware", sched::Kind::kScorer,
      "Prefers endpoints whose label has the prompt's length in its range. With enableFiltering it "
      "is a filter, too, and unlabelled endpoints pass.");
  type.formula =
      "in range: 0.3 + 0.7 * (0.7 / (1 + width / 10000) + 0.3 * headroom / width), 1 for a width "
      "of 0; outside: 0.3 / (1 + distance / 1000); no label: 0.5; unreadable: 0";
  return type;
}

}  // namespace penstock::plugins
