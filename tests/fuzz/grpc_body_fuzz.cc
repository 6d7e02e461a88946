// Any bytes as the body of a gRPC request: what protobuf reads, too, is read alike, and what is
// forwarded is the same message without KV transfer parameters.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "api/grpc_body.h"
#include "api/request.h"
#include "proto/vllm_engine.pb.h"

namespace {

using namespace penstock::api;
using penstock::model::Api;
using vllm::grpc::engine::GenerateRequest;

void Check(bool holds) {
  if (!holds) std::abort();
}

void CheckAgainstProtobuf(const penstock::model::Request& request, std::string_view before,
                          std::string_view after) {
  GenerateRequest generate, forwarded;
  if (!generate.ParseFromArray(before.data(), static_cast<int>(before.size()))) return;
  Check(forwarded.ParseFromArray(after.data(), static_cast<int>(after.size())));
  Check(!forwarded.has_kv_transfer_params() && !forwarded.has_kv_transfer_params_json());
  Check(forwarded.text() == generate.text() && forwarded.request_id() == generate.request_id());
  Check(request.stream == generate.stream());
  Check(request.max_output_tokens == generate.sampling_params().max_tokens());
  std::string expected = generate.text();
  for (const uint32_t id : generate.tokenized().input_ids()) {
    for (int shift = 0; shift < 32; shift += 8) expected.push_back(static_cast<char>(id >> shift));
  }
  std::string prompt;
  for (const auto& part : request.prompt) prompt += part.bytes;
  Check(prompt.size() == expected.size());
  if (generate.mm_inputs().mm_hashes_size() == 0) Check(prompt == expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static BodyReader reader;
  constexpr Route kRoutes[] = {
      {ParserKind::kVllmGrpc, Api::kVllmGenerate, Framing::kVllm},
      {ParserKind::kVllmGrpc, Api::kVllmEmbed, Framing::kVllm},
      {ParserKind::kVertexAi, Api::kChatCompletions, Framing::kVertex},
      {ParserKind::kVertexAi, Api::kOther, Framing::kVertex},
  };
  const Route& route = kRoutes[data[0] % std::size(kRoutes)];
  const std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
  penstock::model::Request request;
  BodyEdits edits;
  const auto read = reader.Read(route, body, &request, &edits);
  const std::vector<Splice> splices = edits.Splices();
  if (!read) {
    Check(splices.empty() && read.error().status == 400 && !read.error().code.empty());
    return 0;
  }
  Check(!edits.RewriteModel("m") && !edits.AddField("f", "1"));
  std::string forwarded;
  for (const std::string_view piece : ApplySplices(body, splices)) forwarded += piece;
  Check(forwarded.size() == SplicedSize(body.size(), splices));
  const auto before = UnframeGrpc(body);
  const auto after = UnframeGrpc(forwarded);
  Check(before.has_value() && after.has_value());
  if (route.api == Api::kVllmGenerate) CheckAgainstProtobuf(request, *before, *after);

  // What was forwarded is read as the body was, and needs no cuts.
  std::string prompt, again;
  for (const auto& part : request.prompt) prompt += part.bytes;
  penstock::model::Request same;
  Check(reader.Read(route, forwarded, &same, &edits).has_value());
  Check(edits.Splices().empty());
  for (const auto& part : same.prompt) again += part.bytes;
  Check(again == prompt && same.model == request.model && same.api == request.api);
  return 0;
}
