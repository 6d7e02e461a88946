#include "tokens/chat_template_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <filesystem>
#include <iterator>

#include "core/file.h"
#include "tokens/chat_template_json.h"
#include "wire/json_scan.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;

// Some list every added token of a large vocabulary.
constexpr size_t kMaxConfigBytes = 64u << 20;
constexpr size_t kMaxTemplateBytes = 1u << 20;
constexpr size_t kMaxTemplates = 64;
constexpr std::string_view kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token"};

std::string_view Text(const json::string& text) { return {text.data(), text.size()}; }

Result<> ReadTemplates(const json::value& value, ChatTemplateConfig* config) {
  if (value.is_null()) return {};
  if (value.is_string()) {
    config->templates.emplace_back("default", Text(value.get_string()));
    return {};
  }
  if (!value.is_array()) {
    return Fail(Code::kInvalidArgument,
                "chat_template must be a text, or a list of objects with name and template");
  }
  for (const json::value& item : value.get_array()) {
    const json::object* object = item.if_object();
    const json::value* name = object == nullptr ? nullptr : object->if_contains("name");
    const json::value* source = object == nullptr ? nullptr : object->if_contains("template");
    if (name == nullptr || source == nullptr || !name->is_string() || !source->is_string()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("chat_template[{}] must have the texts name and template",
                              config->templates.size()));
    }
    if (config->templates.size() == kMaxTemplates) {
      return Fail(Code::kOutOfRange, fmt::format("more than {} chat templates", kMaxTemplates));
    }
    config->templates.emplace_back(Text(name->get_string()), Text(source->get_string()));
  }
  return {};
}

Result<> ReadSpecialToken(std::string_view name, const json::value& value,
                          ChatTemplateConfig* config) {
  if (value.is_null()) return {};
  const json::value* text = &value;
  if (const json::object* object = value.if_object()) text = object->if_contains("content");
  if (text == nullptr || !text->is_string()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} must be a text, or an object with content", name));
  }
  config->special_tokens.emplace_back(name, Text(text->get_string()));
  return {};
}

void Put(std::string_view name, std::string source, ChatTemplateConfig* config) {
  const auto it =
      std::ranges::find(config->templates, name, &std::pair<std::string, std::string>::first);
  if (it != config->templates.end()) {
    it->second = std::move(source);
  } else {
    config->templates.emplace_back(name, std::move(source));
  }
}

}  // namespace

Result<std::string_view> ChatTemplateConfig::Choose(std::string_view name, Tools tools) const {
  const auto find = [this](std::string_view wanted) -> const std::string* {
    const auto it =
        std::ranges::find(templates, wanted, &std::pair<std::string, std::string>::first);
    return it == templates.end() ? nullptr : &it->second;
  };
  if (!name.empty()) {
    const std::string* source = find(name);
    return source != nullptr ? std::string_view(*source) : name;
  }
  const std::string* source = tools == Tools::kGiven ? find("tool_use") : nullptr;
  if (source == nullptr) source = find("default");
  if (source != nullptr) return *source;
  if (templates.empty()) return Fail(Code::kNotFound, "the model has no chat template");
  std::string names;
  for (const auto& [known, text] : templates) names += (names.empty() ? "" : ", ") + known;
  return Fail(Code::kNotFound,
              fmt::format("the model has no default chat template; there are {}", names));
}

Result<ChatTemplateConfig> ReadChatTemplateConfig(std::string_view text) {
  // The other fields are not looked at: many have a model_max_length of 1e30 in digits.
  std::string_view templates;
  std::array<std::string_view, std::size(kSpecialTokens)> special;
  wire::JsonScanner scanner(text);
  if (scanner.Peek() != wire::JsonScanner::Kind::kObject) {
    return Fail(Code::kInvalidArgument, "must be a JSON object");
  }
  wire::JsonString key;
  for (scanner.EnterObject(); scanner.NextField(&key);) {
    scanner.Peek();
    const char* const begin = scanner.position();
    if (!scanner.Skip()) break;
    const std::string_view value(begin, static_cast<size_t>(scanner.position() - begin));
    if (key.raw == "chat_template") templates = value;
    const auto name = std::ranges::find(kSpecialTokens, key.raw);
    if (name != std::end(kSpecialTokens)) special[name - std::begin(kSpecialTokens)] = value;
  }
  if (!scanner.Finish()) return Fail(Code::kInvalidArgument, scanner.Complaint());
  ChatTemplateConfig out;
  if (!templates.empty()) {
    const auto value = ParseJson(templates);
    if (!value) return std::unexpected(value.error());
    if (const auto read = ReadTemplates(*value, &out); !read) return std::unexpected(read.error());
  }
  for (size_t i = 0; i < special.size(); ++i) {
    if (special[i].empty()) continue;
    const auto value = ParseJson(special[i]);
    if (!value) return std::unexpected(value.error());
    if (const auto read = ReadSpecialToken(kSpecialTokens[i], *value, &out); !read) {
      return std::unexpected(read.error());
    }
  }
  return out;
}

Result<ChatTemplateConfig> ReadChatTemplateFolder(const std::string& folder) {
  const std::filesystem::path root(folder);
  const std::string config_path = (root / "tokenizer_config.json").string();
  ChatTemplateConfig out;
  const auto text = ReadFile(config_path, kMaxConfigBytes);
  if (text) {
    auto read = ReadChatTemplateConfig(*text);
    if (!read) {
      return Fail(read.error().code, fmt::format("{}: {}", config_path, read.error().message));
    }
    out = *std::move(read);
  } else if (text.error().code != Code::kNotFound) {
    return std::unexpected(text.error());
  }
  auto source = ReadFile((root / "chat_template.jinja").string(), kMaxTemplateBytes);
  if (source) {
    out.templates.clear();
    Put("default", *std::move(source), &out);
  } else if (source.error().code != Code::kNotFound) {
    return std::unexpected(source.error());
  } else if (!text) {
    return std::unexpected(text.error());  // neither file is there
  }
  std::error_code error;
  std::vector<std::filesystem::path> more;
  for (const auto& entry :
       std::filesystem::directory_iterator(root / "additional_chat_templates", error)) {
    if (entry.path().extension() == ".jinja") more.push_back(entry.path());
    if (more.size() > kMaxTemplates) {
      return Fail(Code::kOutOfRange,
                  fmt::format("{}: more than {} templates", entry.path().string(), kMaxTemplates));
    }
  }
  std::ranges::sort(more);
  for (const std::filesystem::path& path : more) {
    auto named = ReadFile(path.string(), kMaxTemplateBytes);
    if (!named) return std::unexpected(named.error());
    Put(path.stem().string(), *std::move(named), &out);
  }
  return out;
}

}  // namespace penstock::tokens
