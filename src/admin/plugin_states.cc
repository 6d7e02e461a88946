#include "admin/plugin_states.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <string_view>
#include <vector>

namespace penstock::admin {
namespace {

using wire::JsonWriter;

constexpr std::string_view kLedger = "inflight-load-producer";

struct Load {
  std::string_view endpoint;
  int64_t requests = 0;
  int64_t tokens = 0;
};

void WriteLedger(const director::Fleet& fleet, JsonWriter* json) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const auto pool = fleet.snapshot().Get();
  std::vector<Load> loads;
  for (const model::EndpointInfo& endpoint : pool->endpoints) {
    loads.push_back({endpoint.spec.name,
                     fleet.live().in_flight_requests[endpoint.slot].load(kRelaxed),
                     fleet.live().in_flight_tokens[endpoint.slot].load(kRelaxed)});
  }
  const size_t shown = std::min(loads.size(), kMaxStateEndpoints);
  std::partial_sort(loads.begin(), loads.begin() + static_cast<ptrdiff_t>(shown), loads.end(),
                    [](const Load& a, const Load& b) {
                      return std::tie(b.requests, b.tokens, a.endpoint) <
                             std::tie(a.requests, a.tokens, b.endpoint);
                    });
  json->Key("endpoints").BeginArray();
  for (size_t i = 0; i < shown; ++i) {
    json->BeginObject()
        .Field("endpoint", loads[i].endpoint)
        .Field("requests", loads[i].requests)
        .Field("tokens", loads[i].tokens)
        .EndObject();
  }
  json->EndArray()
      .Field("totalEndpoints", loads.size())
      .Field("maxEndpoints", kMaxStateEndpoints)
      .Field("truncated", shown < loads.size());
}

}  // namespace

std::string FormatRfc3339(std::chrono::nanoseconds unix_time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(unix_time);
  const auto time = static_cast<std::time_t>(whole.count());
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::string fraction = fmt::format(".{:09}", (unix_time - whole).count());
  fraction.erase(fraction.find_last_not_of("0") + 1);
  if (fraction == ".") fraction.clear();
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     fraction);
}

void WritePluginStates(director::Director& director, std::chrono::nanoseconds unix_time,
                       JsonWriter* json) {
  std::map<std::string_view, const sched::Plugin*> plugins;
  for (const sched::Plugin* plugin : director.scheduler().Instances()) {
    plugins.emplace(plugin->name(), plugin);
  }
  json->BeginObject().Field("timestamp", FormatRfc3339(unix_time)).Key("plugins").BeginObject();
  for (const auto& [name, plugin] : plugins) {
    json->Key(name).BeginObject().Field("name", name).Field("type", plugin->type());
    const std::vector<sched::PluginStat> stats = plugin->Stats();
    const bool is_ledger = plugin->type() == kLedger;
    if (stats.empty() && !is_ledger) {
      json->Field("message", "plugin does not support state collection").EndObject();
      continue;
    }
    json->Key("state").BeginObject();
    if (is_ledger) WriteLedger(director.fleet(), json);
    for (const sched::PluginStat& stat : stats) {
      if (stat.label.empty()) {
        json->Field(stat.metric, stat.value);
      } else {
        json->Field(std::string(stat.metric) + "." + std::string(stat.label), stat.value);
      }
    }
    if (plugin->MaxBytes() > 0) json->Field("maxBytes", plugin->MaxBytes());
    json->EndObject().EndObject();
  }
  json->EndObject().EndObject();
}

}  // namespace penstock::admin
