// The answer to GET /v1/models: the union of what the healthy engines serve, LoRA adapters
// included.
//
// THREADS: loop-bound. COST: worked out once per pool snapshot.
#pragma once

#include <cstdint>
#include <string>

#include "model/endpoint.h"

namespace penstock::proxy {

class ModelsList {
 public:
  // {"object":"list","data":[...]}, each model once, as the first engine (in pool order) describes
  // it.
  const std::string& Json(const model::PoolSnapshot& pool);

 private:
  uint64_t version_ = ~uint64_t{0};
  std::string json_;
};

}  // namespace penstock::proxy
