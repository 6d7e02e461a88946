#include "signals/models_reader.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

namespace penstock::signals {

Result<EngineModels> ReadModels(std::string_view body) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  if (const auto error = parser.parse(body.data(), body.size()).get(document)) {
    return Fail(Code::kUnavailable,
                fmt::format("/v1/models is not valid JSON: {}", simdjson::error_message(error)));
  }
  simdjson::dom::array data;
  if (document["data"].get_array().get(data) != simdjson::SUCCESS) {
    return Fail(Code::kUnavailable, "/v1/models has no list \"data\"");
  }
  EngineModels out;
  for (const simdjson::dom::element element : data) {
    std::string_view id;
    if (element["id"].get_string().get(id) != simdjson::SUCCESS) continue;
    if (id.empty() || id.size() > kMaxModelIdBytes) continue;
    if (out.ids.size() == kMaxModels) {
      return Fail(Code::kOutOfRange, fmt::format("/v1/models has more than {} models", kMaxModels));
    }
    out.ids.emplace_back(id);
    std::string_view parent;
    if (element["parent"].get_string().get(parent) == simdjson::SUCCESS && !parent.empty()) {
      out.adapters.emplace_back(id);
    }
    if (!out.json.empty()) out.json += ',';
    out.json += simdjson::minify(element);
  }
  for (std::vector<std::string>* const names : {&out.ids, &out.adapters}) {
    std::sort(names->begin(), names->end());
    names->erase(std::unique(names->begin(), names->end()), names->end());
  }
  return out;
}

}  // namespace penstock::signals
