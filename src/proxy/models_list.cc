#include "proxy/models_list.h"

#include <simdjson.h>

#include <set>

#include "telemetry/log.h"

namespace penstock::proxy {

const std::string& ModelsList::Json(const model::PoolSnapshot& pool) {
  if (pool.version == version_) return json_;
  version_ = pool.version;
  json_ = R"({"object":"list","data":[)";
  std::set<std::string> seen;
  simdjson::dom::parser parser;
  pool.healthy.ForEach([&](size_t i) {
    const model::EndpointInfo& endpoint = pool.endpoints[i];
    simdjson::dom::array models;
    if (parser.parse("[" + endpoint.models_json + "]").get_array().get(models) !=
        simdjson::SUCCESS) {
      telemetry::log::Warn("engine's model list is not valid JSON",
                           {{"endpoint", endpoint.spec.name}});
      return;
    }
    for (simdjson::dom::element element : models) {
      std::string_view id;
      if (element["id"].get_string().get(id) != simdjson::SUCCESS) continue;
      if (!seen.emplace(id).second) continue;
      if (seen.size() > 1) json_ += ',';
      json_ += simdjson::minify(element);
    }
  });
  json_ += "]}";
  return json_;
}

}  // namespace penstock::proxy
