#include "model/endpoint.h"

#include <algorithm>

namespace penstock::model {
namespace {

size_t BytesOf(const std::string& text) { return sizeof(text) + text.capacity(); }

size_t BytesOf(const std::vector<std::string>& texts) {
  size_t bytes = 0;
  for (const std::string& text : texts) bytes += BytesOf(text);
  return bytes;
}

size_t BytesOf(const EndpointInfo& endpoint) {
  size_t bytes = sizeof(endpoint) + endpoint.models_json.capacity() + BytesOf(endpoint.models) +
                 BytesOf(endpoint.adapters) + BytesOf(endpoint.lora.running) +
                 BytesOf(endpoint.lora.waiting);
  for (const auto& [key, value] : endpoint.spec.labels) bytes += BytesOf(key) + BytesOf(value);
  return bytes;
}

}  // namespace

std::pair<std::string_view, std::string_view> NamespaceAndName(std::string_view name,
                                                               std::string_view usual) {
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return {usual, name};
  return {name.substr(0, slash), name.substr(slash + 1)};
}

void PoolSnapshot::Index() {
  static std::atomic<uint64_t> last_id{0};
  id = last_id.fetch_add(1, std::memory_order_relaxed) + 1;
  const size_t size = endpoints.size();
  slots.clear();
  for (const EndpointInfo& endpoint : endpoints) slots.push_back(endpoint.slot);
  healthy.Reset(size);
  models_unknown.Reset(size);
  models.clear();
  for (size_t i = 0; i < size; ++i) {
    const EndpointInfo& endpoint = endpoints[i];
    if (endpoint.health == Health::kHealthy) {
      healthy.Set(i);
      if (!endpoint.models_known) models_unknown.Set(i);
    }
    for (const std::string& name : endpoint.models) models.emplace_back(name, Mask());
  }
  std::sort(models.begin(), models.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  models.erase(std::unique(models.begin(), models.end(),
                           [](const auto& a, const auto& b) { return a.first == b.first; }),
               models.end());
  for (auto& [name, mask] : models) {
    mask = models_unknown;
    for (size_t i = 0; i < size; ++i) {
      if (healthy.Test(i) &&
          std::binary_search(endpoints[i].models.begin(), endpoints[i].models.end(), name)) {
        mask.Set(i);
      }
    }
  }
  bytes = sizeof(*this) + slots.capacity() * sizeof(uint32_t);
  for (const EndpointInfo& endpoint : endpoints) bytes += BytesOf(endpoint);
  for (const auto& [name, mask] : models) bytes += BytesOf(name) + sizeof(mask) + size / 8;
}

const Mask* PoolSnapshot::Serving(std::string_view model) const {
  const auto it =
      std::lower_bound(models.begin(), models.end(), model,
                       [](const auto& entry, std::string_view name) { return entry.first < name; });
  return it != models.end() && it->first == model ? &it->second : nullptr;
}

}  // namespace penstock::model
