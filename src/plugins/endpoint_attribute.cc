#include "plugins/endpoint_attribute.h"

#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

namespace penstock::plugins {
namespace {

struct Usual {
  std::string_view name;  // llm-d's
  sched::DataKey key;
  std::vector<float> model::EndpointColumns::*column;
};

constexpr std::array<Usual, 3> kUsual = {{
    {"KVCacheUsagePercent", sched::DataKey::kKvUsage, &model::EndpointColumns::kv_usage},
    {"RunningRequestsSize", sched::DataKey::kRunning, &model::EndpointColumns::running},
    {"WaitingQueueSize", sched::DataKey::kWaiting, &model::EndpointColumns::waiting},
}};

}  // namespace

EndpointAttribute::EndpointAttribute(std::string name, std::string producer)
    : name_(std::move(name)), producer_(std::move(producer)) {
  for (const Usual& usual : kUsual) {
    if (usual.name != name_) continue;
    column_ = usual.column;
    key_ = usual.key;
  }
}

sched::Need EndpointAttribute::Need() {
  return {.key = key_, .producer = producer_, .index = &index_, .attribute = name_};
}

float EndpointAttribute::Value(const model::EndpointColumns& columns, size_t i) const {
  if (column_ == nullptr) return columns.attributes[index_][i];
  // A column without a scrape holds zeros.
  if (std::isinf(columns.metrics_age_s[i])) return std::numeric_limits<float>::quiet_NaN();
  return (columns.*column_)[i];
}

}  // namespace penstock::plugins
