// Any bytes as the body of any API: what is read without an error is JSON that simdjson reads
// alike, and what is forwarded is the same object without kv_transfer_params, or with the router's
// and another model.
#include <simdjson.h>

#include <cstdint>
#include <cstdlib>

#include "api/request.h"

namespace {

using penstock::api::ApiError;
using penstock::api::BodyReader;
using penstock::model::Api;

void Check(bool holds) {
  if (!holds) std::abort();
}

bool IsInside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

// What simdjson cannot say about the text although it is JSON: numbers beyond its types and lone
// surrogates.
bool IsBeyondSimdjson(simdjson::error_code error) {
  return error == simdjson::NUMBER_ERROR || error == simdjson::STRING_ERROR;
}

// Calls `check` for every field of what is forwarded.
template <class Field>
void CheckForwarded(std::string_view body, const std::vector<penstock::api::Splice>& splices,
                    Field check) {
  std::string forwarded;
  for (std::string_view piece : penstock::api::ApplySplices(body, splices)) forwarded += piece;
  Check(forwarded.size() == penstock::api::SplicedSize(body.size(), splices));
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  const simdjson::error_code error = parser.parse(forwarded).get_object().get(object);
  if (IsBeyondSimdjson(error)) return;
  Check(error == simdjson::SUCCESS);
  for (const auto field : object) check(field.key, field.value);
}

void CheckCuts(std::string_view body, const std::vector<penstock::api::Splice>& splices) {
  CheckForwarded(body, splices, [](std::string_view key, const simdjson::dom::element&) {
    Check(key != "kv_transfer_params");
  });
}

void CheckEdits(std::string_view body, penstock::api::BodyEdits edits) {
  const bool rewrites = edits.RewriteModel("a \"model\"");
  Check(edits.AddField("kv_transfer_params", "{\"a\":1}"));
  size_t models = 0, params = 0;
  CheckForwarded(body, edits.Splices(), [&](std::string_view key, simdjson::dom::element value) {
    if (key == "model") {
      ++models;
      Check(value.is_string() && std::string_view(value) == "a \"model\"");
    } else if (key == "kv_transfer_params") {
      ++params;
      Check(value.is_object());
    }
  });
  Check(params <= 1 && (rewrites || models == 0));
}

void CheckPrompt(const penstock::model::Request& request) {
  uint64_t bytes = 0;
  for (const auto& part : request.prompt) {
    for (const char c : part.bytes) bytes += static_cast<unsigned char>(c) & 1;
  }
  Check(bytes <= 4 * request.body_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static BodyReader reader;
  const auto api = static_cast<Api>(data[0] % (static_cast<unsigned>(Api::kOther) + 1));
  const std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
  penstock::model::Request request;
  penstock::api::BodyEdits edits;
  const auto read = reader.Read({.api = api}, body, &request, &edits);
  const std::vector<penstock::api::Splice> splices = edits.Splices();
  if (!read) {
    Check(splices.empty() && read.error().status == 400 && !read.error().code.empty());
    simdjson::dom::parser parser;
    const std::string error = RenderError(read.error(), api);
    Check(parser.parse(error).error() == simdjson::SUCCESS);
    return 0;
  }
  CheckPrompt(request);
  for (const auto& splice : splices) {
    Check(splice.begin < splice.end && splice.end <= body.size());
    Check(IsInside(std::string_view(body).substr(splice.begin, splice.end - splice.begin), body));
  }
  // A body of another API may be anything.
  const bool is_passed = api == Api::kOther || api == Api::kCountTokens || api == Api::kVllmEmbed;
  if (!is_passed || !splices.empty() || !request.model.empty()) {
    CheckCuts(body, splices);
    CheckEdits(body, edits);
  }
  return 0;
}
