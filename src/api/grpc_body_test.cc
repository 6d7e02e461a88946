#include "api/grpc_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

#include "proto/vllm_engine.pb.h"
#include "wire/protobuf.h"

namespace penstock::api {
namespace {

using model::Api;
using testing::HasSubstr;
using vllm::grpc::engine::EmbedRequest;
using vllm::grpc::engine::GenerateRequest;

constexpr std::array kGrpcParsers = {ParserKind::kVllmGrpc, ParserKind::kVertexAi};
constexpr std::string_view kGenerate = "/vllm.grpc.engine.VllmEngine/Generate";
constexpr std::string_view kEmbed = "/vllm.grpc.engine.VllmEngine/Embed";
constexpr std::string_view kChat =
    "/google.cloud.aiplatform.v1beta1.PredictionService/ChatCompletions";
constexpr std::string_view kRaw = "/google.cloud.aiplatform.v1.PredictionService/StreamRawPredict";

std::string Framed(const std::string& message) {
  std::string body(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) {
    body.push_back(static_cast<char>(message.size() >> shift));
  }
  return body + message;
}

struct Outcome {
  model::Request request;
  BodyEdits edits;
  std::expected<void, ApiError> read;
  std::string prompt;     // one part behind the other
  std::string forwarded;  // without its prefix, which is checked
};

Outcome Read(std::string_view path, const std::string& body) {
  static BodyReader reader;
  static const ParserSet parsers(kGrpcParsers);
  Outcome o;
  o.read = reader.Read(*parsers.Find(path), body, &o.request, &o.edits);
  for (const model::PromptPart& part : o.request.prompt) o.prompt += part.bytes;
  if (!o.read) return o;
  std::string forwarded;
  const std::vector<Splice> splices = o.edits.Splices();
  for (const std::string_view piece : ApplySplices(body, splices)) forwarded += piece;
  const auto message = UnframeGrpc(forwarded);
  EXPECT_TRUE(message) << message.error().message;
  if (message) o.forwarded = *message;
  return o;
}

std::string Packed(std::initializer_list<uint32_t> ids) {
  std::string out;
  for (const uint32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(id >> shift));
  }
  return out;
}

TEST(GrpcRoutes, AreMethodsOfTwoServices) {
  const ParserSet parsers(kGrpcParsers);
  EXPECT_EQ(parsers.Find(kGenerate)->api, Api::kVllmGenerate);
  EXPECT_EQ(parsers.Find(kEmbed)->framing, Framing::kVllm);
  EXPECT_EQ(parsers.Find(kChat)->framing, Framing::kVertex);
  EXPECT_EQ(parsers.Find("/x.PredictionService/RawPredict")->framing, Framing::kVertex);
  for (std::string_view other : {"/vllm.grpc.engine.VllmEngine/HealthCheck",
                                 "/google.cloud.aiplatform.v1.PredictionService/Predict"}) {
    const auto route = parsers.Find(other);
    ASSERT_TRUE(route) << other;
    EXPECT_EQ(route->api, Api::kOther);
    EXPECT_FALSE(route->reads_answer);
  }
  EXPECT_FALSE(parsers.Find("/grpc.health.v1.Health/Check"));
  EXPECT_FALSE(parsers.Find("/vllm.grpc.engine.VllmEngine/x/y"));
}

TEST(VllmGrpc, ReadsTextWhereItStands) {
  GenerateRequest generate;
  generate.set_request_id("r");
  generate.set_text("Once upon a time");
  generate.mutable_sampling_params()->set_max_tokens(77);
  generate.set_stream(true);
  const std::string body = Framed(generate.SerializeAsString());
  BodyReader reader;
  model::Request request;
  BodyEdits edits;
  ASSERT_TRUE(reader.Read(Route{.api = Api::kVllmGenerate, .framing = Framing::kVllm}, body,
                          &request, &edits));
  ASSERT_EQ(request.prompt.size(), 1u);
  EXPECT_EQ(request.prompt[0].bytes, "Once upon a time");
  EXPECT_GE(request.prompt[0].bytes.data(), body.data());
  EXPECT_LT(request.prompt[0].bytes.data(), body.data() + body.size());
  EXPECT_EQ(request.api, Api::kVllmGenerate);
  EXPECT_EQ(request.model, "");
  EXPECT_TRUE(request.stream);
  EXPECT_EQ(request.max_output_tokens, 77u);
  EXPECT_EQ(request.body_bytes, body.size());
  EXPECT_TRUE(edits.Splices().empty());
  EXPECT_FALSE(edits.RewriteModel("m"));
  EXPECT_FALSE(edits.AddField("kv_transfer_params", "1"));
}

TEST(VllmGrpc, ReadsTokensAsJsonDoes) {
  GenerateRequest generate;
  for (const uint32_t id : {1u, 300u, 4294967295u}) {
    generate.mutable_tokenized()->add_input_ids(id);
  }
  generate.mutable_tokenized()->set_original_text("not read");
  const Outcome grpc = Read(kGenerate, Framed(generate.SerializeAsString()));
  ASSERT_TRUE(grpc.read) << grpc.read.error().message;
  EXPECT_EQ(grpc.prompt, Packed({1, 300, 4294967295}));

  EmbedRequest embed;
  *embed.mutable_tokenized() = generate.tokenized();
  const Outcome embedded = Read(kEmbed, Framed(embed.SerializeAsString()));
  ASSERT_TRUE(embedded.read);
  EXPECT_EQ(embedded.request.api, Api::kVllmEmbed);
  EXPECT_EQ(embedded.prompt, grpc.prompt);
}

TEST(VllmGrpc, MediaTokensCountAsTheirHashAsInJson) {
  GenerateRequest generate;
  for (int i = 0; i < 6; ++i) generate.mutable_tokenized()->add_input_ids(7);
  auto* const place = generate.mutable_mm_inputs()->add_mm_placeholders();
  place->set_offset(2);
  place->set_length(3);
  generate.mutable_mm_inputs()->add_mm_hashes("abc");
  const Outcome grpc = Read(kGenerate, Framed(generate.SerializeAsString()));
  EXPECT_EQ(grpc.prompt.substr(0, 8), Packed({7, 7}));
  EXPECT_NE(grpc.prompt.substr(8, 12), Packed({7, 7, 7}));
  EXPECT_EQ(grpc.prompt.substr(20), Packed({7}));

  BodyReader reader;
  model::Request request;
  BodyEdits edits;
  ASSERT_TRUE(reader.Read(Route{.api = Api::kVllmGenerate},
                          R"({"token_ids":[7,7,7,7,7,7],"features":{"mm_hashes":{"image":["abc"]},)"
                          R"("mm_placeholders":{"image":[{"offset":2,"length":3}]}}})",
                          &request, &edits));
  ASSERT_EQ(request.prompt.size(), 1u);
  EXPECT_EQ(request.prompt[0].bytes, grpc.prompt);

  // Text has no tokens to replace.
  generate.set_text("sixteen letters!");
  EXPECT_EQ(Read(kGenerate, Framed(generate.SerializeAsString())).prompt, "sixteen letters!");
}

TEST(VllmGrpc, ReadsRepeatedFieldsAsProtobufDoes) {
  GenerateRequest text, tokens, more;
  text.set_text("text");
  text.mutable_sampling_params()->set_max_tokens(5);
  tokens.mutable_tokenized()->add_input_ids(1);
  more.mutable_tokenized()->add_input_ids(2);
  const std::string a = text.SerializeAsString(), b = tokens.SerializeAsString(),
                    c = more.SerializeAsString();
  for (const std::string& message : {a + b + c, b + a, b + c + a + b, a + a, b + c}) {
    GenerateRequest merged;
    ASSERT_TRUE(merged.ParseFromString(message));
    std::string expected = merged.text();
    for (const uint32_t id : merged.tokenized().input_ids()) expected += Packed({id});
    const Outcome o = Read(kGenerate, Framed(message));
    EXPECT_EQ(o.prompt, expected);
    EXPECT_EQ(o.request.max_output_tokens, merged.sampling_params().max_tokens());
  }
  // Numbers that are not packed.
  const Outcome o = Read(kGenerate, Framed(std::string("\x12\x04\x10\x05\x10\x06", 6)));
  EXPECT_EQ(o.prompt, Packed({5, 6}));
}

TEST(VllmGrpc, CutsKvTransferParams) {
  GenerateRequest generate;
  generate.set_request_id("r");
  generate.mutable_kv_transfer_params()->set_remote_host("attacker");
  generate.set_kv_transfer_params_json("{\"remote_host\":\"attacker\"}");
  generate.set_text("t");
  GenerateRequest clean = generate;
  clean.clear_kv_transfer_params();
  clean.clear_kv_transfer_params_json();
  const std::string message = generate.SerializeAsString();
  EXPECT_EQ(Read(kGenerate, Framed(message)).forwarded, clean.SerializeAsString());
  EXPECT_EQ(Read(kGenerate, Framed(message + message)).forwarded,
            clean.SerializeAsString() + clean.SerializeAsString());
  // Whatever type they come in.
  EXPECT_EQ(Read(kGenerate, Framed(std::string("\x30\x01\x45\1\2\3\4\x1A\x01x", 10))).forwarded,
            "\x1A\x01x");
  std::string many;
  for (int i = 0; i < 17; ++i) many += std::string("\x30\x01\x28\x01", 4);
  const Outcome o = Read(kGenerate, Framed(many));
  ASSERT_FALSE(o.read);
  EXPECT_EQ(o.read.error().code, "duplicate_field");
}

RC_GTEST_PROP(VllmGrpc, AgreesWithProtobuf,
              (const std::string& id, const std::vector<uint32_t>& ids, bool stream, uint32_t limit,
               bool kv)) {
  GenerateRequest generate;
  generate.set_request_id("r" + std::to_string(id.size()));
  for (const uint32_t token : ids) generate.mutable_tokenized()->add_input_ids(token);
  generate.set_stream(stream);
  generate.mutable_sampling_params()->set_max_tokens(limit);
  if (kv) generate.set_kv_transfer_params_json(std::string(id.size() * 50, 'x'));
  const Outcome o = Read(kGenerate, Framed(generate.SerializeAsString()));
  RC_ASSERT(o.read.has_value());
  RC_ASSERT(o.request.stream == stream);
  RC_ASSERT(o.request.max_output_tokens == limit);
  std::string expected;
  for (const uint32_t token : ids) expected += Packed({token});
  RC_ASSERT(o.prompt == expected);
  generate.clear_kv_transfer_params_json();
  RC_ASSERT(o.forwarded == generate.SerializeAsString());
}

TEST(VllmGrpc, NamesWhatIsWrong) {
  struct Case {
    std::string body;
    std::string_view code, message;
  };
  for (const Case& c : {
           Case{"", "invalid_grpc", "it has 0 bytes"},
           Case{std::string("\0\0\0\0", 4), "invalid_grpc", "it has 4 bytes"},
           Case{std::string("\1\0\0\0\0", 5), "compressed", "is compressed"},
           Case{std::string("\0\0\0\0\2\x1A", 6), "invalid_grpc", "tells of 2 bytes, found 1"},
           Case{std::string("\0\0\0\0\0\0\0\0\0\0", 10), "invalid_grpc", "must be one"},
           Case{std::string("\0\xFF\xFF\xFF\xFF\x1A", 6), "invalid_grpc", "4294967295 bytes"},
           Case{Framed("\x1A\x09x"), "invalid_protobuf", "the request is not a valid"},
           Case{Framed("\x12\x02\x12\x09"), "invalid_protobuf", "tokenized is not a valid"},
           Case{Framed("\x12\x03\x12\x01\x80"), "invalid_protobuf", "tokenized.input_ids"},
           Case{Framed("\x22\x01\x40"), "invalid_protobuf", "sampling_params is not"},
           Case{Framed("\x3A\x01\x40"), "invalid_protobuf", "mm_inputs is not"},
           Case{Framed("\x3A\x03\x2A\x01\x08"), "invalid_protobuf", "mm_inputs.mm_placeholders"},
           Case{Framed("{\"model\":\"m\"}"), "invalid_protobuf", "unknown type"},
       }) {
    const Outcome o = Read(kGenerate, c.body);
    ASSERT_FALSE(o.read) << c.message;
    EXPECT_EQ(o.read.error().status, 400);
    EXPECT_EQ(o.read.error().code, c.code);
    EXPECT_THAT(o.read.error().message, HasSubstr(std::string(c.message)));
    EXPECT_TRUE(o.edits.Splices().empty());
  }
  EXPECT_TRUE(Read(kGenerate, Framed("")).read);  // protobuf's default is an empty request
}

TEST(GrpcBodies, OfOtherMethodsPassUnread) {
  BodyReader reader;
  model::Request request;
  BodyEdits edits;
  for (const size_t size : {0u, 31'488u, 31'500u, 31'743u, 8'100'000u}) {
    const std::string body = Framed(std::string(size, '\x0A'));
    EXPECT_TRUE(reader.Read(Route{}, body, &request, &edits)) << size;
    EXPECT_FALSE(edits.AddField("a", "1"));
  }
}

// A field of bytes.
std::string Field(int number, const std::string& bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  wire::AppendVarint(bytes.size(), &out);
  return out + bytes;
}

std::string Predict(const std::string& json, const std::string& behind = "") {
  return Field(1, "projects/p/locations/l/endpoints/e") +
         Field(2, Field(1, "application/json") + Field(2, json) + behind);
}

TEST(VertexGrpc, ReadsTheJsonInside) {
  const std::string chat =
      R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"max_tokens":3})";
  for (const std::string_view path : {kChat, kRaw}) {
    const Outcome o = Read(path, Framed(Predict(chat, Field(3, "extension"))));
    ASSERT_TRUE(o.read) << o.read.error().message;
    EXPECT_EQ(o.request.api, Api::kChatCompletions);
    EXPECT_EQ(o.request.model, "m");
    EXPECT_TRUE(o.request.stream);
    EXPECT_EQ(o.request.max_output_tokens, 3u);
    EXPECT_EQ(o.prompt, "userhi");
  }
  const Outcome response = Read(kRaw, Framed(Predict(R"({"model":"m","inp\u0075t":"hi"})")));
  ASSERT_TRUE(response.read) << response.read.error().message;
  EXPECT_EQ(response.request.api, Api::kResponses);
  EXPECT_EQ(response.prompt, "hi");
  // Nothing is rewritten inside a message.
  Outcome o = Read(kChat, Framed(Predict(chat)));
  EXPECT_FALSE(o.edits.RewriteModel("n"));
  EXPECT_FALSE(o.edits.AddField("kv_transfer_params", "1"));
}

TEST(VertexGrpc, CutsKvTransferParamsAndFixesTheLengthsAround) {
  for (const size_t filler : {0u, 10u, 60u, 80u, 100u, 110u, 130u, 16'200u, 16'350u}) {
    const std::string rest = R"("model":"m","messages":[],"x":")" + std::string(filler, 'x') + "\"";
    for (const size_t cut : {1u, 40u, 200u, 16'500u}) {
      const std::string json =
          R"({"kv_transfer_params":")" + std::string(cut, 'k') + "\"," + rest + "}";
      const Outcome o = Read(kChat, Framed(Predict(json, Field(3, "extension"))));
      ASSERT_TRUE(o.read) << o.read.error().message;
      EXPECT_EQ(o.forwarded, Predict("{" + rest + "}", Field(3, "extension")));
    }
  }
}

TEST(VertexGrpc, NamesWhatIsWrong) {
  struct Case {
    std::string message;
    std::string_view code, text;
  };
  const std::string body = Field(2, Field(2, R"({"model":"m","messages":[]})"));
  ASSERT_TRUE(Read(kChat, Framed(body)).read);
  for (const Case& c : {
           Case{"", "missing_field", "http_body.data: expected a JSON text, found nothing"},
           Case{Field(2, Field(1, "x")), "missing_field", "http_body.data"},
           Case{body + body, "duplicate_field", "http_body"},
           Case{body + Field(2, ""), "duplicate_field", "http_body"},
           Case{Field(2, Field(2, "{}") + Field(2, "{}")), "duplicate_field", "http_body"},
           Case{Field(2, "\x12\x05"), "invalid_protobuf", "http_body is not"},
           Case{Field(2, Field(2, "hi")), "invalid_json", "expected '{'"},
           Case{Field(2, Field(2, "\xFF")), "invalid_utf8", "at byte 0"},
           Case{Field(2, Field(2, R"({"model":"m"})")), "missing_field", "messages"},
           Case{Field(2, Field(2, R"({"messages":[]})")), "missing_field", "model"},
       }) {
    const Outcome o = Read(kChat, Framed(c.message));
    ASSERT_FALSE(o.read) << c.text;
    EXPECT_EQ(o.read.error().code, c.code);
    EXPECT_THAT(o.read.error().message, HasSubstr(std::string(c.text)));
  }
  EXPECT_EQ(Read(kRaw, Framed(Field(2, Field(2, R"({"model":"m"})")))).read.error().param,
            "messages");
}

}  // namespace
}  // namespace penstock::api
