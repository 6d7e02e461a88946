#include "plugins/endpoint_attribute.h"

#include <array>

#include "core/text.h"

namespace penstock::plugins {
namespace {

constexpr std::string_view kExtractor = "core-metrics-extractor";

constexpr std::array<EndpointAttribute, 3> kAttributes = {{
    {"KVCacheUsagePercent", sched::DataKey::kKvUsage, &model::EndpointColumns::kv_usage},
    {"RunningRequestsSize", sched::DataKey::kRunning, &model::EndpointColumns::running},
    {"WaitingQueueSize", sched::DataKey::kWaiting, &model::EndpointColumns::waiting},
}};

}  // namespace

const EndpointAttribute* FindEndpointAttribute(std::string_view name) {
  for (const EndpointAttribute& attribute : kAttributes) {
    if (attribute.name == name) return &attribute;
  }
  return nullptr;
}

std::string EndpointAttributeProblem(std::string_view field, std::string_view name,
                                     std::string_view producer) {
  const bool is_known = FindEndpointAttribute(name) != nullptr;
  if (is_known && (producer.empty() || producer == kExtractor)) return "";
  std::string problem = std::string(field) + ": '" + std::string(name) + "'";
  if (!producer.empty()) problem += " of '" + std::string(producer) + "'";
  problem += " needs custom endpoint attributes, which this version does not have";
  std::array<std::string_view, kAttributes.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kAttributes[i].name;
  const std::string hint = DidYouMean(name, names);
  if (!is_known && !hint.empty()) return problem + hint;
  return problem + "; there are KVCacheUsagePercent, RunningRequestsSize and WaitingQueueSize of " +
         std::string(kExtractor);
}

}  // namespace penstock::plugins
