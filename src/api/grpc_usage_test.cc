#include "api/grpc_usage.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "api/usage.h"
#include "proto/vllm_engine.pb.h"
#include "wire/protobuf.h"

namespace penstock::api {
namespace {

using Format = UsageScanner::Format;
using vllm::grpc::engine::EmbedResponse;
using vllm::grpc::engine::GenerateResponse;

std::string Framed(const std::string& message) {
  std::string body(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) {
    body.push_back(static_cast<char>(message.size() >> shift));
  }
  return body + message;
}

struct Found {
  Usage usage;
  uint64_t events;
  bool saw_error;
};

// What is found in every way to cut the answer into equal pieces, which has to be the same.
Found Scan(Format format, const std::string& answer) {
  std::optional<Found> found;
  for (const size_t piece : {answer.size() + 1, size_t{1}, size_t{2}, size_t{3}, size_t{7}}) {
    UsageScanner scanner(format);
    for (size_t at = 0; at < answer.size(); at += piece) {
      scanner.Feed(std::string_view(answer).substr(at, piece));
    }
    scanner.Finish();
    if (!found) found = {scanner.usage(), scanner.events(), scanner.saw_error_event()};
    EXPECT_EQ(scanner.usage().found, found->usage.found);
    EXPECT_EQ(scanner.usage().input_tokens, found->usage.input_tokens);
    EXPECT_EQ(scanner.usage().output_tokens, found->usage.output_tokens);
    EXPECT_EQ(scanner.usage().cached_known, found->usage.cached_known);
    EXPECT_EQ(scanner.usage().cached_tokens, found->usage.cached_tokens);
    EXPECT_EQ(scanner.events(), found->events);
    EXPECT_EQ(scanner.saw_error_event(), found->saw_error);
  }
  return *found;
}

GenerateResponse Chunk(uint32_t prompt, uint32_t completion, uint32_t cached) {
  GenerateResponse response;
  for (uint32_t id : {7u, 300u, 100'000u}) response.mutable_chunk()->add_token_ids(id);
  response.mutable_chunk()->set_prompt_tokens(prompt);
  response.mutable_chunk()->set_completion_tokens(completion);
  response.mutable_chunk()->set_cached_tokens(cached);
  return response;
}

std::string Bytes(const google::protobuf::MessageLite& message) {
  return Framed(message.SerializeAsString());
}

TEST(GrpcUsage, IsThatOfTheLastChunkOrOfTheEnd) {
  std::string answer = Bytes(Chunk(20, 1, 16)) + Bytes(Chunk(20, 200, 16));
  const Found chunks = Scan(Format::kVllmGenerate, answer);
  EXPECT_TRUE(chunks.usage.found);
  EXPECT_EQ(chunks.usage.input_tokens, 20u);
  EXPECT_EQ(chunks.usage.output_tokens, 200u);
  EXPECT_TRUE(chunks.usage.cached_known);
  EXPECT_EQ(chunks.usage.cached_tokens, 16u);
  EXPECT_EQ(chunks.events, 2u);

  GenerateResponse end;
  end.mutable_complete()->add_output_ids(9);
  end.mutable_complete()->set_finish_reason("stop");
  end.mutable_complete()->set_prompt_tokens(21);
  end.mutable_complete()->set_completion_tokens(300);
  end.mutable_complete()->set_cached_tokens(17);
  const Found whole = Scan(Format::kVllmGenerate, answer + Bytes(end));
  EXPECT_EQ(whole.usage.input_tokens, 21u);
  EXPECT_EQ(whole.usage.output_tokens, 300u);
  EXPECT_EQ(whole.usage.cached_tokens, 17u);
  EXPECT_EQ(whole.events, 3u);
}

TEST(GrpcUsage, ZeroIsNotOnTheWire) {
  const Found found = Scan(Format::kVllmGenerate, Bytes(Chunk(20, 5, 0)));
  EXPECT_TRUE(found.usage.cached_known);
  EXPECT_EQ(found.usage.cached_tokens, 0u);
  const Found none = Scan(Format::kVllmGenerate, Bytes(Chunk(0, 0, 0)) + Framed(""));
  EXPECT_FALSE(none.usage.found);
  EXPECT_FALSE(none.usage.cached_known);
  EXPECT_EQ(none.events, 2u);
}

TEST(GrpcUsage, OfEmbeddingsIsThePrompt) {
  EmbedResponse response;
  for (int i = 0; i < 4096; ++i) response.add_embedding(0.5f);
  response.set_prompt_tokens(9);
  const Found found = Scan(Format::kVllmEmbed, Bytes(response));
  EXPECT_TRUE(found.usage.found);
  EXPECT_EQ(found.usage.input_tokens, 9u);
  EXPECT_FALSE(found.usage.cached_known);
}

TEST(GrpcUsage, PassesWhatIsMalformedToTheEndOfItsMessage) {
  const std::string good = Bytes(Chunk(20, 5, 3));
  for (const std::string& bad : {
           std::string("\x0B"),                         // a group
           std::string("\x0A\x7F\x10\x05", 4),          // longer than the message
           std::string("\x0A\x02\x10\x80\x10\x05", 6),  // a number longer than its message
           std::string("\x0A\x02\x3A\x05", 4),          // a text longer than its message
           std::string("\x0A\x01\x15\x10\x05", 5),      // four bytes that are not there
           std::string("\x0A", 1) + std::string(12, '\xFF'), std::string("\x80", 1),
           std::string("\x10\x05", 2),  // a count where none belongs
       }) {
    const Found found = Scan(Format::kVllmGenerate, Framed(bad));
    EXPECT_FALSE(found.usage.found) << bad.size();
    const Found after = Scan(Format::kVllmGenerate, Framed(bad) + good);
    EXPECT_EQ(after.usage.output_tokens, 5u);
    EXPECT_EQ(after.events, 2u);
  }
  // So is a compressed message.
  std::string compressed = Bytes(Chunk(1, 2, 3));
  compressed[0] = 1;
  EXPECT_FALSE(Scan(Format::kVllmGenerate, compressed).usage.found);
  EXPECT_EQ(Scan(Format::kVllmGenerate, compressed + good).usage.output_tokens, 5u);
  EXPECT_FALSE(Scan(Format::kVllmGenerate, good.substr(0, 4)).usage.found);
}

std::string HttpBody(const std::string& data) {
  std::string message = "\x0A\x10";
  message += "application/json\x12";
  wire::AppendVarint(data.size(), &message);
  return Framed(message + data);
}

TEST(GrpcUsage, OfVertexIsInTheText) {
  const std::string usage =
      R"("usage":{"prompt_tokens":31,"completion_tokens":17,"prompt_tokens_details":)"
      R"({"cached_tokens":16}})";
  const Found json = Scan(Format::kVertex, HttpBody("{\"choices\":[],\"usage\":null}") +
                                               HttpBody("") + HttpBody("{" + usage + "}"));
  EXPECT_EQ(json.usage.input_tokens, 31u);
  EXPECT_EQ(json.usage.output_tokens, 17u);
  EXPECT_EQ(json.usage.cached_tokens, 16u);
  EXPECT_EQ(json.events, 3u);

  // Events may begin in one message and end in the next.
  const Found events =
      Scan(Format::kVertex, HttpBody("data: {\"choices\":[]}\n\nda") + HttpBody("ta: {" + usage) +
                                HttpBody("}\n\ndata: [DONE]\n\n"));
  EXPECT_EQ(events.usage.output_tokens, 17u);
  EXPECT_EQ(events.events, 2u);
  EXPECT_TRUE(Scan(Format::kVertex, HttpBody("data: {\"error\":{}}\n\n")).saw_error);
  EXPECT_FALSE(Scan(Format::kVertex, HttpBody("<html>") + Framed("\x12\x7Fx")).usage.found);
}

RC_GTEST_PROP(GrpcUsage, AnyCutsOfGarbageGiveTheSame,
              (const std::vector<uint8_t>& choices, uint8_t piece)) {
  const std::string pieces[] = {std::string(4, '\0'),
                                std::string("\0\0\0\0\x09", 5),
                                "\x0A",
                                "\x12",
                                "\x10",
                                "\x18",
                                "\x20",
                                "\x05",
                                "\x80",
                                "\x03",
                                "{\"usage\":{\"prompt_tokens\":",
                                "5,",
                                "}",
                                "data:",
                                "\n"};
  std::string answer;
  for (const uint8_t choice : choices) answer += pieces[choice % std::size(pieces)];
  for (const Format format : {Format::kVllmGenerate, Format::kVllmEmbed, Format::kVertex}) {
    UsageScanner whole(format), cut(format);
    whole.Feed(answer);
    const size_t size = piece % 16 + 1;
    for (size_t at = 0; at < answer.size(); at += size) {
      cut.Feed(std::string_view(answer).substr(at, size));
    }
    whole.Finish();
    cut.Finish();
    RC_ASSERT(whole.usage().found == cut.usage().found);
    RC_ASSERT(whole.usage().input_tokens == cut.usage().input_tokens);
    RC_ASSERT(whole.usage().output_tokens == cut.usage().output_tokens);
    RC_ASSERT(whole.usage().cached_tokens == cut.usage().cached_tokens);
    RC_ASSERT(whole.events() == cut.events());
  }
}

TEST(UsageFormat, FollowsTheRouteAndTheAnswer) {
  const ParserSet& set = ParserSet::Default();
  EXPECT_EQ(UsageFormat(*set.Find("/v1/messages"), "text/event-stream; charset=utf-8"),
            Format::kEventStream);
  EXPECT_EQ(UsageFormat(*set.Find("/v1/messages"), "application/json"), Format::kJson);
  EXPECT_EQ(UsageFormat(*set.Find("/v1/messages/count_tokens"), "application/json"), std::nullopt);
  EXPECT_EQ(UsageFormat(*set.Find("/x"), "application/json"), std::nullopt);
  const auto format = [](model::Api api, Framing framing) {
    return UsageFormat(Route{.api = api, .framing = framing}, "application/grpc");
  };
  EXPECT_EQ(format(model::Api::kVllmGenerate, Framing::kVllm), Format::kVllmGenerate);
  EXPECT_EQ(format(model::Api::kVllmEmbed, Framing::kVllm), Format::kVllmEmbed);
  EXPECT_EQ(format(model::Api::kOther, Framing::kVertex), Format::kVertex);
}

}  // namespace
}  // namespace penstock::api
