#include "api/request.h"

#include <gtest/gtest.h>

namespace penstock::api {
namespace {

using model::Api;

TEST(RenderError, SpeaksOpenAi) {
  EXPECT_EQ(
      RenderError(
          {.status = 404, .code = "model_not_found", .message = "no \"x\"\xFF", .param = "model"},
          Api::kChatCompletions),
      "{\"error\":{\"message\":\"no \\\"x\\\"\xEF\xBF\xBD\",\"type\":\"invalid_request_error\","
      "\"param\":\"model\",\"code\":\"model_not_found\"}}");
  EXPECT_EQ(RenderError({.type = "server_error", .message = "m"}, Api::kOther),
            R"({"error":{"message":"m","type":"server_error","param":null,"code":null}})");
}

TEST(RenderError, SpeaksAnthropic) {
  const auto render = [](int status) {
    return RenderError({.status = status, .code = "c", .message = "m"}, Api::kMessages);
  };
  EXPECT_EQ(render(429), R"({"type":"error","error":{"type":"rate_limit_error","message":"m"}})");
  EXPECT_EQ(render(400),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"m"}})");
  EXPECT_EQ(RenderError({.message = "m"}, Api::kCountTokens), render(400));
  EXPECT_EQ(render(502), R"({"type":"error","error":{"type":"api_error","message":"m"}})");
}

TEST(ClassifyPath, KnowsTheRoutes) {
  EXPECT_EQ(ClassifyPath("/v1/chat/completions"), Api::kChatCompletions);
  EXPECT_EQ(ClassifyPath("/chat/completions?x=1"), Api::kChatCompletions);
  EXPECT_EQ(ClassifyPath("/v1/completions"), Api::kCompletions);
  EXPECT_EQ(ClassifyPath("/v1/responses"), Api::kResponses);
  EXPECT_EQ(ClassifyPath("/v1/embeddings"), Api::kEmbeddings);
  EXPECT_EQ(ClassifyPath("/v1/messages"), Api::kMessages);
  EXPECT_EQ(ClassifyPath("/tokenize"), Api::kTokenize);
  EXPECT_EQ(ClassifyPath("/v1/rerank"), Api::kRerank);
  EXPECT_EQ(ClassifyPath("/v2/rerank"), Api::kRerank);
  EXPECT_EQ(ClassifyPath("/score"), Api::kScore);
  EXPECT_EQ(ClassifyPath("/v1/chat/completions/render"), Api::kChatRender);
  EXPECT_EQ(ClassifyPath("/v1/messages/count_tokens"), Api::kCountTokens);
  EXPECT_EQ(ClassifyPath("/v1/images/generations"), Api::kImages);
  EXPECT_EQ(ClassifyPath("/inference/v1/generate"), Api::kVllmGenerate);
  EXPECT_EQ(ClassifyPath("/v1/chat%2Fcompletion%73?x=1"), Api::kChatCompletions);
  for (std::string_view other :
       {"", "/v1/completions%3Fx", "/v1/completion%2573", "/", "/v1", "/v1/",
        "/v1/chat/completions/", "/v2/chat/completions", "/generate", "/v1/v1/completions",
        "/v1/detokenize", "completions", "//v1/completions", "//tokenize", "//completions"}) {
    EXPECT_EQ(ClassifyPath(other), Api::kOther) << other;
  }
}

TEST(IsControlHeader, TakesTheRoutersAndLeavesTheRest) {
  for (std::string_view name :
       {"x-gateway-destination-endpoint", "X-Gateway-Destination-Endpoint-Subset",
        "x-prefiller-host-port", "X-Encoder-Hosts-Ports", "x-data-parallel-host-port",
        "x-kv-cache-source-host-port", "x-llm-d-inference-objective",
        "x-gateway-inference-objective", "x-llm-d-inference-fairness-id",
        "x-gateway-model-name-rewrite", "x-slo-ttft-ms", "x-llm-d-slo-tpot-ms", "x-llm-d-video-fps",
        "epp-profile", "test-epp-endpoint-selection", "x-llm-d-request-dropped-reason"}) {
    EXPECT_TRUE(IsControlHeader(name)) << name;
  }
  for (std::string_view name :
       {"", "x-request-id", "traceparent", "tracestate", "baggage", "cookie", "prefer",
        "x-session-token", "x-session-id", "session-id", "authorization", "content-type",
        "x-gateway-destination", "x-slo-ttft"}) {
    EXPECT_FALSE(IsControlHeader(name)) << name;
  }
}

}  // namespace
}  // namespace penstock::api
