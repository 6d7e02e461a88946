// Reads the bodies of the APIs that engines serve: the few fields that matter, and what must be cut
// out before the engine sees the body. Unknown fields stay as they came; edits are splices of the
// original bytes.
//
// SOURCE: OpenAI API reference, Anthropic Messages API, vLLM server; spec endpoint-picker 4.3.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/parsers.h"
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

// {"error":{"message":...,"type":...,"param":...,"code":...}}; for kMessages and kCountTokens
// Anthropic's {"type":"error","error":{"type":...,"message":...}}. Valid JSON whatever bytes the
// message holds.
std::string RenderError(const ApiError& error, model::Api api);

// POST routes of the gateway: ParserSet::Default() by whole paths ("/v1/chat/completions", also
// without /v1, and /v2/rerank).
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

// The size of the body with its splices applied.
size_t SplicedSize(size_t body_bytes, const std::vector<Splice>& splices);

// What may be edited in a body that was read, for as long as the request lives.
//
// THREADS: belongs to its request.
class BodyEdits {
 public:
  // Every "model" at the top level, as whichever the engine takes, gets this value. A later call
  // takes the place of an earlier one. False, and nothing is done, when the body names no model or
  // is no JSON text of its own (gRPC).
  bool RewriteModel(std::string_view model);
  // The object gets one more field. Where the body has it already, engines take the body's; of
  // kv_transfer_params every other is cut. False, and nothing is done, when the body is no JSON
  // object of its own. REQUIRES: `json` is one valid JSON value.
  bool AddField(std::string_view name, std::string_view json);

  // All edits, sorted, without overlaps; those of Read, too.
  std::vector<Splice> Splices() const;

 private:
  friend class BodyReader;
  void Clear();

  struct Span {
    size_t begin, end;
  };

  std::vector<Splice> cuts_;
  std::vector<Span> models_;          // the values
  std::optional<std::string> model_;  // with its quotes
  std::optional<size_t> inside_;      // behind the bracket that opens the object
  bool has_fields_ = false;           // the object is not empty once the cuts are made
  std::string fields_;                // those added, with a comma between them
};

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

  // Reads what came by a route of ParserSet. Fills request->{api, model, stream, max_output_tokens,
  // cache_salt, extra_tokens, body_bytes, prompt, source}. request->prompt and source point into
  // `body` and this reader's scratch: valid until the next Read. `edits` begins with what must be
  // cut, for only the router may set it: every kv_transfer_params at the top level, and in
  // sampling_params.extra_args of token APIs; both of its fields in vLLM's gRPC messages, which
  // name no model. For kOther and kCountTokens only "model" is read, and kept when it is a string;
  // a body that does not begin like a JSON object is passed unread. Renders and images compute no
  // KV cache: they are held to their required fields but have no prompt.
  //
  // Errors (400), with the code: invalid_utf8 and invalid_json (with the byte offset),
  // nesting_too_deep, invalid_value (a model's name above 1024 bytes), invalid_type (names field,
  // expected and found type), missing_field ("model" for all but kTokenize, kConversations,
  // kVllmGenerate, kSglangGenerate, kCountTokens and kOther; "messages", "prompt", "input", ...),
  // duplicate_field (kv_transfer_params or model above 16 times, http_body above once); for gRPC
  // compressed, invalid_grpc and invalid_protobuf. Of the fields inside of messages only those are
  // held to their type without which the message cannot be read; the rest is the engine's to judge.
  std::expected<void, ApiError> Read(const Route& route, const std::string& body,
                                     model::Request* request, BodyEdits* edits);

  // So for a JSON text whose API is known; only the cuts come back.
  std::expected<void, ApiError> Read(model::Api api, const std::string& body,
                                     model::Request* request, std::vector<Splice>* splices);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// IsControlHeader of a name that begins with one of their letters.
bool IsControlHeaderOfItsLetter(std::string_view name);

// Headers of a client request that are not forwarded: those that only the router may set
// (x-gateway-destination-endpoint and its relatives, x-prefiller-host-port, x-encoder-hosts-ports,
// x-data-parallel-host-port, x-kv-cache-source-host-port, ...) and those that only the router reads
// (objective, fairness id, model rewrite, SLOs, video hints and their older names, epp-profile).
// Session headers, cookie, prefer, x-request-id and trace headers are not among them.
inline bool IsControlHeader(std::string_view name) {
  // Half of a request's headers begin otherwise.
  const char first = name.empty() ? '\0' : static_cast<char>(name[0] | 0x20);
  return (first == 'x' || first == 't' || first == 'e') && IsControlHeaderOfItsLetter(name);
}

}  // namespace penstock::api
