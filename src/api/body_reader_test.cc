#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <simdjson.h>

#include "api/request.h"

namespace penstock::api {
namespace {

using model::Api;
using testing::ElementsAre;
using testing::HasSubstr;

struct Outcome {
  model::Request request;
  std::vector<Splice> splices;
  std::expected<void, ApiError> read;
  // The prompt with '|' before each part and '#' before each sequence.
  std::string prompt;
};

Outcome Read(Api api, const std::string& body) {
  static BodyReader reader;
  Outcome outcome;
  outcome.read = reader.Read(api, body, &outcome.request, &outcome.splices);
  for (const model::PromptPart& part : outcome.request.prompt) {
    outcome.prompt += part.starts_sequence ? '#' : '|';
    outcome.prompt += part.bytes;
  }
  outcome.request.prompt = {};
  return outcome;
}

std::string Forwarded(const std::string& body, const std::vector<Splice>& splices) {
  std::string whole;
  for (std::string_view piece : ApplySplices(body, splices)) whole += piece;
  return whole;
}

TEST(BodyReader, ReadsChat) {
  const Outcome outcome = Read(Api::kChatCompletions, R"({
    "messages": [{"role": "system", "content": "Be kind."},
                 {"content": [{"type": "text", "text": "a\n\u00e9"}, "b"], "role": "user"},
                 {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}],
    "tools": [ {"type": "function"} ], "stream": true, "max_tokens": 7,
    "max_completion_tokens": 9, "cache_salt": "s\u0061lt", "model": "llama\/8b", "n": 1})");
  ASSERT_TRUE(outcome.read) << outcome.read.error().message;
  EXPECT_EQ(outcome.prompt,
            "|[ {\"type\": \"function\"} ]|system|Be kind.|user|a\n\xC3\xA9|b"
            "|assistant|[{\"id\": \"1\"}]");
  EXPECT_EQ(outcome.request.model, "llama/8b");
  EXPECT_TRUE(outcome.request.stream);
  EXPECT_EQ(outcome.request.max_output_tokens, 9u);
  EXPECT_EQ(outcome.request.cache_salt, "salt");
  EXPECT_EQ(outcome.request.extra_tokens, 0u);
  EXPECT_TRUE(outcome.splices.empty());
}

TEST(BodyReader, KeepsTheJsonThatTokensAreMadeOf) {
  BodyReader reader;
  model::Request request;
  std::vector<Splice> splices;
  const std::string body = R"({"model": "m", "messages": [1], "messages": [ {"role": "user"} ],
    "tools": null, "add_generation\u005fprompt": false , "chat_template_kwargs": {"a": [1, "]"]},
    "reasoning_effort": "low", "truncate_prompt_tokens": -1, "prompt_embeds": "x"})";
  const std::string good = R"({"model": "m", "messages": [ {"role": "user"} ],
    "tools": null, "add_generation\u005fprompt": false , "chat_template_kwargs": {"a": [1, "]"]},
    "reasoning_effort": "low", "truncate_prompt_tokens": -1, "prompt_embeds": "x",
    "tool_choice": "none"})";
  EXPECT_FALSE(reader.Read(Api::kChatCompletions, body, &request, &splices));
  ASSERT_TRUE(reader.Read(Api::kChatCompletions, good, &request, &splices));
  EXPECT_EQ(request.source.messages, R"([ {"role": "user"} ])");
  EXPECT_EQ(request.source.tools, "");
  EXPECT_EQ(request.source.add_generation_prompt, "false");
  EXPECT_EQ(request.source.chat_template_kwargs, R"({"a": [1, "]"]})");
  EXPECT_EQ(request.source.reasoning_effort, "\"low\"");
  EXPECT_EQ(request.source.tool_choice, "\"none\"");
  EXPECT_EQ(request.source.truncate_prompt_tokens, "-1");
  EXPECT_EQ(request.source.prompt_embeds, "");
  const std::string tokenize = R"({"messages": [], "reasoning_effort": "low", "documents": [1]})";
  ASSERT_TRUE(reader.Read(Api::kTokenize, tokenize, &request, &splices));
  EXPECT_EQ(request.source.messages, "[]");
  EXPECT_EQ(request.source.reasoning_effort, "");
  EXPECT_EQ(request.source.documents, "");
  EXPECT_FALSE(request.source.is_anthropic);
}

TEST(BodyReader, KeepsTheJsonThatOtherApisMakeTokensOf) {
  BodyReader reader;
  model::Request request;
  std::vector<Splice> splices;
  const std::string messages = R"({"model": "m", "max_tokens": 1, "messages": [{"role": "user"}],
    "system": [], "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"},
    "tool_choice": {"type": "any"}, "tools": [1], "chat_template_kwargs": {}, "documents": [2],
    "input": 3})";
  ASSERT_TRUE(reader.Read(Api::kMessages, messages, &request, &splices));
  EXPECT_TRUE(request.source.is_anthropic);
  EXPECT_EQ(request.source.messages, R"([{"role": "user"}])");
  EXPECT_EQ(request.source.system, "[]");
  EXPECT_EQ(request.source.thinking, R"({"type": "adaptive"})");
  EXPECT_EQ(request.source.output_config, R"({"effort": "low"})");
  EXPECT_EQ(request.source.tool_choice, R"({"type": "any"})");
  EXPECT_EQ(request.source.tools, "[1]");
  EXPECT_EQ(request.source.chat_template_kwargs, "{}");
  EXPECT_EQ(request.source.documents, "");
  EXPECT_EQ(request.source.input, "");
  const std::string responses = R"({"model": "m", "input": "hi", "instructions": "short",
    "tools": [2], "tool_choice": "auto", "reasoning": {"effort": "low"}, "text": {"a": 1},
    "truncation": "auto", "previous_input_messages": [3], "previous_response_id": "r",
    "conversation": "c", "prompt": {"id": "p"}, "chat_template_kwargs": {"b": 2}, "messages": 4})";
  ASSERT_TRUE(reader.Read(Api::kResponses, responses, &request, &splices));
  EXPECT_EQ(request.source.input, "\"hi\"");
  EXPECT_EQ(request.source.instructions, "\"short\"");
  EXPECT_EQ(request.source.tools, "[2]");
  EXPECT_EQ(request.source.tool_choice, "\"auto\"");
  EXPECT_EQ(request.source.reasoning, R"({"effort": "low"})");
  EXPECT_EQ(request.source.text, R"({"a": 1})");
  EXPECT_EQ(request.source.truncation, "\"auto\"");
  EXPECT_EQ(request.source.previous_input_messages, "[3]");
  EXPECT_EQ(request.source.previous_response_id, "\"r\"");
  EXPECT_EQ(request.source.conversation, "\"c\"");
  EXPECT_EQ(request.source.stored_prompt, R"({"id": "p"})");
  EXPECT_EQ(request.source.chat_template_kwargs, R"({"b": 2})");
  EXPECT_EQ(request.source.messages, "");
}

TEST(BodyReader, TellsIdsAndMedia) {
  BodyReader reader;
  const auto source = [&](Api api, const std::string& body) {
    model::Request request;
    std::vector<Splice> splices;
    EXPECT_TRUE(reader.Read(api, body, &request, &splices)) << body;
    return std::pair(request.source.holds_ids, request.source.has_media);
  };
  using Pair = std::pair<bool, bool>;
  const auto completion = [&](const std::string& fields) {
    return source(Api::kCompletions, R"({"model": "m", )" + fields + "}");
  };
  EXPECT_EQ(completion(R"("prompt": [1, 2])"), Pair(true, false));
  EXPECT_EQ(completion(R"("prompt": [[1, 2], [3]])"), Pair(true, false));
  EXPECT_EQ(completion(R"("prompt": ["a"])"), Pair(false, false));
  EXPECT_EQ(completion(R"("prompt": [1], "prompt_embeds": "x")"), Pair(false, false));
  EXPECT_EQ(source(Api::kVllmGenerate, R"({"token_ids": [1, 2]})"), Pair(true, false));
  EXPECT_EQ(source(Api::kVllmGenerate, R"({"token_ids": [1], "content_parts": [{}]})"),
            Pair(true, true));
  EXPECT_EQ(source(Api::kVllmGenerate,
                   R"({"token_ids": [1, 2], "features": {"mm_hashes": {"image": ["h"]},
                       "mm_placeholders": {"image": [{"offset": 1, "length": 1}]}}})"),
            Pair(true, true));
  EXPECT_EQ(source(Api::kSglangGenerate, R"({"input_ids": [1, 2]})"), Pair(true, false));
  EXPECT_EQ(source(Api::kSglangGenerate, R"({"input_ids": [1], "image_data": ["u"]})"),
            Pair(true, true));
  EXPECT_EQ(source(Api::kSglangGenerate, R"({"input_ids": [1], "image_data": null})"),
            Pair(true, false));
  EXPECT_EQ(source(Api::kSglangGenerate, R"({"text": "a"})"), Pair(false, false));
  EXPECT_EQ(source(Api::kChatCompletions, R"({"model": "m", "messages": [{"role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]})"),
            Pair(false, true));
}

TEST(BodyReader, TakesStringsWithoutEscapesFromTheBody) {
  const std::string body = R"({"model":"m","prompt":"no escapes in here"})";
  BodyReader reader;
  model::Request request;
  std::vector<Splice> splices;
  ASSERT_TRUE(reader.Read(Api::kCompletions, body, &request, &splices));
  ASSERT_EQ(request.prompt.size(), 1u);
  EXPECT_GE(request.prompt[0].bytes.data(), body.data());
  EXPECT_LT(request.prompt[0].bytes.data(), body.data() + body.size());
}

TEST(BodyReader, ReadsThePromptOfEveryApi) {
  struct Case {
    Api api;
    std::string body, prompt;
  };
  const Case cases[] = {
      {Api::kCompletions, R"("prompt":"hi")", "|hi"},
      {Api::kCompletions, R"("prompt":["a","","c"])", "#a##c"},
      {Api::kCompletions, R"("prompt":[])", ""},
      {Api::kCompletions, R"("prompt":[65,16706,4294967295])",
       std::string("|A\0\0\0BA\0\0\xFF\xFF\xFF\xFF", 13)},
      {Api::kCompletions, R"("prompt":[[65],[],[66]])", std::string("#A\0\0\0##B\0\0\0", 11)},
      {Api::kCompletions, R"("prompt":null,"prompt_embeds":"QQ==")", "|\"QQ==\""},
      {Api::kResponses, R"("input":"hi","instructions":"be","tools":[1])", "|be|[1]|hi"},
      {Api::kResponses,
       R"("input":[{"role":"user","content":[{"type":"input_text","text":"x"}]},
          {"type":"function_call","name":"f","arguments":"{}"},
          {"type":"function_call_output","output":"42"}])",
       "|user|x||{}||42"},
      {Api::kEmbeddings, R"("input":["a","b"])", "#a#b"},
      {Api::kEmbeddings, R"("messages":[{"role":"user","content":"x"}])", "|user|x"},
      {Api::kMessages,
       R"("messages":[{"role":"user","content":[{"type":"tool_result","content":[{"text":"r"}]}]},
          {"role":"assistant","content":[{"type":"tool_use","input":{"a":1}}]}],
          "system":[{"type":"text","text":"s"}],"tools":[])",
       "|s|[]|user|r|assistant|{\"a\":1}"},
      {Api::kMessages, R"("system":"s","messages":[{"role":"user","content":"x"}])", "|s|user|x"},
      {Api::kTokenize, R"("prompt":"p")", "|p"},
      {Api::kTokenize, R"("messages":[{"role":"user","content":"x"}])", "|user|x"},
      {Api::kRerank, R"("documents":["d",{"text":"e"}],"query":"q")", "#q#d#|e"},
      {Api::kScore, R"("text_1":"q","text_2":["a","b"])", "#q#a#b"},
      {Api::kScore, R"("queries":["q"],"documents":"d")", "#q#d"},
      {Api::kConversations, R"("items":[{"role":"user","content":"x"}],"metadata":{})", "|user|x"},
      {Api::kVllmGenerate, R"("token_ids":[65,66])", std::string("|A\0\0\0B\0\0\0", 9)},
      {Api::kSglangGenerate, R"("input_ids":[[65],[66]])", std::string("#A\0\0\0#B\0\0\0", 10)},
      {Api::kSglangGenerate, R"("text":["a","b"])", "#a#b"},
      // What they hold computes no KV cache.
      {Api::kChatRender, R"("messages":[{"role":"user","content":"x"}],"max_tokens":5)", ""},
      {Api::kCompletionRender, R"("prompt":"p")", ""},
      {Api::kImages, R"("prompt":"a cat","n":2,"size":"1024x1024")", ""},
      {Api::kCountTokens, R"("messages":[{"role":"user","content":"x"}],"stream":7)", ""},
  };
  for (const Case& c : cases) {
    const std::string body = R"({"model":"m",)" + c.body + "}";
    const Outcome outcome = Read(c.api, body);
    EXPECT_TRUE(outcome.read) << body << ": " << outcome.read.error().message;
    EXPECT_EQ(outcome.prompt, c.prompt) << body;
  }
}

TEST(BodyReader, CountsMediaAndKeepsTheirDataOut) {
  const std::string data = "data:image/png;base64," + std::string(5000, 'A');
  const auto body = [](const std::string& url) {
    return R"({"model":"m","messages":[{"role":"user","content":[
      {"type":"image_url","image_url":{"url":")" +
           url + R"(","detail":"low"}},{"type":"text","text":"what?"}]}]})";
  };
  const Outcome inlined = Read(Api::kChatCompletions, body(data));
  ASSERT_TRUE(inlined.read);
  EXPECT_EQ(inlined.prompt.size(), sizeof("|user|0123456789abcdef|what?") - 1);
  EXPECT_EQ(inlined.request.extra_tokens, 225u);
  EXPECT_EQ(Read(Api::kChatCompletions, body(data)).prompt, inlined.prompt);
  EXPECT_NE(Read(Api::kChatCompletions, body(data + "B")).prompt, inlined.prompt);
  EXPECT_EQ(Read(Api::kChatCompletions, body("http://h/a.png")).prompt,
            "|user|http://h/a.png|what?");

  const Outcome mixed = Read(Api::kChatCompletions, R"({"model":"m","messages":[{"role":"user",
    "content":[{"video_url":{"url":"v"}},{"input_audio":{"data":"QQ==","format":"wav"}},
               {"image_url":"i"},{"image_url":null}]}]})");
  EXPECT_EQ(mixed.request.extra_tokens, 4500u + 250u + 225u);
}

TEST(BodyReader, LetsTheLastOfEqualFieldsCount) {
  const Outcome outcome = Read(Api::kChatCompletions, R"({"model":"a","stream":true,
    "messages":[{"role":"user","content":[{"image_url":"i"},{"text":"x"}]}],"max_tokens":5,
    "mod\u0065l":"b","stream":false,"max_tokens":null,
    "messages":[{"role":"x","content":[{"image_url":"j"}],"role":"user","content":"y"}]})");
  ASSERT_TRUE(outcome.read) << outcome.read.error().message;
  EXPECT_EQ(outcome.request.model, "b");
  EXPECT_FALSE(outcome.request.stream);
  EXPECT_EQ(outcome.request.max_output_tokens, 0u);
  EXPECT_EQ(outcome.request.extra_tokens, 0u);
  EXPECT_EQ(outcome.prompt, "|user|y");
  EXPECT_EQ(Read(Api::kCompletions, R"({"model":"a","prompt":"p","model":null})").read.error().code,
            "missing_field");
}

TEST(BodyReader, IgnoresTokenLimitsThatAreNone) {
  const auto limit = [](const std::string& fields) {
    return Read(Api::kCompletions, R"({"model":"m","prompt":"p",)" + fields + "}")
        .request.max_output_tokens;
  };
  EXPECT_EQ(limit(R"("max_tokens":12)"), 12u);
  EXPECT_EQ(limit(R"("max_tokens":12.0)"), 12u);
  EXPECT_EQ(limit(R"("max_tokens":1e2)"), 100u);
  EXPECT_EQ(limit(R"("max_tokens":12.5)"), 0u);
  EXPECT_EQ(limit(R"("max_tokens":-1)"), 0u);
  EXPECT_EQ(limit(R"("max_tokens":"12")"), 0u);
  EXPECT_EQ(limit(R"("max_tokens":99999999999999999999999)"), UINT32_MAX);
  EXPECT_EQ(limit(R"("max_completion_tokens":null,"max_tokens":3)"), 3u);
  EXPECT_EQ(limit(R"("max_output_tokens":4)"), 4u);
}

TEST(BodyReader, NamesWhatIsWrong) {
  struct Case {
    Api api;
    std::string body;
    std::string_view code, param, message;
  };
  const Case cases[] = {
      {Api::kChatCompletions, "", "invalid_json", "",
       "expected '{' at byte 0, where the text ends"},
      {Api::kChatCompletions, "[]", "invalid_json", "", "must be a JSON object, found an array"},
      {Api::kChatCompletions, "\"x\"", "invalid_json", "", "must be a JSON object, found a string"},
      {Api::kChatCompletions, R"({"model":"m","messages":[{"role":"us)", "invalid_json", "",
       "at byte 36, where the text ends"},
      {Api::kChatCompletions, R"({"model":"m","messages":[]} {})", "invalid_json", "",
       "expected the end at byte 28, found '{'"},
      {Api::kChatCompletions, R"({"model":"m","messages":[],"x":[1}})", "invalid_json", "",
       "expected ',' or ']' at byte 33"},
      {Api::kChatCompletions, R"({"model":"m","messages":[],"x":tru})", "invalid_json", "",
       "byte 31"},
      {Api::kChatCompletions, "{\"model\":\"m\",\"messages\":[],\"x\":\"\xFF\"}", "invalid_utf8",
       "", "at byte 32"},
      {Api::kChatCompletions, R"({"model":"m","messages":[],"x":)" + std::string(600, '['),
       "nesting_too_deep", "", "at most 512 levels"},
      {Api::kChatCompletions, R"({"model":"m"})", "missing_field", "messages",
       "no \"messages\", which chat_completions requires"},
      {Api::kChatCompletions, R"({"model":"m","messages":null})", "missing_field", "messages", ""},
      {Api::kChatCompletions, R"({"messages":[]})", "missing_field", "model", "name of a model"},
      {Api::kChatCompletions, R"({"model":"","messages":[]})", "missing_field", "model", ""},
      {Api::kChatCompletions, R"({"model":5,"messages":[]})", "invalid_type", "model",
       "model: expected a string, found the number 5"},
      {Api::kChatCompletions, R"({"model":"m","messages":"hi"})", "invalid_type", "messages",
       "messages: expected an array of messages, found a string"},
      {Api::kChatCompletions, R"({"model":"m","messages":[{},7]})", "invalid_type", "messages",
       "messages[1]: expected an object, found the number 7"},
      {Api::kChatCompletions, R"({"model":"m","messages":[{"content":false}]})", "invalid_type",
       "messages",
       "messages[0].content: expected a string or an array of content blocks, found false"},
      {Api::kChatCompletions, R"({"model":"m","messages":[],"stream":"yes"})", "invalid_type",
       "stream", "stream: expected true or false, found a string"},
      {Api::kChatCompletions, R"({"model":"m","messages":[],"cache_salt":{}})", "invalid_type",
       "cache_salt", "cache_salt: expected a string, found an object"},
      {Api::kCompletions, R"({"model":"m"})", "missing_field", "prompt", "\"prompt\" or"},
      {Api::kCompletions, R"({"model":"m","prompt":{}})", "invalid_type", "prompt",
       "prompt: expected a string, an array of strings"},
      {Api::kCompletions, R"({"model":"m","prompt":[1,"a"]})", "invalid_type", "prompt",
       "prompt[1]: expected an element like those before it, found a string"},
      {Api::kCompletions, R"({"model":"m","prompt":[1,-5]})", "invalid_type", "prompt",
       "prompt[1]: expected a token id (0 to 4294967295), found the number -5"},
      {Api::kCompletions, R"({"model":"m","prompt":[[1],[4294967296]]})", "invalid_type", "prompt",
       "prompt[1]: expected a token id (0 to 4294967295), found the number 4294967296"},
      {Api::kCompletions, R"({"model":"m","prompt":[{}]})", "invalid_type", "prompt", "prompt[0]"},
      {Api::kMessages, R"({"model":"m","messages":[]})", "missing_field", "messages",
       "at least one"},
      {Api::kMessages, R"({"model":"m","messages":[{}],"system":1})", "invalid_type", "system",
       "system: expected a string or an array of content blocks, found the number 1"},
      {Api::kResponses, R"({"model":"m","input":true})", "invalid_type", "input", "found true"},
      {Api::kTokenize, R"({"model":"m"})", "missing_field", "prompt", "\"prompt\" or \"messages\""},
      {Api::kRerank, R"({"model":"m","query":"q"})", "missing_field", "documents", ""},
      {Api::kScore, R"({"model":"m","text_2":"q"})", "missing_field", "text_1", ""},
      {Api::kConversations, R"({"metadata":{}})", "missing_field", "items", "\"items\""},
      {Api::kImages, R"({"model":"m"})", "missing_field", "prompt", ""},
      {Api::kImages, R"({"prompt":"m"})", "missing_field", "model", ""},
      {Api::kChatRender, R"({"model":"m"})", "missing_field", "messages", "chat_render requires"},
      {Api::kCompletionRender, R"({"model":"m"})", "missing_field", "prompt", ""},
      {Api::kVllmGenerate, R"({"sampling_params":{}})", "missing_field", "token_ids", ""},
      {Api::kVllmGenerate, R"({"token_ids":"ab"})", "invalid_type", "token_ids",
       "token_ids: expected an array of token ids"},
      {Api::kVllmGenerate, R"({"token_ids":["ab"]})", "invalid_type", "token_ids",
       "token_ids[0]: expected a token id"},
      {Api::kVllmGenerate, R"({"token_ids":[1],"sampling_params":{"max_tokens":1)", "invalid_json",
       "", "where the text ends"},
      {Api::kVllmGenerate, R"({"token_ids":[1],"features":{"mm_hashes":{"image":[1,}}})",
       "invalid_json", "", "byte"},
      {Api::kSglangGenerate, R"({"sampling_params":{}})", "missing_field", "input_ids",
       "\"input_ids\" or \"text\""},
      {Api::kCountTokens, R"({"model":)", "invalid_json", "", ""},
      {Api::kOther, R"( {"model":"m",})", "invalid_json", "", "byte 14"},
      {Api::kOther, "\xEF\xBB\xBF{\"model\":\"m\"}", "invalid_json", "", "byte 0"},
      {Api::kOther, std::string("{\0\"\0", 4), "invalid_json", "", "byte 1"},
      {Api::kOther, std::string("\xFF\xFE{\0", 4), "invalid_utf8", "", "byte 0"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = Read(c.api, c.body);
    ASSERT_FALSE(outcome.read) << c.body;
    const ApiError& error = outcome.read.error();
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.code, c.code) << c.body << ": " << error.message;
    EXPECT_EQ(error.param, c.param) << c.body;
    EXPECT_THAT(error.message, HasSubstr(std::string(c.message))) << c.body;
    EXPECT_TRUE(outcome.splices.empty());
  }
}

TEST(BodyReader, PassesOtherBodies) {
  for (const std::string& body :
       {std::string(), std::string("--boundary\r\n"), std::string("[1,2"),
        std::string("\xFF\xFE\x00", 3), std::string("\0\0\0\0{\x0A", 6), std::string("  ")}) {
    const Outcome outcome = Read(Api::kOther, body);
    EXPECT_TRUE(outcome.read) << body;
    EXPECT_EQ(outcome.request.model, "");
    EXPECT_EQ(outcome.request.body_bytes, body.size());
  }
  const std::string body = R"({"model":"m","stream":7,"kv_transfer_params":{"a":1}})";
  const Outcome outcome = Read(Api::kOther, body);
  EXPECT_EQ(outcome.request.model, "m");
  EXPECT_EQ(Forwarded(body, outcome.splices), R"({"model":"m","stream":7})");
  EXPECT_TRUE(Read(Api::kOther, R"({"model":[1]})").read);
}

TEST(BodyReader, BoundsThePartsOfAPrompt) {
  std::string body = R"({"model":"m","prompt":["abcdefgh")";
  for (int i = 0; i < 300'000; ++i) body += R"(,"abcdefgh")";
  body += "]}";
  BodyReader reader;
  model::Request request;
  std::vector<Splice> splices;
  ASSERT_TRUE(reader.Read(Api::kCompletions, body, &request, &splices));
  EXPECT_EQ(request.prompt.size(), 262144u);
  EXPECT_EQ(request.extra_tokens, 2 * (300'001 - 262144u));
}

TEST(BodyReader, LeavesNothingOfTheRequestBefore) {
  BodyReader reader;
  model::Request request;
  std::vector<Splice> splices;
  ASSERT_TRUE(
      reader.Read(Api::kCompletions,
                  R"({"model":"m","prompt":[1],"stream":true,"max_tokens":4,"cache_salt":"s",
                             "kv_transfer_params":1})",
                  &request, &splices));
  ASSERT_TRUE(reader.Read(Api::kTokenize, R"({"prompt":"p"})", &request, &splices));
  EXPECT_EQ(request.model, "");
  EXPECT_FALSE(request.stream);
  EXPECT_EQ(request.max_output_tokens, 0u);
  EXPECT_EQ(request.cache_salt, "");
  EXPECT_EQ(request.prompt.size(), 1u);
  EXPECT_TRUE(splices.empty());
}

TEST(BodyReader, CutsKvTransferParams) {
  struct Case {
    std::string body, forwarded;
  };
  for (const auto& [body, forwarded] :
       {Case{R"({"kv_transfer_params":{"a":[1]}, "prompt":"p"})", R"({"prompt":"p"})"},
        Case{R"({"prompt":"p" , "kv_transfer_params" : null })", R"({"prompt":"p" })"},
        Case{R"({"prompt":"p","kv_transfer_params":1,"n":2})", R"({"prompt":"p","n":2})"},
        Case{R"({"kv_transfer_params":1,"kv_transfer_params":2,"prompt":"p"})",
             R"({"prompt":"p"})"},
        Case{R"({"kv_transfer_params":1,"prompt":"p","\u006bv_transfer_params":2})",
             R"({"prompt":"p"})"},
        Case{R"({"prompt":"p","x":{"kv_transfer_params":1}})",
             R"({"prompt":"p","x":{"kv_transfer_params":1}})"},
        Case{R"({"prompt":"p","kv_transfer_paramsx":1})",
             R"({"prompt":"p","kv_transfer_paramsx":1})"}}) {
    const Outcome outcome = Read(Api::kTokenize, body);
    ASSERT_TRUE(outcome.read) << outcome.read.error().message;
    EXPECT_EQ(Forwarded(body, outcome.splices), forwarded);
  }
  const std::string only = R"({ "kv_transfer_params":1 , "kv_transfer_params":1 })";
  EXPECT_EQ(Forwarded(only, Read(Api::kOther, only).splices), "{  }");

  std::string many = "{\"prompt\":\"p\"";
  for (int i = 0; i < 17; ++i) many += ",\"kv_transfer_params\":1";
  EXPECT_EQ(Read(Api::kTokenize, many + "}").read.error().code, "duplicate_field");
}

TEST(BodyReader, ReadsTokensInTokensOut) {
  const std::string body = R"({"request_id":"r","token_ids":[1,2,3],"model":"m","stream":true,
    "sampling_params":{"max_tokens":8},"sampling_params":{"n":1,"max_tokens":9.5,"max_tokens":7,
      "extra_args":{"kv_transfer_params":{"do_remote_prefill":true},"a":1}},
    "kv_transfer_params":{"x":1},"cache_salt":"s"})";
  const Outcome vllm = Read(Api::kVllmGenerate, body);
  ASSERT_TRUE(vllm.read) << vllm.read.error().message;
  EXPECT_EQ(vllm.request.model, "m");
  EXPECT_TRUE(vllm.request.stream);
  EXPECT_EQ(vllm.request.max_output_tokens, 7u);
  EXPECT_EQ(vllm.request.cache_salt, "s");
  EXPECT_EQ(Forwarded(body, vllm.splices),
            R"({"request_id":"r","token_ids":[1,2,3],"model":"m","stream":true,
    "sampling_params":{"max_tokens":8},"sampling_params":{"n":1,"max_tokens":9.5,"max_tokens":7,
      "extra_args":{"a":1}},"cache_salt":"s"})");

  const Outcome sglang = Read(Api::kSglangGenerate, R"({"input_ids":[1],"extra_key":"\u0073",
    "sampling_params":{"max_new_tokens":5},"stream":false})");
  ASSERT_TRUE(sglang.read) << sglang.read.error().message;
  EXPECT_EQ(sglang.request.model, "");
  EXPECT_EQ(sglang.request.max_output_tokens, 5u);
  EXPECT_EQ(sglang.request.cache_salt, "s");
  EXPECT_EQ(Read(Api::kSglangGenerate, R"({"text":"a","extra_key":["x","y"]})").request.cache_salt,
            R"(["x","y"])");
  EXPECT_EQ(Read(Api::kSglangGenerate, R"({"text":"a","extra_key":"x","extra_key":null})")
                .request.cache_salt,
            "");
  EXPECT_EQ(Read(Api::kSglangGenerate, R"({"text":"a","sampling_params":[{"max_new_tokens":5}]})")
                .request.max_output_tokens,
            0u);
}

TEST(BodyReader, CutsInsideComeAfterCutsBefore) {
  const std::string body = R"({"kv_transfer_params":1,"sampling_params":{"extra_args":)"
                           R"({"kv_transfer_params":2}},"token_ids":[1],"kv_transfer_params":3})";
  const Outcome outcome = Read(Api::kVllmGenerate, body);
  ASSERT_TRUE(outcome.read);
  EXPECT_EQ(Forwarded(body, outcome.splices),
            R"({"sampling_params":{"extra_args":{}},"token_ids":[1]})");
}

// A prompt of `tokens` equal ids, with media where `features` says.
std::string PromptWith(const std::string& features, size_t tokens = 6) {
  std::string ids = "7";
  for (size_t i = 1; i < tokens; ++i) ids += ",7";
  static BodyReader reader;
  model::Request request;
  std::vector<Splice> splices;
  const auto read = reader.Read(Api::kVllmGenerate,
                                R"({"features":)" + features + R"(,"token_ids":[)" + ids + "]}",
                                &request, &splices);
  EXPECT_TRUE(read) << read.error().message;
  std::string prompt;
  for (const model::PromptPart& part : request.prompt) prompt += part.bytes;
  EXPECT_EQ(prompt.size(), 4 * tokens);
  return prompt;
}

TEST(BodyReader, MediaTokensCountAsTheirHash) {
  const auto image = [](const std::string& hash, const std::string& place) {
    return R"({"mm_placeholders":{"image":[)" + place + R"(]},"mm_hashes":{"image":[")" + hash +
           R"("]},"kwargs_data":{"image":["QQ=="]}})";
  };
  const std::string plain = PromptWith("null");
  const std::string a = PromptWith(image("a", R"({"offset":2,"length":3})"));
  const std::string b = PromptWith(image("b", R"({"length":3,"offset":2})"));
  EXPECT_NE(a, b);
  EXPECT_EQ(a.substr(0, 8), plain.substr(0, 8));
  EXPECT_NE(a.substr(8, 12), plain.substr(8, 12));
  EXPECT_EQ(a.substr(20), plain.substr(20));
  EXPECT_EQ(PromptWith(image("a", R"({"offset":2,"length":9000000000})")).substr(0, 20),
            a.substr(0, 20));
  for (
      const char* features :
      {"{}", "[]", "7", R"({"mm_hashes":{"image":["a"]}})",
       R"({"mm_hashes":7,"mm_placeholders":7})",
       R"({"mm_hashes":{"image":["a"]},"mm_placeholders":{"audio":[{"offset":0,"length":1}]}})",
       R"({"mm_hashes":{"image":[7]},"mm_placeholders":{"image":[{"offset":0,"length":1}]}})",
       R"({"mm_hashes":{"image":["a"]},"mm_placeholders":{"image":[{"offset":6,"length":1}]}})",
       R"({"mm_hashes":{"image":["a"]},
            "mm_placeholders":{"image":[{"offset":18446744073709551615,"length":5}]}})",
       R"({"mm_hashes":{"image":["a"]},"mm_placeholders":{"image":[{"offset":-1,"length":"5"}]}})"}) {
    EXPECT_EQ(PromptWith(features), plain) << features;
  }
}

TEST(BodyReader, MediaAreFoundInLongPromptsAndMayNotOverlap) {
  const std::string two =
      R"({"mm_hashes":{"image":["a","b"],"video":["c"]},"mm_placeholders":{"image":[)"
      R"({"offset":4000,"length":200},{"offset":9000,"length":1}],)"
      R"("video":[{"offset":4100,"length":9000}]}})";
  const std::string prompt = PromptWith(two, 10'000);
  const std::string plain = PromptWith("{}", 10'000);
  for (size_t token = 0; token < 10'000; ++token) {
    const bool is_covered = (token >= 4000 && token < 4200) || token == 9000;
    ASSERT_EQ(prompt.substr(4 * token, 4) != plain.substr(4 * token, 4), is_covered) << token;
  }
  // Several prompts have no media; nothing is written outside of them.
  BodyReader reader;
  model::Request request;
  std::vector<Splice> splices;
  EXPECT_TRUE(reader.Read(Api::kVllmGenerate,
                          R"({"token_ids":[[1],[2],[3]],"features":)" + two + "}", &request,
                          &splices));
}

std::string Edited(const std::string& body, const BodyEdits& edits) {
  const std::vector<Splice> splices = edits.Splices();
  const std::string edited = Forwarded(body, splices);
  EXPECT_EQ(SplicedSize(body.size(), splices), edited.size());
  return edited;
}

TEST(BodyEdits, RewriteTheModelAndAddFields) {
  struct Case {
    std::string body, edited;
  };
  BodyReader reader;
  model::Request request;
  for (const Case& c :
       {Case{R"({"model" : "m","prompt":"model"})",
             R"({"kv_transfer_params":{"a":1},"model" : "x\"y","prompt":"model"})"},
        Case{R"( { "kv_transfer_params":1, "prompt":"p","model":"\u006d" } )",
             R"( {"kv_transfer_params":{"a":1}, "prompt":"p","model":"x\"y" } )"},
        Case{R"({"kv_transfer_params":1,"mod\u0065l":null,"model":"m","kv_transfer_params":2,)"
             R"("model":"n"})",
             R"({"kv_transfer_params":{"a":1},"mod\u0065l":"x\"y","model":"x\"y",)"
             R"("model":"x\"y"})"},
        Case{R"({"x":{"model":"m"},"model":[1]})",
             R"({"kv_transfer_params":{"a":1},"x":{"model":"m"},"model":"x\"y"})"}}) {
    BodyEdits edits;
    const auto read = reader.Read(Route{}, c.body, &request, &edits);
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_TRUE(edits.RewriteModel("another"));
    EXPECT_TRUE(edits.RewriteModel("x\"y"));
    EXPECT_TRUE(edits.AddField("kv_transfer_params", R"({"a":1})"));
    EXPECT_EQ(Edited(c.body, edits), c.edited);
  }
}

TEST(BodyEdits, LeaveWhatHasNoPlaceForThem) {
  BodyReader reader;
  model::Request request;
  BodyEdits edits;
  for (const std::string& body :
       {std::string("[1]"), std::string(), std::string("\0\0\0\0\1", 5)}) {
    ASSERT_TRUE(reader.Read(Route{}, body, &request, &edits));
    EXPECT_FALSE(edits.RewriteModel("x"));
    EXPECT_FALSE(edits.AddField("a", "1"));
    EXPECT_EQ(Edited(body, edits), body);
  }
  for (const auto& [body, edited] : {std::pair<std::string, std::string>{"{}", R"({"a":1,"b":2})"},
                                     {R"({"kv_transfer_params":0})", R"({"a":1,"b":2})"}}) {
    ASSERT_TRUE(reader.Read(Route{}, body, &request, &edits));
    EXPECT_FALSE(edits.RewriteModel("x"));
    EXPECT_TRUE(edits.AddField("a", "1"));
    EXPECT_TRUE(edits.AddField("b", "2"));
    EXPECT_EQ(Edited(body, edits), edited);
  }
  std::string many = "{\"model\":\"m\"";
  for (int i = 0; i < 16; ++i) many += ",\"model\":\"m\"";
  const auto read = reader.Read(Route{}, many + "}", &request, &edits);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, "duplicate_field");
  EXPECT_EQ(read.error().param, "model");
  EXPECT_FALSE(edits.RewriteModel("x"));
}

TEST(BodyReader, ModelNamesAreOfAReasonableLength) {
  const auto body = [](size_t bytes) {
    return R"({"prompt":"p","model":")" + std::string(bytes, 'm') + "\"}";
  };
  for (const Api api : {Api::kCompletions, Api::kOther}) {
    EXPECT_EQ(Read(api, body(1024)).request.model.size(), 1024u);
    const Outcome outcome = Read(api, body(1'000'000));
    ASSERT_FALSE(outcome.read);
    EXPECT_EQ(outcome.read.error().code, "invalid_value");
    EXPECT_EQ(outcome.read.error().param, "model");
    EXPECT_LT(outcome.read.error().message.size(), 200u);
  }
}

// Builds an object of the fields that `kinds` chooses, and the same one without the router's.
RC_GTEST_PROP(BodyReader, CutsGiveTheObjectWithoutTheField, (const std::vector<uint8_t>& kinds)) {
  std::string body = " {\n", expected = "{";
  int cuts = 0;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const bool is_cut = kinds[i] % 3 == 0 && cuts++ < 16;
    const std::string key =
        is_cut ? kinds[i] % 2 == 0 ? "kv_transfer_params" : "kv_transfer_par\\u0061ms"
               : "f" + std::to_string(i);
    const std::string space(kinds[i] % 5, ' ');
    const std::string value = kinds[i] % 7 < 3 ? "{\"a\":\",}\"}" : "1";
    body += (i > 0 ? "," : "") + space + "\"" + key + "\"" + space + ":" + value + space;
    if (!is_cut) expected += (expected.size() > 1 ? ",\"" : "\"") + key + "\":" + value;
  }
  body += "}\n";
  const Outcome outcome = Read(Api::kOther, body);
  RC_ASSERT(outcome.read.has_value());
  std::string compact;
  for (const char c : Forwarded(body, outcome.splices)) {
    if (c != ' ' && c != '\n') compact += c;
  }
  RC_ASSERT(compact == expected + "}");
  simdjson::dom::parser parser;
  RC_ASSERT(parser.parse(compact).error() == simdjson::SUCCESS);
}

RC_GTEST_PROP(BodyReader, AnyTextSurvivesTheWayThroughJson, (const std::string& text)) {
  std::string quoted;  // every byte escaped, as Latin-1
  std::string expected;
  for (const unsigned char c : text) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    quoted += std::string("\\u00") + kHex[c >> 4] + kHex[c & 15];
    if (c < 0x80) {
      expected += static_cast<char>(c);
    } else {
      expected += static_cast<char>(0xC0 | c >> 6);
      expected += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
  const Outcome outcome = Read(Api::kCompletions, R"({"model":"m","prompt":")" + quoted + "\"}");
  RC_ASSERT(outcome.prompt == "|" + expected);
}

TEST(ApplySplices, ReplacesAndInserts) {
  const std::string body = "0123456789";
  EXPECT_THAT(ApplySplices(body, {}), ElementsAre("0123456789"));
  EXPECT_THAT(ApplySplices(body, {{0, 2, "a"}, {4, 4, "b"}, {8, 10, ""}}),
              ElementsAre("a", "23", "b", "4567"));
  EXPECT_THAT(ApplySplices("", {}), ElementsAre());
}

}  // namespace
}  // namespace penstock::api
