// What vLLM was recorded to do, tests/conformance/chat_messages.json.
#include "tokens/chat_template_messages.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <filesystem>
#include <string>

#include "core/file.h"
#include "tokens/chat_template_config.h"
#include "tokens/chat_template_json.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;

json::object Record() {
  const auto text = ReadFile("tests/conformance/chat_messages.json", 1 << 20);
  return ParseJson(*text)->get_object();
}

std::string Written(const Result<json::array>& prepared) {
  return prepared ? json::serialize(*prepared) : "error: " + prepared.error().message;
}

TEST(PrepareMessages, GivesWhatVllmGives) {
  const json::object record = Record();
  ASSERT_GT(record.at("messages").as_object().size(), 30u);
  for (const auto& [name, value] : record.at("messages").as_object()) {
    const json::array& given = value.at("given").as_array();
    EXPECT_EQ(Written(PrepareMessages(given, ContentFormat::kString)),
              json::serialize(value.at("string")))
        << name;
    EXPECT_EQ(Written(PrepareMessages(given, ContentFormat::kOpenAi)),
              json::serialize(value.at("openai")))
        << name;
  }
}

TEST(PrepareMessages, MakesDevelopersSystemsWhereTheTemplateDoesNotKnowThem) {
  const auto plain = ChatTemplate::Parse("{{ messages }}");
  const auto knowing = ChatTemplate::Parse("{% if messages[0].role == 'developer' %}{% endif %}");
  const json::object record = Record();
  for (const auto& [name, value] : record.at("without developer").as_object()) {
    EXPECT_EQ(Written(PrepareMessages(value.at("given").as_array(), *plain)),
              json::serialize(value.at("string")))
        << name;
  }
  const json::array given = {json::object{{"role", "developer"}, {"content", "x"}}};
  EXPECT_EQ(Written(PrepareMessages(given, *knowing)),
            R"([{"role":"developer","content":"x","tools":null}])");
}

TEST(PrepareTools, GivesWhatVllmGives) {
  const json::object record = Record();
  for (const auto& [name, value] : record.at("tools").as_object()) {
    EXPECT_EQ(Written(PrepareTools(value.at("given").as_array())),
              json::serialize(value.at("prepared")))
        << name;
  }
}

TEST(PrepareMessages, RefusesWithThePlace) {
  const auto error = [](std::string_view messages, ContentFormat format = ContentFormat::kString) {
    const auto parsed = ParseJson(messages);
    return Written(PrepareMessages(parsed->as_array(), format));
  };
  EXPECT_EQ(error(R"([{"content": "x"}])"), "error: messages[0]: must be an object with a role");
  EXPECT_EQ(error(R"([{"role": "user", "content": 5}])"),
            "error: messages[0]: content must be a text, a list of parts or null");
  EXPECT_EQ(error(R"([{"role": "user", "content": [{"type": "smell"}]}])"),
            "error: messages[0]: unsupported part type 'smell'");
  EXPECT_EQ(error(R"([{"role": "assistant", "tool_calls": [{"type": "x"}]}])"),
            "error: messages[0]: tool_calls must be of type 'function' and have a function");
  const char* image = R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])";
  EXPECT_EQ(
      error(image),
      "error: messages[0]: what stands for image in a template that takes texts is known to the "
      "model's processor only");
  EXPECT_EQ(error(image, ContentFormat::kOpenAi),
            R"([{"role":"user","content":[{"type":"image"}]}])");
}

TEST(ChatTemplateConfig, ReadsOneTemplateAndTokensInBothForms) {
  const auto config = ReadChatTemplateConfig(
      R"({"chat_template": "T", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false},
          "pad_token": null, "added_tokens_decoder": {}})");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->special_tokens, (NamedTokens{{"bos_token", "<s>"}, {"eos_token", "</s>"}}));
  EXPECT_EQ(*config->Choose("", ChatTemplateConfig::Tools::kGiven), "T");
  EXPECT_EQ(*config->Choose("{{ own }}", ChatTemplateConfig::Tools::kNone), "{{ own }}");
}

TEST(ChatTemplateConfig, ChoosesAmongNamedTemplates) {
  const auto config = ReadChatTemplateConfig(
      R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"},
                            {"name": "rag", "template": "R"}]})");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(*config->Choose("", ChatTemplateConfig::Tools::kNone), "D");
  EXPECT_EQ(*config->Choose("", ChatTemplateConfig::Tools::kGiven), "T");
  EXPECT_EQ(*config->Choose("rag", ChatTemplateConfig::Tools::kNone), "R");
  EXPECT_EQ(ChatTemplateConfig().Choose("", ChatTemplateConfig::Tools::kNone).error().code,
            Code::kNotFound);
  const auto large = ReadChatTemplateConfig(
      R"({"model_max_length": 1000000000000000019884624838656, "bos_token": "<s>"})");
  ASSERT_TRUE(large) << large.error().message;
  EXPECT_EQ(large->special_tokens.size(), 1u);
  EXPECT_EQ(ReadChatTemplateConfig("[]").error().message, "must be a JSON object");
  EXPECT_FALSE(ReadChatTemplateConfig(R"({"bos_token": "<s>")"));
  EXPECT_EQ(ReadChatTemplateConfig(R"({"chat_template": [5]})").error().message,
            "chat_template[0] must have the texts name and template");
  EXPECT_EQ(ReadChatTemplateConfig(R"({"bos_token": 5})").error().message,
            "bos_token must be a text, or an object with content");
}

TEST(ChatTemplateConfig, AJinjaFileComesBeforeTheConfiguration) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / "chat_template_config_test";
  std::filesystem::create_directories(folder / "additional_chat_templates");
  const auto write = [&](const char* name, const char* text) {
    ASSERT_TRUE(WriteFile((folder / name).string(), text));
  };
  write("tokenizer_config.json", R"({"chat_template": "old", "bos_token": "<s>"})");
  write("chat_template.jinja", "new");
  write("additional_chat_templates/tool_use.jinja", "tools");
  const auto config = ReadChatTemplateFolder(folder.string());
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(*config->Choose("", ChatTemplateConfig::Tools::kNone), "new");
  EXPECT_EQ(*config->Choose("", ChatTemplateConfig::Tools::kGiven), "tools");
  EXPECT_EQ(config->special_tokens.size(), 1u);
  EXPECT_EQ(ReadChatTemplateFolder(folder.string()).error().code, Code::kNotFound);
}

}  // namespace
}  // namespace penstock::tokens
