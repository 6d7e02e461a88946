// What vLLM was recorded to do, tests/conformance/anthropic.json.
#include "tokens/anthropic_chat.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "core/file.h"
#include "tokens/chat_template_json.h"
#include "tokens/chat_template_messages.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;

// The fields of a request as a body has them.
struct Given {
  explicit Given(const json::object& request) {
    constexpr std::pair<const char*, std::string_view model::PromptSource::*> kFields[] = {
        {"messages", &model::PromptSource::messages},
        {"tools", &model::PromptSource::tools},
        {"system", &model::PromptSource::system},
        {"thinking", &model::PromptSource::thinking},
        {"output_config", &model::PromptSource::output_config}};
    source.is_anthropic = true;
    for (size_t i = 0; i < std::size(kFields); ++i) {
      const json::value* value = request.if_contains(kFields[i].first);
      if (value == nullptr) continue;
      texts[i] = json::serialize(*value);
      source.*kFields[i].second = texts[i];
    }
  }
  std::string texts[5];
  model::PromptSource source;
};

json::value Seen(const json::object& request, const AnthropicHabits& habits) {
  const Given given(request);
  const auto chat = ReadAnthropicChat(given.source, habits);
  if (!chat) return "refused";
  const auto messages = PrepareMessages(chat->messages, ContentFormat::kString);
  if (!messages) return messages.error().code == Code::kFailedPrecondition ? "media" : "refused";
  json::value tools;
  if (chat->tools) {
    const auto prepared = PrepareTools(*chat->tools);
    if (!prepared) return "refused";
    tools = *prepared;
  }
  json::value effort;
  if (chat->reasoning_effort) {
    effort = json::string_view(chat->reasoning_effort->data(), chat->reasoning_effort->size());
  }
  return {{"messages", *messages}, {"tools", tools}, {"reasoning_effort", effort}};
}

TEST(AnthropicChat, GivesWhatVllmGives) {
  const auto text = ReadFile("tests/conformance/anthropic.json", 1 << 20);
  const json::object record = ParseJson(*text)->get_object();
  ASSERT_GT(record.size(), 60u);
  for (const auto& [name, value] : record) {
    const json::object& given = value.at("given").as_object();
    EXPECT_EQ(json::serialize(Seen(given, {.merges_system = false, .disabled_effort = "none"})),
              json::serialize(value.at("as it is")))
        << name;
    EXPECT_EQ(json::serialize(Seen(given, {.merges_system = true, .disabled_effort = "low"})),
              json::serialize(value.at("merged")))
        << name;
  }
}

// They depend on the engine's clock and on Python's way of writing a list.
TEST(AnthropicChat, SaysWhatItCannotTell) {
  const auto error = [](std::string_view messages) {
    const auto chat = ReadAnthropicChat({.messages = messages, .is_anthropic = true}, {});
    EXPECT_FALSE(chat);
    return chat ? Error{} : chat.error();
  };
  EXPECT_EQ(
      error(R"([{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}])").code,
      Code::kOutOfRange);
  EXPECT_EQ(error(R"([{"role": "assistant", "content": [{"type": "tool_result",
                       "content": [{"type": "text"}]}]}])")
                .code,
            Code::kOutOfRange);
  EXPECT_EQ(
      error(R"([{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": 5}]}])")
          .message,
      "messages[1].content[0]: has no 'type'");
  EXPECT_EQ(error(R"({"role": "user"})").message, "messages: must be a list");
}

TEST(AnthropicChat, KnowsWhichTemplatesWantTheSystemFirst) {
  const auto merges = [](std::string_view source) {
    const auto parsed = ChatTemplate::Parse(source);
    EXPECT_TRUE(parsed);
    return MergesSystem(&*parsed);
  };
  EXPECT_TRUE(MergesSystem(nullptr));
  EXPECT_FALSE(merges("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"));
  EXPECT_TRUE(
      merges("{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
             "{{ raise_exception('system must come first') }}{% endif %}{% endfor %}"));
  // Only transformers knows these, and vLLM does not ask it.
  EXPECT_TRUE(merges("{{ strftime_now('%Y') }}"));
  EXPECT_FALSE(merges("{% if strftime_now is defined %}{{ raise_exception('x') }}{% endif %}"));
  EXPECT_TRUE(merges("{% generation %}x{% endgeneration %}"));
  EXPECT_TRUE(merges("{{ bos_token + 'x' }}"));
  EXPECT_FALSE(merges("{{ bos_token }}{% if tools is defined %}{{ 1 + 'x' }}{% endif %}"));
}

}  // namespace
}  // namespace penstock::tokens
