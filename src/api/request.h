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

// POST routes by path ("/v1/chat/completions", also without /v1, and /v2/rerank; a query does not
// matter, and escapes are what they stand for, as in engines); kOther for the rest.
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

// What was read without an error is one JSON object by RFC 8259 from its first byte to its last,
// fields that are none of ours included, in valid UTF-8, at most 512 levels deep. So no engine sees
// in it what the reader did not: a field that comes twice counts as it came last, as in Python, and
// names count with their escapes undone.
//
// THREADS: loop-bound (scratch is reused).
// COST: one pass: 0.1 to 0.3 ms a MB of text, more with more escapes; 3 ms a MB of token ids.
// Memory beside the body: the text of strings that hold escapes, four bytes a token id, 24 bytes a
// prompt part (at most 262,144 parts, what lies beyond counts into extra_tokens only). All but 400
// KiB of it is given back at the next Read.
class BodyReader {
 public:
  BodyReader();
  ~BodyReader();

  // Fills request->{api, model, stream, max_output_tokens, cache_salt, extra_tokens, body_bytes,
  // prompt}. request->prompt points into `body` and this reader's scratch: valid until the next
  // Read. `splices` gets what must be cut: every kv_transfer_params at the top level (only the
  // router may set it). For kOther only "model" is read, and kept when it is a string; a body that
  // does not begin like a JSON object is passed unread.
  //
  // Errors (400), with the code: invalid_utf8 and invalid_json (with the byte offset),
  // nesting_too_deep, invalid_value (a model's name above 1024 bytes), invalid_type (names field,
  // expected and found type), missing_field ("model" for all but kTokenize and kOther; "messages",
  // "prompt", "input", ...), duplicate_field (kv_transfer_params above 16 times). Of the fields
  // inside of messages only those are held to their type without which the message cannot be read;
  // the rest is the engine's to judge.
  std::expected<void, ApiError> Read(model::Api api, const std::string& body,
                                     model::Request* request, std::vector<Splice>* splices);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Headers of a client request that are not forwarded: those that only the router may set
// (x-gateway-destination-endpoint and its relatives, x-prefiller-host-port, x-encoder-hosts-ports,
// x-data-parallel-host-port, x-kv-cache-source-host-port, ...) and those that only the router reads
// (objective, fairness id, model rewrite, SLOs, video hints and their older names, epp-profile).
// Session headers, cookie, prefer, x-request-id and trace headers are not among them.
bool IsControlHeader(std::string_view name);

}  // namespace penstock::api
