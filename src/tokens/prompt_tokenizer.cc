#include "tokens/prompt_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <optional>
#include <utility>

#include "core/file.h"
#include "tokens/anthropic_chat.h"
#include "tokens/chat_template.h"
#include "tokens/chat_template_config.h"
#include "tokens/chat_template_json.h"
#include "tokens/chat_template_messages.h"
#include "tokens/tokenizer.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;
using Reason = PromptTokenizer::Reason;
using Unknown = PromptTokenizer::Unknown;

constexpr size_t kMaxTemplateBytes = 256 << 10;

std::chrono::local_time<std::chrono::microseconds> LocalNow() {
  const std::time_t now = std::time(nullptr);
  std::tm tm = {};
  localtime_r(&now, &tm);
  return std::chrono::local_time<std::chrono::microseconds>(
      std::chrono::seconds(now + tm.tm_gmtoff));
}

std::unexpected<Reason> Because(Unknown why, std::string detail) {
  return std::unexpected(Reason{why, std::move(detail)});
}

Unknown WhyOf(const Error& error) {
  switch (error.code) {
    case Code::kFailedPrecondition:
      return Unknown::kMedia;
    case Code::kOutOfRange:
    case Code::kResourceExhausted:
      return Unknown::kNotSupported;
    default:
      return Unknown::kRefused;
  }
}

std::unexpected<Reason> Because(std::string_view where, const Error& error) {
  return Because(WhyOf(error), fmt::format("{}{}", where, error.message));
}

// vLLM's merge_kwargs: what is null or "auto" takes nothing's place.
bool IsUnset(const json::value& value) {
  return value.is_null() || (value.is_string() && value.get_string() == "auto");
}

std::expected<json::value, Reason> Parse(std::string_view name, std::string_view text) {
  auto value = ParseJson(text);
  if (!value) return Because(fmt::format("{}: ", name), value.error());
  return *std::move(value);
}

std::expected<bool, Reason> ParseBool(std::string_view name, std::string_view text,
                                      bool otherwise) {
  if (text.empty()) return otherwise;
  if (text == "true" || text == "false") return text == "true";
  return Because(Unknown::kRefused, fmt::format("{} must be true or false", name));
}

// gpt-oss: vLLM writes its chats with OpenAI's harmony library.
bool IsHarmony(std::string_view source) {
  return source.find("<|start|>") != std::string_view::npos &&
         source.find("<|channel|>") != std::string_view::npos &&
         source.find("<|message|>") != std::string_view::npos;
}

// tokenizer.json or tokenizer.model of a folder.
Result<std::string> FileOf(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    const fs::path file = fs::path(path) / name;
    if (fs::exists(file, error)) return file.string();
  }
  return Fail(Code::kNotFound,
              fmt::format("{}: has neither tokenizer.json nor tokenizer.model", path));
}

struct Template {
  ChatTemplate parsed;
  bool is_harmony = false;
};

}  // namespace

struct PromptTokenizer::Impl {
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<Template> plain, with_tools;  // of chats without and with tools
  NamedTokens special_tokens;
  json::object defaults;
  AnthropicHabits anthropic;
  size_t cache_bytes = 0;
  std::unique_ptr<TokenCache> cache;

  bool has_any_template() const { return plain || with_tools; }
  bool is_harmony() const {
    return (plain && plain->is_harmony) || (with_tools && with_tools->is_harmony);
  }
  Result<> ReadTemplates(const Options& options, const std::string& file);
  // One request's chat on its way to the template; owns what `input` borrows.
  struct Chat {
    json::value messages_json, tools_json, documents_json;
    std::string effort_json;  // of an Anthropic request
    json::array messages, tools;
    json::object variables;
    ChatInput input;
  };
  Encoded ReadLists(const model::PromptSource& source, Chat* chat) const;
  Encoded ReadAnthropic(const model::PromptSource& source, Chat* chat) const;
  Encoded Prepare(const model::PromptSource& source, const ChatTemplate& chat_template,
                  Chat* chat) const;
  Encoded ReadVariables(const model::PromptSource& source, Chat* chat) const;
  Encoded Encode(std::string_view text, SpecialTokens special, std::vector<uint32_t>* ids) const;
};

Result<> PromptTokenizer::Impl::ReadTemplates(const Options& options, const std::string& file) {
  const std::string folder = fs::path(file).parent_path().string();
  ChatTemplateConfig config;
  auto read = ReadChatTemplateFolder(folder.empty() ? "." : folder);
  if (read) {
    config = *std::move(read);
  } else if (read.error().code != Code::kNotFound) {
    return std::unexpected(read.error());
  }
  if (!options.chat_template.empty()) {
    auto source = ReadFile(options.chat_template, kMaxTemplateBytes);
    if (!source) return std::unexpected(source.error());
    config.templates = {{"default", *std::move(source)}};
  }
  special_tokens = std::move(config.special_tokens);
  for (auto* into : {&plain, &with_tools}) {
    const auto source = config.Choose(
        "", into == &plain ? ChatTemplateConfig::Tools::kNone : ChatTemplateConfig::Tools::kGiven);
    if (!source) continue;  // the model has none
    auto parsed = ChatTemplate::Parse(*source);
    if (!parsed) {
      return Fail(parsed.error().code,
                  fmt::format("{}: chat template, {}",
                              options.chat_template.empty() ? folder : options.chat_template,
                              parsed.error().message));
    }
    into->emplace(Template{*std::move(parsed), IsHarmony(*source)});
  }
  return {};
}

PromptTokenizer::Encoded PromptTokenizer::Impl::ReadVariables(const model::PromptSource& source,
                                                              Chat* chat) const {
  json::object& variables = chat->variables;
  variables = defaults;
  bool sets_thinking = false;
  if (!source.chat_template_kwargs.empty()) {
    auto given = Parse("chat_template_kwargs", source.chat_template_kwargs);
    if (!given) return std::unexpected(std::move(given.error()));
    if (!given->is_object()) {
      return Because(Unknown::kRefused, "chat_template_kwargs must be an object");
    }
    for (auto& member : given->get_object()) {
      sets_thinking = sets_thinking || member.key() == "enable_thinking";
      if (IsUnset(member.value())) continue;
      variables[member.key()] = std::move(member.value());
    }
  }
  const std::string_view effort_json =
      source.is_anthropic ? std::string_view(chat->effort_json) : source.reasoning_effort;
  if (!effort_json.empty()) {
    auto effort = Parse("reasoning_effort", effort_json);
    if (!effort) return std::unexpected(std::move(effort.error()));
    if (!sets_thinking) {
      variables["enable_thinking"] = !effort->is_string() || effort->get_string() != "none";
    }
    if (!IsUnset(*effort)) variables["reasoning_effort"] = *std::move(effort);
  }
  // The request's own fields come before these.
  variables.erase("add_generation_prompt");
  variables.erase("continue_final_message");
  if (json::value* documents = variables.if_contains("documents")) {
    if (chat->documents_json.is_null()) chat->documents_json = std::move(*documents);
    variables.erase("documents");
  }
  chat->input.variables = &variables;
  return {};
}

PromptTokenizer::Encoded PromptTokenizer::Impl::ReadAnthropic(const model::PromptSource& source,
                                                              Chat* chat) const {
  auto read = ReadAnthropicChat(source, anthropic);
  if (!read) return Because("", read.error());
  chat->messages_json = std::move(read->messages);
  if (read->tools) chat->tools_json = *std::move(read->tools);
  if (read->reasoning_effort) chat->effort_json = fmt::format("\"{}\"", *read->reasoning_effort);
  return {};
}

PromptTokenizer::Encoded PromptTokenizer::Impl::ReadLists(const model::PromptSource& source,
                                                          Chat* chat) const {
  if (source.is_anthropic) return ReadAnthropic(source, chat);
  const auto read_list = [](std::string_view name, std::string_view text,
                            json::value* into) -> Encoded {
    if (text.empty()) return {};
    auto value = Parse(name, text);
    if (!value) return std::unexpected(std::move(value.error()));
    if (!value->is_array())
      return Because(Unknown::kRefused, fmt::format("{} must be a list", name));
    *into = *std::move(value);
    return {};
  };
  if (auto read = read_list("messages", source.messages, &chat->messages_json); !read) return read;
  if (auto read = read_list("tools", source.tools, &chat->tools_json); !read) return read;
  if (auto read = read_list("documents", source.documents, &chat->documents_json); !read) {
    return read;
  }
  if (!chat->messages_json.is_array()) return Because(Unknown::kRefused, "there are no messages");
  return {};
}

PromptTokenizer::Encoded PromptTokenizer::Impl::Prepare(const model::PromptSource& source,
                                                        const ChatTemplate& chat_template,
                                                        Chat* chat) const {
  if (auto read = ReadVariables(source, chat); !read) return read;
  auto messages = PrepareMessages(chat->messages_json.get_array(), chat_template);
  if (!messages) return Because("", messages.error());
  chat->messages = *std::move(messages);
  chat->input.messages = &chat->messages;
  if (chat->tools_json.is_array()) {
    auto tools = PrepareTools(chat->tools_json.get_array());
    if (!tools) return Because("", tools.error());
    chat->tools = *std::move(tools);
    chat->input.tools = &chat->tools;
  }
  if (!chat->documents_json.is_null()) {
    if (!chat->documents_json.is_array()) {
      return Because(Unknown::kRefused, "documents must be a list");
    }
    chat->input.documents = &chat->documents_json.get_array();
  }
  const auto adds = ParseBool("add_generation_prompt", source.add_generation_prompt, true);
  if (!adds) return std::unexpected(adds.error());
  chat->input.generation_prompt =
      *adds ? ChatInput::GenerationPrompt::kAdded : ChatInput::GenerationPrompt::kNone;
  chat->input.special_tokens = &special_tokens;
  chat->input.now = LocalNow();
  return {};
}

PromptTokenizer::Encoded PromptTokenizer::Impl::Encode(std::string_view text, SpecialTokens special,
                                                       std::vector<uint32_t>* ids) const {
  const auto done = cache->Encode(text, special, ids);
  if (!done) return Because(Unknown::kTooLong, done.error().message);
  return {};
}

PromptTokenizer::PromptTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PromptTokenizer::~PromptTokenizer() = default;

Result<std::unique_ptr<PromptTokenizer>> PromptTokenizer::Load(const Options& options) {
  auto impl = std::make_unique<Impl>();
  const auto file = FileOf(options.path);
  if (!file) return std::unexpected(file.error());
  auto tokenizer = Tokenizer::Load(*file);
  if (!tokenizer) return std::unexpected(tokenizer.error());
  impl->tokenizer = *std::move(tokenizer);
  if (const auto read = impl->ReadTemplates(options, *file); !read) {
    return std::unexpected(read.error());
  }
  if (!options.chat_template_kwargs.empty()) {
    auto defaults = ParseJson(options.chat_template_kwargs);
    if (!defaults || !defaults->is_object()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("chat template's variables '{}' are no JSON object",
                              options.chat_template_kwargs));
    }
    impl->defaults = std::move(defaults->get_object());
  }
  impl->cache_bytes = options.cache_bytes;
  impl->cache = std::make_unique<TokenCache>(*impl->tokenizer, options.cache_bytes, options.secret);
  std::unique_ptr<PromptTokenizer> made(new PromptTokenizer(std::move(impl)));
  made->LearnAnthropicHabits();
  return made;
}

// As vLLM does when it starts, and at the first request without thinking.
void PromptTokenizer::LearnAnthropicHabits() {
  const auto parsed = [](const std::optional<Template>& one) {
    return one ? &one->parsed : nullptr;
  };
  impl_->anthropic.merges_system =
      MergesSystem(parsed(impl_->plain)) || MergesSystem(parsed(impl_->with_tools));
  const auto render = [&](std::string_view effort) {
    return Render(
        {.messages = R"([{"role": "user", "content": "Hi"}])", .reasoning_effort = effort});
  };
  const auto off = render(R"("none")");
  const auto is_like_off = [&](std::string_view effort) {
    const auto on = render(effort);
    return on && *on == *off;
  };
  constexpr std::string_view kEfforts[] = {R"("low")", R"("medium")", R"("high")", R"("xhigh")",
                                           R"("max")"};
  if (!off || std::ranges::any_of(kEfforts, is_like_off)) impl_->anthropic.disabled_effort = "low";
}

PromptTokenizer::Encoded PromptTokenizer::EncodeText(std::string_view text,
                                                     std::string_view add_special_tokens,
                                                     std::vector<uint32_t>* ids) const {
  const auto adds = ParseBool("add_special_tokens", add_special_tokens, true);
  if (!adds) return std::unexpected(adds.error());
  return impl_->Encode(text, *adds ? SpecialTokens::kAdd : SpecialTokens::kOmit, ids);
}

std::expected<std::string, Reason> PromptTokenizer::Render(const model::PromptSource& chat) const {
  if (!chat.chat_template.empty()) {
    return Because(Unknown::kOwnTemplate, "the request brings its own chat template");
  }
  const auto continues = ParseBool("continue_final_message", chat.continue_final_message, false);
  if (!continues) return std::unexpected(continues.error());
  if (*continues) return Because(Unknown::kContinues, "continue_final_message is true");
  if (!impl_->has_any_template()) {
    return Because(Unknown::kNoTemplate, "the model has no chat template");
  }
  if (impl_->is_harmony()) {
    return Because(Unknown::kOtherFormat, "engines write this model's chats in harmony format");
  }
  Impl::Chat read;
  if (auto done = impl_->ReadLists(chat, &read); !done) {
    return std::unexpected(std::move(done.error()));
  }
  const auto& chosen = read.tools_json.is_null() ? impl_->plain : impl_->with_tools;
  if (!chosen) return Because(Unknown::kNoTemplate, "the model has no chat template for it");
  if (auto done = impl_->Prepare(chat, chosen->parsed, &read); !done) {
    return std::unexpected(std::move(done.error()));
  }
  auto rendered = chosen->parsed.Render(read.input);
  if (!rendered) return Because("chat template, ", rendered.error());
  return std::move(rendered->text);
}

PromptTokenizer::Encoded PromptTokenizer::EncodeChat(const model::PromptSource& chat,
                                                     std::vector<uint32_t>* ids) const {
  const auto adds = ParseBool("add_special_tokens", chat.add_special_tokens, false);
  if (!adds) return std::unexpected(adds.error());
  const auto text = Render(chat);
  if (!text) return std::unexpected(text.error());
  return impl_->Encode(*text, *adds ? SpecialTokens::kAdd : SpecialTokens::kOmit, ids);
}

const Tokenizer& PromptTokenizer::tokenizer() const { return *impl_->tokenizer; }
bool PromptTokenizer::has_chat_template() const { return impl_->plain.has_value(); }
TokenCache::Stats PromptTokenizer::cache_stats() const { return impl_->cache->stats(); }
size_t PromptTokenizer::cache_bytes() const { return impl_->cache_bytes; }

}  // namespace penstock::tokens
