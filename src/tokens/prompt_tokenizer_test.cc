#include "tokens/prompt_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>

#include "tokens/testing.h"

namespace penstock::tokens {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Unknown = PromptTokenizer::Unknown;

constexpr std::string_view kTemplate =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if tools %}<{{ tools | length }}{{ tools[0].function.name }}>{% endif %}"
    "{% if documents %}D{{ documents | length }}{% endif %}"
    "{% if enable_thinking is defined %}T{{ enable_thinking }}{% endif %}"
    "{% if reasoning_effort is defined %}E{{ reasoning_effort }}{% endif %}"
    "{% if add_generation_prompt %}[a]{% endif %}";

// A model's folder in the test's own place.
class PromptTokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              ("penstock_prompt_tokenizer_" + std::to_string(::getpid()) + "_" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    boost::json::object json =
        testing::ByteLevelJson(testing::SomeMerges(), testing::ByteLevel(true));
    bos_ = static_cast<uint32_t>(json["model"].at("vocab").get_object().size());
    json["added_tokens"] = boost::json::array{{{"id", bos_},
                                               {"content", "<s>"},
                                               {"single_word", false},
                                               {"lstrip", false},
                                               {"rstrip", false},
                                               {"normalized", false},
                                               {"special", true}}};
    json["post_processor"] = boost::json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1000], "tokens": ["<s>"]}}})");
    json["post_processor"].at("special_tokens").at("<s>").at("ids") = boost::json::array{bos_};
    Write("tokenizer.json", boost::json::serialize(json));
    Write("tokenizer_config.json", R"({"bos_token": "<s>"})");
    Write("chat_template.jinja", kTemplate);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Write(const std::string& name, std::string_view text) const {
    std::ofstream(folder_ / name) << text;
  }
  std::unique_ptr<PromptTokenizer> Load(PromptTokenizer::Options options = {}) const {
    if (options.path.empty()) options.path = folder_.string();
    auto loaded = PromptTokenizer::Load(options);
    if (!loaded) ADD_FAILURE() << loaded.error().message;
    return loaded ? *std::move(loaded) : nullptr;
  }
  std::string LoadError(PromptTokenizer::Options options = {}) const {
    if (options.path.empty()) options.path = folder_.string();
    auto loaded = PromptTokenizer::Load(options);
    return loaded ? "" : loaded.error().message;
  }

  fs::path folder_;
  uint32_t bos_ = 0;
};

constexpr std::string_view kHi = R"([{"role": "user", "content": "hi"}])";

std::string TextOf(const PromptTokenizer& model, const model::PromptSource& chat) {
  const auto text = model.Render(chat);
  return text ? *text : "refused: " + text.error().detail;
}

TEST_F(PromptTokenizerTest, TextsGetSpecialTokensAndChatsWriteTheirOwn) {
  const auto model = Load();
  std::vector<uint32_t> ids;
  ASSERT_TRUE(model->EncodeText("hello", "", &ids));
  EXPECT_EQ(ids.size(), 2u);
  EXPECT_EQ(ids[0], bos_);
  ids.clear();
  ASSERT_TRUE(model->EncodeText("hello", "false", &ids));
  EXPECT_EQ(ids.size(), 1u);
  ids.clear();
  ASSERT_TRUE(model->EncodeChat({.messages = kHi}, &ids));
  EXPECT_EQ(model->tokenizer().Decode(ids), "<s>[user]hi[a]");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), bos_), 1);
  ids.clear();
  ASSERT_TRUE(model->EncodeChat({.messages = kHi, .add_special_tokens = "true"}, &ids));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), bos_), 2);
}

TEST_F(PromptTokenizerTest, TheRequestsFieldsReachTheTemplate) {
  const auto model = Load();
  EXPECT_EQ(TextOf(*model, {.messages = kHi, .add_generation_prompt = "false"}), "<s>[user]hi");
  EXPECT_EQ(TextOf(*model, {.messages = kHi,
                            .tools = R"([{"type": "function", "function": {"name": "f"}}])"}),
            "<s>[user]hi<1f>[a]");
  EXPECT_EQ(TextOf(*model, {.messages = kHi, .documents = R"([{"a": 1}, {}])"}),
            "<s>[user]hiD2[a]");
  EXPECT_EQ(TextOf(*model, {.messages = kHi, .chat_template_kwargs = R"({"documents": [1]})"}),
            "<s>[user]hiD1[a]");
  EXPECT_EQ(TextOf(*model, {.messages = kHi,
                            .chat_template_kwargs =
                                R"({"enable_thinking": false, "add_generation_prompt": false})"}),
            "<s>[user]hiTFalse[a]");
}

TEST_F(PromptTokenizerTest, ReasoningEffortTurnsThinkingOn) {
  const auto model = Load();
  EXPECT_EQ(TextOf(*model, {.messages = kHi, .reasoning_effort = R"("low")"}),
            "<s>[user]hiTTrueElow[a]");
  EXPECT_EQ(TextOf(*model, {.messages = kHi, .reasoning_effort = R"("none")"}),
            "<s>[user]hiTFalseEnone[a]");
  EXPECT_EQ(TextOf(*model, {.messages = kHi,
                            .chat_template_kwargs = R"({"enable_thinking": null})",
                            .reasoning_effort = R"("low")"}),
            "<s>[user]hiElow[a]");
}

// The template of this test writes any effort down, and so can tell "none" from others.
TEST_F(PromptTokenizerTest, AnthropicMessagesAreChats) {
  const auto model = Load();
  model::PromptSource chat{.messages = R"([
    {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {}}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "5"},
                                 {"type": "text", "text": "so?"}]},
    {"role": "system", "content": "calm"}])",
                           .system = R"([{"type": "text", "text": "Be brief."}])",
                           .is_anthropic = true};
  EXPECT_EQ(TextOf(*model, chat),
            "<s>[system]Be brief.[user]hi[assistant][tool]5[user]so?[system]calm[a]");
  chat.tools = R"([{"name": "f", "input_schema": {}}])";
  chat.thinking = R"({"type": "disabled"})";
  EXPECT_EQ(
      TextOf(*model, chat),
      "<s>[system]Be brief.[user]hi[assistant][tool]5[user]so?[system]calm<1f>TFalseEnone[a]");
  chat.messages = R"([{"role": "tool", "content": "5"}])";
  EXPECT_EQ(TextOf(*model, chat),
            "refused: messages[0]: must have the role user, assistant or system");
}

TEST_F(PromptTokenizerTest, AnthropicMessagesFollowTheTemplatesHabits) {
  Write("chat_template.jinja",
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
        "{{ raise_exception('system first') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if reasoning_effort is defined and reasoning_effort != 'none' %}E{{ reasoning_effort }}"
        "{% endif %}{% if reasoning_effort == 'none' %}Elow{% endif %}");
  EXPECT_EQ(TextOf(*Load(), {.messages = R"([{"role": "user", "content": "hi"},
                                             {"role": "system", "content": "calm"}])",
                             .system = R"("Be brief.")",
                             .thinking = R"({"type": "disabled"})",
                             .is_anthropic = true}),
            "[system]Be brief.calm[user]hiElow");
}

TEST_F(PromptTokenizerTest, TheEnginesOwnVariablesComeFirst) {
  const auto model =
      Load({.path = folder_.string(), .chat_template_kwargs = R"({"enable_thinking": false})"});
  EXPECT_EQ(TextOf(*model, {.messages = kHi}), "<s>[user]hiTFalse[a]");
  EXPECT_EQ(
      TextOf(*model, {.messages = kHi, .chat_template_kwargs = R"({"enable_thinking": true})"}),
      "<s>[user]hiTTrue[a]");
  EXPECT_EQ(
      TextOf(*model, {.messages = kHi, .chat_template_kwargs = R"({"enable_thinking": null})"}),
      "<s>[user]hiTFalse[a]");
}

TEST_F(PromptTokenizerTest, SaysWhyAChatIsNotKnown) {
  const auto model = Load();
  const auto why = [&](const model::PromptSource& chat) {
    std::vector<uint32_t> ids;
    const auto done = model->EncodeChat(chat, &ids);
    EXPECT_TRUE(ids.empty());
    EXPECT_FALSE(done);
    return done ? Unknown::kTooLong : done.error().why;
  };
  EXPECT_EQ(why({.messages = kHi, .chat_template = "\"x\""}), Unknown::kOwnTemplate);
  EXPECT_EQ(why({.messages = kHi, .continue_final_message = "true"}), Unknown::kContinues);
  EXPECT_EQ(why({.messages = R"([{"role": "user", "content": [{"type": "image_url"}]}])"}),
            Unknown::kMedia);
  EXPECT_EQ(why({.messages = "{}"}), Unknown::kRefused);
  EXPECT_EQ(why({}), Unknown::kRefused);
  EXPECT_EQ(why({.messages = kHi, .tools = "[1]"}), Unknown::kRefused);
  EXPECT_EQ(why({.messages = kHi, .chat_template_kwargs = "[]"}), Unknown::kRefused);
  EXPECT_EQ(why({.messages = kHi, .add_generation_prompt = "1"}), Unknown::kRefused);
  EXPECT_EQ(why({.messages = kHi, .chat_template_kwargs = R"({"a": 123456789012345678901})"}),
            Unknown::kNotSupported);
}

TEST_F(PromptTokenizerTest, ATemplateMayBeMissingReplacedOrHarmony) {
  std::vector<uint32_t> ids;
  fs::remove(folder_ / "chat_template.jinja");
  const auto none = Load();
  EXPECT_FALSE(none->has_chat_template());
  EXPECT_EQ(none->EncodeChat({.messages = kHi}, &ids).error().why, Unknown::kNoTemplate);
  EXPECT_TRUE(none->EncodeText("hi", "", &ids));
  Write("other.jinja", "{{ messages[0].content }}!");
  const auto other = Load({.path = (folder_ / "tokenizer.json").string(),
                           .chat_template = (folder_ / "other.jinja").string()});
  EXPECT_EQ(TextOf(*other, {.messages = kHi}), "hi!");
  Write("chat_template.jinja", "<|start|>user<|channel|>x<|message|>");
  EXPECT_EQ(Load()->EncodeChat({.messages = kHi}, &ids).error().why, Unknown::kOtherFormat);
}

TEST_F(PromptTokenizerTest, ErrorsNameTheFile) {
  const std::string missing = (folder_ / "missing").string();
  EXPECT_THAT(LoadError({.path = missing}), HasSubstr(missing));
  Write("chat_template.jinja", "{% for %}");
  EXPECT_THAT(LoadError(), HasSubstr(folder_.string() + ": chat template, line 1"));
  Write("chat_template.jinja", kTemplate);
  EXPECT_THAT(LoadError({.path = folder_.string(), .chat_template_kwargs = "[]"}),
              HasSubstr("'[]' are no JSON object"));
  fs::remove(folder_ / "tokenizer.json");
  EXPECT_THAT(LoadError(), HasSubstr("has neither tokenizer.json nor tokenizer.model"));
}

}  // namespace
}  // namespace penstock::tokens
