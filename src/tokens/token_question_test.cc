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

TEST(TokenQuestion, IsAskedForOnePromptOfTextAlone) {
  EXPECT_TRUE(IsQuestion(Chat("[]")));
  EXPECT_TRUE(IsQuestion(Text("a").request));
  EXPECT_FALSE(IsQuestion(Text("a", 2).request));
  EXPECT_FALSE(IsQuestion(Text("a", 0).request));
  for (const Api api : {Api::kResponses, Api::kMessages, Api::kTokenize, Api::kEmbeddings}) {
    model::Request request = Chat("[]");
    request.api = api;
    EXPECT_FALSE(IsQuestion(request)) << model::ApiName(api);
  }
  model::Request media = Chat("[]");
  media.source.has_media = true;
  EXPECT_FALSE(IsQuestion(media));
  model::Request ids = Text("abcd").request;
  ids.source.holds_ids = true;
  EXPECT_FALSE(IsQuestion(ids));
  model::Request cut = Chat("[]");
  cut.source.truncate_prompt_tokens = "5";
  EXPECT_FALSE(IsQuestion(cut));
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
  harmony.api = Api::kCompletions;
  EXPECT_TRUE(FitsTokenize(harmony));
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
        &model::PromptSource::add_special_tokens}) {
    model::Request changed = chat;
    changed.source.*field = "\"x\"";
    EXPECT_NE(KeyOf(changed, 7), key);
  }
  // A field's end is part of it.
  model::Request one = Chat("[1]"), two = Chat("[1][");
  one.source.tools = "[]";
  two.source.tools = "]";
  EXPECT_NE(KeyOf(one, 7), KeyOf(two, 7));
  EXPECT_NE(KeyOf(Text("a").request, 7), KeyOf(Text("b").request, 7));
  model::Request sampled = chat;
  sampled.max_output_tokens = 5;
  sampled.stream = true;
  EXPECT_EQ(KeyOf(sampled, 7), key);
}

TEST(TokenAnswer, OfARender) {
  const auto read = [](std::string_view text) {
    return ReadTokenAnswer(TokenRoute::kRender, text);
  };
  EXPECT_THAT(*read(R"({"request_id": "x", "token_ids": [1, 4294967295 ,0]})"),
              ElementsAre(1, 4294967295, 0));
  EXPECT_THAT(*read(R"([{"token_ids": [7], "features": null}])"), ElementsAre(7));
  EXPECT_THAT(*read(R"({"token_ids":[7],"features":{"mm_hashes":{"image":[]},"x":[1]}})"),
              ElementsAre(7));
  const auto media = read(R"({"token_ids":[7],"features":{"mm_hashes":{"image":["h"]}}})");
  ASSERT_FALSE(media);
  EXPECT_EQ(media.error().code, Code::kFailedPrecondition);
}

TEST(TokenAnswer, OfTokenize) {
  const auto read = [](std::string_view text) {
    return ReadTokenAnswer(TokenRoute::kTokenize, text);
  };
  EXPECT_THAT(*read(R"({"count":2,"max_model_len":9,"tokens":[5,6],"token_strs":null})"),
              ElementsAre(5, 6));
  EXPECT_THAT(*read("{\"tokens\":\n[5\t,\r6 ]}"), ElementsAre(5, 6));
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
      const auto read = ReadTokenAnswer(route, text);
      ASSERT_FALSE(read) << text;
      EXPECT_EQ(read.error().code, Code::kInvalidArgument) << text;
      EXPECT_NE(read.error().message, "");
    }
  }
}

TEST(TokenAnswer, RoomForOneGrowsWithTheQuestion) {
  EXPECT_EQ(MaxAnswerBytes(0), 256u << 10);
  EXPECT_EQ(MaxAnswerBytes(1000), (256u << 10) + 12'000);
  EXPECT_EQ(MaxAnswerBytes(SIZE_MAX), 32u << 20);
}

}  // namespace
}  // namespace penstock::tokens
