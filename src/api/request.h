// Reads the bodies of the APIs that engines serve: the few fields that matter, and what must be cut
// out before the engine sees the body. Unknown fields stay as they came; edits are splices of the
// original bytes.
//
// SOURCE: OpenAI API reference, Anthropic Messages API, vLLM server; spec endpoint-picker 4.3.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/request.h"

namespace penstock::api {

// An error as a client sees it.
struct ApiError {
  int status = 400;
  std::string_view type = "invalid_request_error";  // OpenAI's "type"
  std::string_view code;   // short word, also the counter's label: "missing_field"
  std::string message;     // what is wrong, with the value, and what to do
  std::string_view param;  // the field, or ""
};

// {"error":{"message":...,"type":...,"param":...,"code":...}}; for Api::kMessages Anthropic's
// {"type":"error","error":{"type":...,"message":...}}. Valid JSON whatever bytes the message holds.
std::string RenderError(const ApiError& error, model::Api api);

// POST routes by path ("/v1/chat/completions", also without /v1); kOther for the rest.
model::Api ClassifyPath(std::string_view path);

// Bytes [begin, end) of the body are replaced by `text`.
struct Splice {
  size_t begin = 0;
  size_t end = 0;
  std::string text;
};

// The body with its splices applied, as pieces that borrow both. Splices are sorted and do not
// overlap.
std::vector<std::string_view> ApplySplices(std::string_view body,
                                           const std::vector<Splice>& splices);

// THREADS: loop-bound (scratch is reused). Memory beyond 16 MiB is given back after each large
// body.
class BodyReader {
 public:
  BodyReader();
  ~BodyReader();

  // Fills request->{api, model, stream, max_output_tokens, cache_salt, extra_tokens, body_bytes,
  // prompt}. request->prompt points into `body` and this reader's scratch: valid until the next
  // Read. `splices` gets what must be cut: kv_transfer_params at the top level (only the router may
  // set it). For kOther: a JSON object body yields its "model" when it has one; anything else is no
  // error. `body` must have kPadding readable bytes behind its end (capacity).
  //
  // Errors (400): not JSON (with the byte offset), not an object, missing
  // "messages"/"prompt"/"input"/..., a field of the wrong type (names field, expected and found
  // type), invalid UTF-8, nesting above 512 levels. "model" missing is an error for all but
  // kTokenize and kOther when `model_required`.
  std::expected<void, ApiError> Read(model::Api api, const std::string& body,
                                     model::Request* request, std::vector<Splice>* splices);
  static constexpr size_t kPadding = 64;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Headers of a client request that only the router may set, removed before forwarding:
// x-gateway-destination-endpoint*, x-prefiller-host-port, x-encoder-hosts-ports,
// x-data-parallel-host-port, x-kv-cache-source-host-port, the objective/fairness/rewrite/SLO
// control headers (read, then not forwarded), ... (spec 3.2, 3.4).
bool IsControlHeader(std::string_view name);

}  // namespace penstock::api
