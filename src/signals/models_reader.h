// What an engine's answer to GET /v1/models says.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace penstock::signals {

inline constexpr size_t kMaxModels = 10'000;
inline constexpr size_t kMaxModelIdBytes = 512;

struct EngineModels {
  std::vector<std::string> ids;  // base models and adapters, sorted, each once
  // Those of them with a "parent", which is the model that they adapt.
  std::vector<std::string> adapters;
  std::string json;  // the elements of "data" with all their fields, comma separated
};

// Elements without a usable id are passed over. Errors: not JSON, no list "data", more than
// kMaxModels.
Result<EngineModels> ReadModels(std::string_view body);

}  // namespace penstock::signals
