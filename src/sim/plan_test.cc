#include "sim/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include <boost/json.hpp>

namespace penstock::sim {
namespace {

using model::Api;
namespace json = boost::json;

const Names kNames{"m", {"sql"}, 2048};

engine::EngineOptions Options() {
  engine::EngineOptions options;
  options.num_blocks = 1000;
  options.max_model_len = 2048;
  return options;
}

Job Parse(Api api, std::string_view body) {
  auto job = ParseJob(api, body, kNames);
  EXPECT_TRUE(job.has_value()) << job.error().message;
  return job.has_value() ? *job : Job();
}

Plan PlanOf(std::string_view body, Api api = Api::kChatCompletions, uint32_t choice = 0) {
  return MakePlan(Parse(api, body), 0, choice, Voice(), Options());
}

std::string Chat(std::string_view extra) {
  return R"({"messages":[{"role":"user","content":"Tell me more."}])" + std::string(extra) + "}";
}

TEST(PostPath, RenderEndpointsTakeTheBodiesOfThoseThatGenerate) {
  for (const std::string_view path :
       {"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"}) {
    const PostPath generates = ClassifyPath(path);
    const PostPath renders = ClassifyPath(std::string(path) + "/render");
    EXPECT_NE(generates.api, Api::kOther) << path;
    EXPECT_FALSE(generates.renders) << path;
    EXPECT_EQ(renders.api, generates.api) << path;
    EXPECT_TRUE(renders.renders) << path;
  }
  EXPECT_EQ(ClassifyPath("/v1/embeddings/render").api, Api::kOther);
}

TEST(Plan, LimitsDecideLengthAndReason) {
  const Plan natural = PlanOf(Chat(""));
  EXPECT_EQ(natural.request.end, engine::FinishReason::kStop);
  EXPECT_EQ(natural.ends.size(), natural.request.output_tokens);
  EXPECT_EQ(natural.ends.back(), natural.text.size());

  const Plan cut = PlanOf(Chat(R"(,"max_tokens":5)"));
  EXPECT_EQ(cut.request.output_tokens, 5u);
  EXPECT_EQ(cut.request.end, engine::FinishReason::kLength);
  EXPECT_TRUE(natural.text.starts_with(cut.text));

  const Plan forced = PlanOf(Chat(R"(,"max_tokens":1900,"ignore_eos":true)"));
  EXPECT_EQ(forced.request.output_tokens, 1900u);
  EXPECT_EQ(forced.request.end, engine::FinishReason::kLength);

  const Plan least = PlanOf(Chat(R"(,"min_tokens":1700)"));
  EXPECT_EQ(least.request.output_tokens, 1700u);
  EXPECT_EQ(least.request.end, engine::FinishReason::kStop);

  const Plan to_the_brim = PlanOf(Chat(R"(,"ignore_eos":true)"));
  EXPECT_EQ(to_the_brim.request.output_tokens + to_the_brim.request.prompt_tokens, 2048u);
}

TEST(Plan, TheSameRequestGivesTheSameAnswerAndChoicesDiffer) {
  EXPECT_EQ(PlanOf(Chat("")).text, PlanOf(Chat(R"(,"stream":true)")).text);
  EXPECT_NE(PlanOf(Chat("")).text, PlanOf(Chat(R"(,"seed":7)")).text);
  EXPECT_NE(PlanOf(Chat("")).text, PlanOf(Chat(R"(,"n":2)"), Api::kChatCompletions, 1).text);
}

TEST(Plan, AStopSequenceEndsTheTextBeforeIt) {
  const Plan whole = PlanOf(Chat(R"(,"max_tokens":100)"));
  // From the middle of one word into the next: tokens up to the next word's are generated.
  const size_t middle = whole.ends[19];
  const std::string stop = whole.text.substr(middle - 2, 4);
  const std::string body =
      Chat(R"(,"max_tokens":100,"stop":)" + json::serialize(json::array{"zzz", stop}));
  const size_t at = whole.text.find(stop);
  const Plan stopped = PlanOf(body);
  EXPECT_EQ(stopped.text, whole.text.substr(0, at));
  EXPECT_EQ(stopped.stop_text, stop);
  EXPECT_EQ(stopped.request.end, engine::FinishReason::kStop);
  EXPECT_EQ(stopped.ends.size(), stopped.request.output_tokens);
  EXPECT_EQ(stopped.ends.back(), stopped.text.size());
  EXPECT_LE(stopped.request.output_tokens, 21u);

  const Plan later = PlanOf(
      Chat(R"(,"max_tokens":100,"min_tokens":100,"stop":)" + json::serialize(json::string(stop))));
  EXPECT_GE(later.request.output_tokens, stopped.request.output_tokens);
  EXPECT_EQ(later.request.output_tokens, 100u);
}

// Turn two sends the first answer back; every full block of turn one is found again.
TEST(Plan, AGrowingChatSharesItsBlocksAnswersIncluded) {
  json::array messages = {{{"role", "system"}, {"content", "You are terse."}},
                          {{"role", "user"}, {"content", "What is a block?"}}};
  std::vector<uint64_t> before;
  size_t tokens_before = 0;
  for (int turn = 0; turn < 5; ++turn) {
    const Plan plan = PlanOf(json::serialize(json::object{{"messages", messages}}));
    const std::vector<uint64_t>& now = plan.request.block_hashes;
    EXPECT_EQ(before.size(), tokens_before / 16);
    ASSERT_LT(before.size(), now.size());
    EXPECT_TRUE(std::equal(before.begin(), before.end(), now.begin())) << turn;
    before = now;
    tokens_before = plan.request.prompt_tokens + plan.request.output_tokens;
    messages.push_back({{"role", "assistant"}, {"content", plan.text}});
    messages.push_back({{"role", "user"}, {"content", "And turn " + std::to_string(turn) + "?"}});
  }
}

TEST(Plan, ACompletionThatIsSentBackIsFoundAgain) {
  const Plan first = PlanOf(R"({"prompt":"Once upon a time","max_tokens":40})", Api::kCompletions);
  const Plan second = PlanOf(json::serialize(json::object{
                                 {"prompt", "Once upon a time" + first.text}, {"max_tokens", 40}}),
                             Api::kCompletions);
  EXPECT_EQ(second.request.prompt_tokens, first.request.prompt_tokens + 40);
  EXPECT_TRUE(std::equal(first.request.block_hashes.begin(), first.request.block_hashes.end(),
                         second.request.block_hashes.begin()));
}

TEST(Plan, AdaptersAndSaltsShareNoBlocks) {
  const std::string prompt = R"("prompt":")" + std::string(400, 'a') + '"';
  const auto base = PlanOf("{" + prompt + "}", Api::kCompletions).request;
  const auto lora = PlanOf("{" + prompt + R"(,"model":"sql"})", Api::kCompletions).request;
  const auto salt = PlanOf("{" + prompt + R"(,"cache_salt":"x"})", Api::kCompletions).request;
  EXPECT_EQ(lora.lora, 1u);
  EXPECT_NE(base.block_hashes[0], lora.block_hashes[0]);
  EXPECT_NE(base.block_hashes[0], salt.block_hashes[0]);
}

TEST(Plan, EmbeddingsGenerateNothing) {
  const Plan plan = PlanOf(R"({"input":"hello world"})", Api::kEmbeddings);
  EXPECT_EQ(plan.request.output_tokens, 0u);
  EXPECT_EQ(plan.request.prompt_tokens, 2u);
  EXPECT_TRUE(plan.text.empty());
}

TEST(ParseJob, SaysWhatIsWrong) {
  struct Case {
    Api api;
    std::string body;
    int status;
    std::string_view message;
  };
  const std::string long_text(5 * 2100, 'a');
  const Case cases[] = {
      {Api::kChatCompletions, "{", 400, "not JSON"},
      {Api::kChatCompletions, "[]", 400, "not a JSON object"},
      {Api::kChatCompletions, "{}", 400, "'messages' is required"},
      {Api::kChatCompletions, R"({"messages":[]})", 400, "'messages' is empty"},
      {Api::kChatCompletions, R"({"messages":7})", 400, "list of messages"},
      {Api::kChatCompletions, R"({"messages":[7]})", 400, "list of objects"},
      {Api::kChatCompletions, R"({"messages":[{"role":"user","content":7}]})", 400, "string"},
      {Api::kChatCompletions, Chat(R"(,"model":"nope")"), 404, "`nope` does not exist"},
      {Api::kChatCompletions, Chat(R"(,"model":3)"), 400, "'model' must be a string"},
      {Api::kChatCompletions, Chat(R"(,"max_tokens":0)"), 400, "not between 1"},
      {Api::kChatCompletions, Chat(R"(,"max_tokens":"9")"), 400, "an integer"},
      {Api::kChatCompletions, Chat(R"(,"max_tokens":1.5)"), 400, "an integer"},
      {Api::kChatCompletions, Chat(R"(,"max_tokens":4000)"), 400, "is too large: 4000"},
      {Api::kChatCompletions, Chat(R"(,"max_tokens":3,"min_tokens":4)"), 400, "above max_tokens"},
      {Api::kChatCompletions, Chat(R"(,"n":100000)"), 400, "'n'"},
      {Api::kChatCompletions, Chat(R"(,"stream":"yes")"), 400, "'stream' must be a boolean"},
      {Api::kChatCompletions, Chat(R"(,"stop":[1])"), 400, "list of strings"},
      {Api::kCompletions, R"({"prompt":""})", 400, "prompt is empty"},
      {Api::kCompletions, R"({"prompt":[]})", 400, "'prompt' is empty"},
      {Api::kCompletions, R"({"prompt":[1,-2]})", 400, "token ids"},
      {Api::kCompletions, R"({"prompt":")" + long_text + R"("})", 400,
       "maximum context length is 2048"},
      {Api::kEmbeddings, R"({"input":"a","encoding_format":"hex"})", 400, "float nor base64"},
      {Api::kRerank, R"({"query":"a"})", 400, "'documents' is required"},
      {Api::kScore, R"({"text_1":["a","b"],"text_2":["c"]})", 400, "2 and 1"},
  };
  for (const Case& c : cases) {
    const auto job = ParseJob(c.api, c.body, kNames);
    ASSERT_FALSE(job.has_value()) << c.body.substr(0, 200);
    EXPECT_EQ(job.error().status, c.status) << c.body.substr(0, 200);
    EXPECT_THAT(job.error().message, testing::HasSubstr(std::string(c.message)));
  }
}

TEST(ParseJob, DeepNestingIsRefusedNotFollowed) {
  const std::string deep = R"({"messages":)" + std::string(100'000, '[');
  EXPECT_FALSE(ParseJob(Api::kChatCompletions, deep, kNames).has_value());
}

TEST(ParseJob, ReadsTheFormsOfAPrompt) {
  EXPECT_EQ(Parse(Api::kCompletions, R"({"prompt":[5,6,7]})").prompts,
            (std::vector<std::vector<uint32_t>>{{5, 6, 7}}));
  EXPECT_EQ(Parse(Api::kCompletions, R"({"prompt":[[5],[6,7]]})").prompts.size(), 2u);
  EXPECT_EQ(Parse(Api::kCompletions, R"({"prompt":["a","b","c"]})").prompts.size(), 3u);
  const auto text = Parse(Api::kChatCompletions, Chat("")).prompts;
  EXPECT_EQ(Parse(Api::kChatCompletions, R"({"messages":[{"role":"user","content":[{"type":"text",)"
                                         R"("text":"Tell me more."}]}]})")
                .prompts,
            text);
  EXPECT_EQ(Parse(Api::kMessages, Chat("")).prompts, text);
  EXPECT_EQ(Parse(Api::kResponses, R"({"input":"Tell me more."})").prompts, text);
  EXPECT_GT(
      Parse(Api::kChatCompletions, R"({"messages":[{"role":"user","content":[{"type":"image_url",)"
                                   R"("image_url":{"url":"http://x/y.png"}}]}]})")
          .prompts[0]
          .size(),
      200u);
}

TEST(RenderError, IsValidJsonWhateverTheMessage) {
  const HttpError error{404, "NotFoundError", "no \"x\"\n", "model"};
  const json::value openai = json::parse(RenderError(error, Api::kChatCompletions));
  EXPECT_EQ(openai.at("error").at("code"), 404);
  EXPECT_EQ(openai.at("error").at("message"), "no \"x\"\n");
  EXPECT_EQ(openai.at("error").at("param"), "model");
  const json::value anthropic = json::parse(RenderError(error, Api::kMessages));
  EXPECT_EQ(anthropic.at("type"), "error");
  EXPECT_EQ(anthropic.at("error").at("type"), "not_found_error");
}

}  // namespace
}  // namespace penstock::sim
