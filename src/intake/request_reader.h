// What every body asks of a request before the brain sees it: who it is, what it wants, what must
// be cut out of its body. One reader, so that the same input is the same request wherever it comes
// in.
//
// THREADS: loop-bound.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"
#include "core/random.h"
#include "model/request.h"

namespace penstock::intake {

struct IncomingRequest {
  model::Request request;
  api::Route route;
  api::BodyEdits edits;     // what the engine must not see, or must see instead
  std::string fairness_id;  // the header's, or "default-flow"
};

class RequestReader {
 public:
  explicit RequestReader(uint64_t seed) : random_(seed) {}

  // The client's x-request-id when it can stand in a log and a header as it is, else a new one: 32
  // hexadecimal digits.
  std::string RequestId(std::string_view given);

  // Reads the body and takes over the headers, whose views must stay valid as long as the request.
  // request.prompt points into `body` and this reader until the next Read. A header that asks for
  // another model than the body's is heeded here.
  std::expected<IncomingRequest, api::ApiError> Read(const api::Route& route, std::string id,
                                                     std::vector<model::HeaderView> headers,
                                                     const std::string& body);

 private:
  Random random_;
  api::BodyReader bodies_;
};

// Wall time, microseconds since 1970.
int64_t UnixMicros();

}  // namespace penstock::intake
