#include "tokens/token_question.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "wire/json_scan.h"

namespace penstock::tokens {
namespace {

using model::Api;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

model::Request Chat(std::string_view messages) {
  model::Request request;
  request.api = Api::kChatCompletions;
  request.target_model = "llama";
  request.source.messages = messages;
  return request;
}

struct Text {
  explicit Text(std::string_view text, size_t prompts = 1) : parts(prompts, {text, true}) {
    request.api = Api::kCompletions;
    request.target_model = "llama";
    request.prompt = parts;
  }
  std::vector<model::PromptPart> parts;
  model::Request request;
};

model::Request Messages(std::string_view messages) {
  model::Request request = Chat(messages);
  request.api = Api::kMessages;
  return request;
}

model::Request Response(std::string_view input) {
  model::Request request;
  request.api = Api::kResponses;
  request.target_model = "llama";
  request.source.input = input;
  return request;
}

TEST(TokenQuestion, IsAskedForTextAlone) {
  EXPECT_TRUE(IsQuestion(Chat("[]")));
  EXPECT_TRUE(IsQuestion(Text("a").request));
  EXPECT_TRUE(IsQuestion(Messages("[]")));
  EXPECT_TRUE(IsQuestion(Response("\"a\"")));
  EXPECT_FALSE(IsQuestion(Text("a", 0).request));
  for (const Api api : {Api::kResponses, Api::kTokenize, Api::kEmbeddings, Api::kVllmGenerate}) {
    model::Request request = Chat("[]");
    request.api = api;
    EXPECT_FALSE(IsQuestion(request)) << model::ApiName(api);
  }
  for (model::Request request : {Chat("[]"), Messages("[]"), Response("[]")}) {
    request.source.has_media = true;
    EXPECT_TRUE(IsQuestion(request)) << model::ApiName(request.api);
    EXPECT_FALSE(FitsTokenize(request)) << model::ApiName(request.api);
  }
  model::Request ids = Text("abcd").request;
  ids.source.holds_ids = true;
  EXPECT_FALSE(IsQuestion(ids));
  model::Request cut = Chat("[]");
  cut.source.truncate_prompt_tokens = "5";
  EXPECT_FALSE(IsQuestion(cut));
}

TEST(TokenQuestion, IsAskedForSoManyPrompts) {
  EXPECT_TRUE(IsQuestion(Text("a", 2).request));
  EXPECT_TRUE(IsQuestion(Text("a", kMaxAskedPrompts).request));
  EXPECT_FALSE(IsQuestion(Text("a", kMaxAskedPrompts + 1).request));
  EXPECT_EQ(PromptsOf(Text("a", 7).request), 7u);
  EXPECT_EQ(PromptsOf(Chat("[1, 2]")), 1u);
}

TEST(TokenQuestion, IsNotWhatAnEngineStored) {
  for (const auto field :
       {&model::PromptSource::previous_response_id, &model::PromptSource::conversation,
        &model::PromptSource::stored_prompt}) {
    model::Request request = Response("\"a\"");
    request.source.*field = "\"x\"";
    EXPECT_FALSE(IsQuestion(request));
  }
  model::Request cut = Response("\"a\"");
  cut.source.truncation = "\"disabled\"";
  EXPECT_TRUE(IsQuestion(cut));
  cut.source.truncation = "\"auto\"";
  EXPECT_FALSE(IsQuestion(cut));
}

TEST(TokenQuestion, IsNotWhatAnEngineAnswersInSeveralTurns) {
  const auto is_question = [](std::string_view tools) {
    model::Request request = Response("\"a\"");
    request.source.tools = tools;
    return IsQuestion(request);
  };
  EXPECT_TRUE(is_question("[]"));
  EXPECT_TRUE(is_question(R"([{"name": "f", "type": "function"}, {"type": "custom"}])"));
  EXPECT_FALSE(is_question(R"([{"type": "function"}, {"type": "web_search_preview"}])"));
  EXPECT_FALSE(is_question(R"([{"type": "mcp", "server_url": "u"}])"));
  EXPECT_FALSE(is_question(R"([{"name": "f"}])"));
  EXPECT_FALSE(is_question(R"(["function"])"));
  EXPECT_TRUE(is_question("5")) << "the engine will refuse it";
}

TEST(TokenQuestion, IsNotAThoughtTurnedOff) {
  const auto is_question = [](std::string_view thinking) {
    model::Request request = Messages("[]");
    request.source.thinking = thinking;
    return IsQuestion(request);
  };
  EXPECT_TRUE(is_question(R"({"type": "adaptive"})"));
  EXPECT_TRUE(is_question(R"({"budget_tokens": 2000, "type": "enabled"})"));
  EXPECT_FALSE(is_question(R"({"a": [1, {"type": "enabled"}], "type" : "disabled"})"));
  EXPECT_TRUE(is_question("\"disabled\"")) << "the engine will refuse it";
}

TEST(TokenQuestion, TokenizeTakesWhatItHasAPlaceFor) {
  EXPECT_TRUE(FitsTokenize(Chat("[]")));
  model::Request effort = Chat("[]");
  effort.source.reasoning_effort = "\"low\"";
  EXPECT_FALSE(FitsTokenize(effort));
  model::Request documents = Chat("[]");
  documents.source.documents = "[{}]";
  EXPECT_FALSE(FitsTokenize(documents));
  model::Request harmony = Chat("[]");
  harmony.target_model = "openai/gpt-oss-120b";
  EXPECT_FALSE(FitsTokenize(harmony));
  Text text("a");
  text.request.target_model = "openai/gpt-oss-120b";
  EXPECT_TRUE(FitsTokenize(text.request));
  text.request.source.suffix = "\"b\"";
  EXPECT_FALSE(FitsTokenize(text.request));
  EXPECT_FALSE(FitsTokenize(Text("a", 2).request));
  EXPECT_FALSE(FitsTokenize(Messages("[]")));
  EXPECT_FALSE(FitsTokenize(Response("[]")));
}

TEST(TokenQuestion, BodiesAreJson) {
  model::Request chat = Chat(R"([{"role": "user", "content": "a"}])");
  chat.source.tools = "[ ]";
  chat.source.add_generation_prompt = "false";
  chat.source.chat_template_kwargs = R"({"a": 1})";
  EXPECT_EQ(TokenizeBody(chat, "m\"x"),
            R"({"model":"m\"x","messages":[{"role": "user", "content": "a"}],"tools":[ ],)"
            R"("chat_template_kwargs":{"a": 1},"add_generation_prompt":false})");
  Text text("line\n\"quoted\"");
  text.request.source.add_special_tokens = "false";
  EXPECT_EQ(TokenizeBody(text.request, "m"),
            R"({"model":"m","prompt":"line\n\"quoted\"","add_special_tokens":false})");
  EXPECT_EQ(PathOf(TokenRoute::kTokenize, Api::kCompletions), "/tokenize");
  EXPECT_EQ(PathOf(TokenRoute::kRender, Api::kCompletions), "/v1/completions/render");
  EXPECT_EQ(PathOf(TokenRoute::kRender, Api::kChatCompletions), "/v1/chat/completions/render");
  EXPECT_EQ(PathOf(TokenRoute::kRender, Api::kMessages), "/v1/messages/render");
  EXPECT_EQ(PathOf(TokenRoute::kRender, Api::kResponses), "/v1/responses/render");
}

TEST(TokenQuestion, KeysTellApartWhatTokensDependOn) {
  const model::Request chat = Chat("[1]");
  const TokenKey key = KeyOf(chat, 7);
  EXPECT_EQ(KeyOf(Chat("[1]"), 7), key);
  EXPECT_NE(KeyOf(chat, 8), key);
  EXPECT_NE(KeyOf(Chat("[2]"), 7), key);
  model::Request other = chat;
  other.target_model = "adapter";
  EXPECT_NE(KeyOf(other, 7), key);
  for (const auto field :
       {&model::PromptSource::tools, &model::PromptSource::documents,
        &model::PromptSource::chat_template, &model::PromptSource::chat_template_kwargs,
        &model::PromptSource::add_generation_prompt, &model::PromptSource::continue_final_message,
        &model::PromptSource::reasoning_effort, &model::PromptSource::tool_choice,
        &model::PromptSource::add_special_tokens, &model::PromptSource::response_format}) {
    model::Request changed = chat;
    changed.source.*field = "\"x\"";
    EXPECT_NE(KeyOf(changed, 7), key);
  }
  const model::Request messages = Messages("[1]");
  EXPECT_NE(KeyOf(messages, 7), key) << "engines make another chat of it";
  for (const auto field :
       {&model::PromptSource::system, &model::PromptSource::tools,
        &model::PromptSource::tool_choice, &model::PromptSource::thinking,
        &model::PromptSource::output_config, &model::PromptSource::chat_template_kwargs}) {
    model::Request changed = messages;
    changed.source.*field = "\"x\"";
    EXPECT_NE(KeyOf(changed, 7), KeyOf(messages, 7));
  }
  const model::Request response = Response("[1]");
  EXPECT_NE(KeyOf(Response("[2]"), 7), KeyOf(response, 7));
  for (const auto field :
       {&model::PromptSource::instructions, &model::PromptSource::tools,
        &model::PromptSource::tool_choice, &model::PromptSource::reasoning,
        &model::PromptSource::text, &model::PromptSource::previous_input_messages,
        &model::PromptSource::chat_template_kwargs}) {
    model::Request changed = response;
    changed.source.*field = "\"x\"";
    EXPECT_NE(KeyOf(changed, 7), KeyOf(response, 7));
  }
  // A field's end is part of it.
  model::Request one = Chat("[1]"), two = Chat("[1][");
  one.source.tools = "[]";
  two.source.tools = "]";
  EXPECT_NE(KeyOf(one, 7), KeyOf(two, 7));
  Text text("a"), infix("a");
  EXPECT_NE(KeyOf(text.request, 7), KeyOf(Text("b").request, 7));
  EXPECT_NE(KeyOf(text.request, 7), KeyOf(Text("a", 2).request, 7));
  EXPECT_NE(KeyOf(Text("aa").request, 7), KeyOf(Text("a", 2).request, 7));
  infix.request.source.suffix = "\"c\"";
  EXPECT_NE(KeyOf(text.request, 7), KeyOf(infix.request, 7));
  model::Request sampled = chat;
  sampled.max_output_tokens = 5;
  sampled.stream = true;
  EXPECT_EQ(KeyOf(sampled, 7), key);
}

TEST(TokenAnswer, OfARender) {
  const auto read = [](std::string_view text) {
    return ReadTokenAnswer(TokenRoute::kRender, text, 1);
  };
  EXPECT_THAT(read(R"({"request_id": "x", "token_ids": [1, 4294967295 ,0]})")->ids,
              ElementsAre(1, 4294967295, 0));
  EXPECT_THAT(read(R"([{"token_ids": [7], "features": null}])")->ids, ElementsAre(7));
  EXPECT_THAT(read(R"({"token_ids":[7],"features":{"mm_hashes":{"image":[]},"x":[1]}})")->ids,
              ElementsAre(7));
  EXPECT_THAT(read(R"({"token_ids":[7],"features":{"mm_hashes":{"image":["h"]}}})").error().message,
              HasSubstr("as many hashes"));
}

TEST(TokenAnswer, SaysWhereMediaAre) {
  constexpr std::string_view kOne = R"({"token_ids": [5, 7, 7, 6], "features":
    {"mm_hashes": {"image": ["h"]}, "mm_placeholders": {"image": [{"offset": 1, "length": 2}]}}})";
  const auto one = ReadTokenAnswer(TokenRoute::kRender, kOne, 1);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_THAT(one->ids, ElementsAre(5, 7, 7, 6));
  EXPECT_THAT(one->media, ElementsAre(model::MediaSpan{1, 2, "h"}));
  const auto two =
      ReadTokenAnswer(TokenRoute::kRender, "[" + std::string(kOne) + R"(,{"token_ids":[7]}])", 2);
  EXPECT_THAT(two.error().message, HasSubstr("media in one of several prompts"));
}

TEST(TokenAnswer, OfSeveralPrompts) {
  const auto read = [](std::string_view text, size_t prompts) {
    return ReadTokenAnswer(TokenRoute::kRender, text, prompts);
  };
  constexpr std::string_view kThree =
      R"([{"request_id": "x-0", "token_ids": [1, 2]}, {"token_ids": [3]}, {"token_ids": [4, 5]}])";
  const auto three = read(kThree, 3);
  ASSERT_TRUE(three);
  EXPECT_THAT(three->ids, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(three->sequence_ends, ElementsAre(2, 3, 5));
  EXPECT_THAT(read(kThree, 2).error().message, HasSubstr("for 3 prompts, not 2"));
  EXPECT_THAT(read(kThree, 4).error().message, HasSubstr("for 3 prompts, not 4"));
  EXPECT_THAT(read(R"({"token_ids": [1]})", 2).error().message, HasSubstr("for 1 prompts, not 2"));
  EXPECT_THAT(read(R"([{"token_ids": [1]}, {"x": [2]}])", 2).error().message,
              HasSubstr("no list token_ids"));
  EXPECT_THAT(read(R"([{"token_ids": [1]}, null])", 2).error().message,
              HasSubstr("no list token_ids"));
  EXPECT_THAT(read(R"([{"token_ids": []}, {"token_ids": [1]}])", 2).error().message,
              HasSubstr("no tokens"));
}

TEST(TokenAnswer, OfTokenize) {
  const auto read = [](std::string_view text) {
    return ReadTokenAnswer(TokenRoute::kTokenize, text, 1);
  };
  EXPECT_THAT(read(R"({"count":2,"max_model_len":9,"tokens":[5,6],"token_strs":null})")->ids,
              ElementsAre(5, 6));
  EXPECT_THAT(read("{\"tokens\":\n[5\t,\r6 ]}")->ids, ElementsAre(5, 6));
  EXPECT_THAT(read(R"({"count":3,"tokens":[5,6]})").error().message, HasSubstr("counts 3"));
}

TEST(TokenAnswer, HostileOnesAreErrors) {
  const std::string deep(1000, '[');
  for (const std::string& text : std::vector<std::string>{
           "",
           "null",
           "5",
           "[]",
           "{}",
           "{",
           R"({"token_ids": [1], "tokens": [1])",
           R"({"token_ids": [], "tokens": []})",
           R"({"token_ids": "1", "tokens": "1"})",
           R"({"token_ids": [4294967296], "tokens": [4294967296]})",
           R"({"token_ids": [99999999999999999999999], "tokens": [99999999999999999999999]})",
           R"({"token_ids": [-1], "tokens": [-1]})",
           R"({"token_ids": [1.0], "tokens": [1.0]})",
           R"({"token_ids": [1e3], "tokens": [1e3]})",
           R"({"token_ids": [[1]], "tokens": [[1]]})",
           R"({"token_ids": ["1"], "tokens": ["1"]})",
           R"({"token_ids": [null], "tokens": [null]})",
           R"({"token_ids": [1], "tokens": [1]} x)",
           R"({"token_ids": [1 2], "tokens": [1 2]})",
           R"([{"token_ids": [1], "tokens": [1]}, {"token_ids": [1], "tokens": [1]}])",
           R"({"token_ids": {"a": 1}, "tokens": {"a": 1}})",
           "<html>404</html>",
           deep,
           "{\"token_ids\": " + deep}) {
    for (const TokenRoute route : {TokenRoute::kRender, TokenRoute::kTokenize}) {
      const auto read = ReadTokenAnswer(route, text, 1);
      ASSERT_FALSE(read) << text;
      EXPECT_EQ(read.error().code, Code::kInvalidArgument) << text;
      EXPECT_NE(read.error().message, "");
    }
  }
}

TEST(TokenAnswer, RoomForOneGrowsWithTheQuestion) {
  EXPECT_EQ(MaxAnswerBytes(0, 1), 256u << 10);
  EXPECT_EQ(MaxAnswerBytes(1000, 1), (256u << 10) + 12'000);
  EXPECT_EQ(MaxAnswerBytes(1000, 11), (296u << 10) + 22'000);
  EXPECT_EQ(MaxAnswerBytes(SIZE_MAX, 1), 32u << 20);
  EXPECT_EQ(MaxAnswerBytes(0, SIZE_MAX), 32u << 20);
  EXPECT_EQ(MaxAnswerBytes(2 << 20, kMaxAskedPrompts), 32u << 20);
}

}  // namespace
}  // namespace penstock::tokens
