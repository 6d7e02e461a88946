// Finds in the body of a gRPC request, which is one message with its prefix, the fields that
// matter.
//
// THREADS: belongs to its caller. OWNS: nothing; views point into the body.
// SOURCE: grpc doc/PROTOCOL-HTTP2.md; vllm_engine.proto of vLLM, prediction_service.proto of Vertex
// AI, google/api/httpbody.proto; spec endpoint-picker 4.3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "api/media_marks.h"
#include "api/prompt_reader.h"
#include "api/request.h"

namespace penstock::api {

// The one message of a body; an error (400) when it is compressed, cut off or not alone.
std::expected<std::string_view, ApiError> UnframeGrpc(std::string_view body);

// What vllm.grpc.engine says beside the prompt.
struct VllmRequest {
  bool stream = false;
  uint32_t max_tokens = 0;
  std::vector<Splice> cuts;  // KV transfer parameters, which only the router may set
};

// Reads a body that holds a GenerateRequest or, for kVllmEmbed, an EmbedRequest. Text and token ids
// go into section 0 of `prompt`.
std::expected<VllmRequest, ApiError> ReadVllmRequest(model::Api api, std::string_view body,
                                                     PromptReader* prompt, MediaMarks* marks);

// Where in a body the data of a google.api.HttpBody stand, and what has to change with their size.
struct HttpBodyPlace {
  std::string_view data;
  size_t data_begin = 0;
  // The lengths of the HttpBody and of its data, as offsets in the body.
  size_t outer_begin = 0, outer_end = 0, outer_bytes = 0;
  size_t inner_begin = 0, inner_end = 0;
};
// In a request of Vertex AI's PredictionService. An error when it has none or several.
std::expected<HttpBodyPlace, ApiError> FindHttpBody(std::string_view body);

// Adds to the sorted edits of what lies inside what they change around it: the prefix of the
// message, and the lengths of `place` when there is one.
void FixLengths(std::string_view body, const HttpBodyPlace* place, std::vector<Splice>* splices);

}  // namespace penstock::api
