#include "admin/live_json.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "admin/decision_json.h"

namespace penstock::admin {
namespace {

using wire::JsonWriter;

std::string_view HealthName(model::Health health) {
  switch (health) {
    case model::Health::kUnknown:
      return "unknown";
    case model::Health::kHealthy:
      return "healthy";
    case model::Health::kFailed:
      return "failed";
  }
  return "unknown";
}

void WriteList(std::string_view key, const std::vector<std::string>& values, JsonWriter* json) {
  json->Key(key).BeginArray();
  for (const std::string& value : values) json->Value(value);
  json->EndArray();
}

// What discovery and the engine said.
void WriteFacts(const model::EndpointInfo& endpoint, JsonWriter* json) {
  json->Field("name", endpoint.spec.name)
      .Field("address", endpoint.address)
      .Field("slot", endpoint.slot)
      .Field("health", HealthName(endpoint.health));
  json->Key("reason");
  if (endpoint.health == model::Health::kHealthy) {
    json->Null();
  } else {
    json->Value(endpoint.health_reason);
  }
  json->Field("models_known", endpoint.models_known);
  WriteList("models", endpoint.models, json);
  std::string_view role;
  json->Key("labels").BeginObject();
  for (const auto& [key, value] : endpoint.spec.labels) {
    json->Field(key, value);
    if (key == model::kRoleLabel) role = value;
  }
  json->EndObject().Key("role");
  if (role.empty()) {
    json->Null();
  } else {
    json->Value(role);
  }
  json->Key("lora").BeginObject();
  WriteList("running", endpoint.lora.running, json);
  WriteList("waiting", endpoint.lora.waiting, json);
  json->Field("max_adapters", endpoint.lora.max_adapters).EndObject();
  json->Field("block_size_tokens", endpoint.block_size_tokens)
      .Field("gpu_blocks", endpoint.gpu_blocks);
}

void WriteLoad(uint32_t slot, const model::LiveColumns& live, Time now, JsonWriter* json) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const int64_t scraped_at = live.scraped_at_nanos[slot].load(kRelaxed);
  json->Field("waiting", Rounded(live.waiting[slot].load(kRelaxed)))
      .Field("running", Rounded(live.running[slot].load(kRelaxed)))
      .Field("kv_usage", Rounded(live.kv_usage[slot].load(kRelaxed)));
  const double age_s = scraped_at == 0 ? -1 : std::max(0.0, ToSeconds(now - FromNanos(scraped_at)));
  WriteIfKnown("metrics_age_s", age_s, json);
  json->Field("in_flight_requests", live.in_flight_requests[slot].load(kRelaxed))
      .Field("in_flight_tokens", live.in_flight_tokens[slot].load(kRelaxed));
  if (live.attribute_names.empty()) return;
  json->Key("attributes").BeginObject();
  for (size_t i = 0; i < live.attribute_names.size(); ++i) {
    json->Key(live.attribute_names[i]);
    const float value = live.Attribute(slot, i);
    if (std::isnan(value)) {
      json->Null();
    } else {
      json->Value(Rounded(value));
    }
  }
  json->EndObject();
}

}  // namespace

void WriteEndpoints(const model::PoolSnapshot& pool, const model::LiveColumns& live,
                    const LiveStats& stats, Time now, size_t limit, JsonWriter* json) {
  const std::vector<EndpointPast> past = stats.Endpoints(pool, now);
  json->Key("endpoints").BeginArray();
  for (size_t i = 0; i < pool.endpoints.size() && i < limit; ++i) {
    json->BeginObject();
    WriteFacts(pool.endpoints[i], json);
    WriteLoad(pool.endpoints[i].slot, live, now, json);
    json->Field("requests_per_s", Rounded(past[i].requests_per_s))
        .Field("output_tokens_per_s", Rounded(past[i].output_tokens_per_s));
    WriteIfKnown("hit_rate", past[i].hit_rate, json);
    WriteIfKnown("mean_ttft_s", past[i].mean_ttft_s, json);
    json->EndObject();
  }
  json->EndArray();
}

void WriteSeries(const std::vector<LivePoint>& points, JsonWriter* json) {
  json->Key("series").BeginObject().Key("second").BeginArray();
  for (const LivePoint& point : points) json->Value(point.second - points.back().second);
  json->EndArray();
  constexpr std::pair<std::string_view, double LivePoint::*> kCurves[] = {
      {"requests_per_s", &LivePoint::requests_per_s},
      {"errors_per_s", &LivePoint::errors_per_s},
      {"input_tokens_per_s", &LivePoint::input_tokens_per_s},
      {"output_tokens_per_s", &LivePoint::output_tokens_per_s},
      {"ttft_p50_s", &LivePoint::ttft_p50_s},
      {"ttft_p90_s", &LivePoint::ttft_p90_s},
      {"hit_rate", &LivePoint::hit_rate},
      {"waiting", &LivePoint::waiting},
      {"max_waiting", &LivePoint::max_waiting},
      {"running", &LivePoint::running},
      {"in_flight", &LivePoint::in_flight},
  };
  for (const auto& [name, field] : kCurves) {
    json->Key(name).BeginArray();
    for (const LivePoint& point : points) {
      if (point.*field < 0) {
        json->Null();
      } else {
        json->Value(Rounded(point.*field));
      }
    }
    json->EndArray();
  }
  json->EndObject();
}

}  // namespace penstock::admin
