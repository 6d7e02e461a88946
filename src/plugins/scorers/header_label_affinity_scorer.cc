// Prefers endpoints whose label says what a header of the request says.
#include "core/text.h"
#include "plugins/builtin_types.h"
#include "plugins/filters/label_filter.h"

namespace penstock::plugins {
namespace {

class HeaderLabelAffinityScorer : public sched::Scorer {
 public:
  struct Params {
    std::string header_name;
    std::string label_key;
    template <class V>
    void Describe(V& v) {
      v.Field("headerName", header_name,
              {.text = "Header that says which endpoints are preferred.", .required = true});
      v.Field("labelKey", label_key,
              {.text = "Label that must have the header's value.", .required = true});
    }
  };
  explicit HeaderLabelAffinityScorer(Params params) : params_(std::move(params)) {}

  void Score(const sched::RequestContext& context, const model::EndpointColumns& columns,
             const Mask&, std::span<float> scores) const override {
    const std::string_view wanted = TrimSpace(context.request.Header(params_.header_name));
    if (wanted.empty()) return;
    const std::vector<const std::string*>& values =
        values_.Get(*columns.pool, "", [&](std::vector<const std::string*>* of_endpoints) {
          of_endpoints->clear();
          for (const model::EndpointInfo& endpoint : columns.pool->endpoints) {
            of_endpoints->push_back(FindLabel(endpoint.spec.labels, params_.label_key));
          }
        });
    for (size_t i = 0; i < scores.size(); ++i) {
      scores[i] = values[i] != nullptr && *values[i] == wanted ? 1.0F : 0.0F;
    }
  }

  std::vector<sched::HeaderUse> HeadersRead() const override {
    return {{params_.header_name, false, "prefers the endpoints whose label has its value"}};
  }

 private:
  const Params params_;
  // Into the labels of the snapshot, which outlives the decision that asks for its id.
  const SnapshotMemo<std::vector<const std::string*>> values_;
};

}  // namespace

sched::PluginType HeaderLabelAffinityScorerType() {
  auto type = sched::MakeType<HeaderLabelAffinityScorer>(
      "header-label-affinity-scorer", sched::Kind::kScorer,
      "Prefers endpoints whose label has the value of a header of the request.");
  type.stability = sched::Stability::kAlpha;
  type.formula = "label == header: 1; else 0; without the header 0 for all";
  type.example = "{headerName: x-zone, labelKey: zone}";
  return type;
}

}  // namespace penstock::plugins
