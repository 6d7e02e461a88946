#include "tokens/anthropic_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tokens/chat_template_json.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;

// The client that sends it gives it another value with each request.
constexpr std::string_view kBillingHeader = "x-anthropic-billing-header";
constexpr std::string_view kEfforts[] = {"low", "medium", "high", "xhigh", "max"};
constexpr std::string_view kBlockTypes[] = {
    "text",           "image",    "tool_use",          "tool_result",
    "tool_reference", "thinking", "redacted_thinking", "tool_addition",
    "tool_removal"};

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }
json::string_view Boost(std::string_view text) { return {text.data(), text.size()}; }

std::unexpected<Error> Refuse(std::string_view where, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", where, what));
}

// Null counts as absent, as pydantic's optional fields have it.
const json::value* Find(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(Boost(key));
  return value == nullptr || value->is_null() ? nullptr : value;
}

// A field that is absent, or of the kind that `if_kind` gives.
template <class T>
Result<const T*> FindAs(const json::object& object, std::string_view key, std::string_view where,
                        const T* (json::value::*if_kind)() const noexcept) {
  const json::value* value = Find(object, key);
  if (value == nullptr) return nullptr;
  const T* found = (value->*if_kind)();
  if (found == nullptr) return Refuse(where, fmt::format("'{}' is of the wrong type", key));
  return found;
}
Result<const json::string*> FindText(const json::object& object, std::string_view key,
                                     std::string_view where) {
  return FindAs<json::string>(object, key, where, &json::value::if_string);
}

// A block of text that has one and is no billing header, or "".
std::string_view SystemText(const json::object& block) {
  if (View(block.at("type").get_string()) != "text") return {};
  const json::value* text = Find(block, "text");
  if (text == nullptr || View(text->get_string()).starts_with(kBillingHeader)) return {};
  return View(text->get_string());
}

// "": image sources that have no address.
std::string AddressOf(const json::object& source) {
  const auto field = [&](std::string_view key, std::string_view otherwise) {
    const json::value* value = Find(source, key);
    return value == nullptr || !value->is_string() ? otherwise : View(value->get_string());
  };
  if (field("type", "") == "url") return std::string(field("url", ""));
  return fmt::format("data:{};base64,{}", field("media_type", "image/jpeg"), field("data", ""));
}

json::object ImagePart(const json::object& source) {
  return {{"type", "image_url"}, {"image_url", {{"url", AddressOf(source)}}}};
}

json::object TextPart(std::string_view text) { return {{"type", "text"}, {"text", Boost(text)}}; }

// One request on its way.
class Reader {
 public:
  explicit Reader(const AnthropicHabits& habits) : habits_(habits) {}

  Result<AnthropicChat> Read(const model::PromptSource& source) {
    for (const auto read : {&Reader::ReadMessages, &Reader::ReadTools, &Reader::ReadEffort}) {
      if (const auto done = (this->*read)(source); !done) return std::unexpected(done.error());
    }
    return std::move(chat_);
  }

 private:
  // Checks the types of all that is in it.
  static Result<> CheckBlock(const json::value& value, std::string_view where,
                             bool allows_changes) {
    const json::object* block = value.if_object();
    if (block == nullptr) return Refuse(where, "must be an object");
    const json::value* type_value = Find(*block, "type");
    if (type_value == nullptr || !type_value->is_string()) {
      return Refuse(where, "has no 'type'");
    }
    const std::string_view type = View(type_value->get_string());
    if (std::ranges::find(kBlockTypes, type) == std::end(kBlockTypes)) {
      return Refuse(where, fmt::format("unsupported type '{}'", type));
    }
    for (const char* key :
         {"text", "id", "tool_use_id", "name", "tool_name", "thinking", "signature", "data"}) {
      if (const auto text = FindText(*block, key, where); !text) {
        return std::unexpected(text.error());
      }
    }
    for (const char* key : {"source", "input", "tool"}) {
      const auto object = FindAs<json::object>(*block, key, where, &json::value::if_object);
      if (!object) return std::unexpected(object.error());
    }
    if (const json::value* content = Find(*block, "content"); content && !content->is_string()) {
      const json::array* items = content->if_array();
      if (items == nullptr || !std::ranges::all_of(*items, &json::value::is_object)) {
        return Refuse(where, "'content' must be a text or a list of objects");
      }
    }
    if ((type == "tool_addition" || type == "tool_removal") && !allows_changes) {
      return Refuse(where, "only system messages change tools");
    }
    return {};
  }

  static Result<> CheckContent(const json::value* content, std::string_view where,
                               bool allows_changes) {
    if (content != nullptr && content->is_string()) return {};
    const json::array* blocks = content == nullptr ? nullptr : content->if_array();
    if (blocks == nullptr) return Refuse(where, "must be a text or a list of blocks");
    for (size_t i = 0; i < blocks->size(); ++i) {
      auto done = CheckBlock((*blocks)[i], fmt::format("{}[{}]", where, i), allows_changes);
      if (!done) return done;
    }
    return {};
  }

  Result<> ReadMessages(const model::PromptSource& source) {
    auto parsed = ParseJson(source.messages);
    if (!parsed) return std::unexpected(parsed.error());
    messages_ = *std::move(parsed);
    if (!messages_.is_array()) return Refuse("messages", "must be a list");
    const json::array& messages = messages_.get_array();
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::string where = fmt::format("messages[{}]", i);
      const json::object* message = messages[i].if_object();
      const json::value* role = message == nullptr ? nullptr : Find(*message, "role");
      if (role == nullptr || (*role != "user" && *role != "assistant" && *role != "system")) {
        return Refuse(where, "must have the role user, assistant or system");
      }
      auto done = CheckContent(Find(*message, "content"), where + ".content", *role == "system");
      if (!done) return done;
    }
    if (auto done = ReadSystem(source); !done) return done;
    for (size_t i = 0; i < messages.size(); ++i) {
      auto done = AddMessage(messages[i].get_object(), fmt::format("messages[{}]", i));
      if (!done) return done;
    }
    return {};
  }

  // Nothing: there is no text.
  static std::optional<std::string> SystemTextOf(const json::object& message) {
    const json::value& content = message.at("content");
    if (const json::string* text = content.if_string()) {
      if (View(*text).starts_with(kBillingHeader)) return std::nullopt;
      return std::string(View(*text));
    }
    std::string all;
    for (const json::value& block : content.get_array()) all += SystemText(block.get_object());
    return all;
  }

  Result<> ReadSystem(const model::PromptSource& source) {
    std::string all;
    if (!source.system.empty()) {
      const auto system = ParseJson(source.system);
      if (!system) return std::unexpected(system.error());
      if (auto done = CheckContent(&*system, "system", false); !done) return done;
      if (const json::string* text = system->if_string()) {
        all = View(*text);
      } else {
        for (const json::value& block : system->get_array()) all += SystemText(block.get_object());
      }
    }
    if (habits_.merges_system) {
      for (const json::value& message : messages_.get_array()) {
        if (message.at("role") == "system") {
          all += SystemTextOf(message.get_object()).value_or("");
        }
      }
    }
    if (!all.empty()) chat_.messages.push_back({{"role", "system"}, {"content", all}});
    return {};
  }

  Result<> AddMessage(const json::object& from, std::string_view where) {
    const std::string_view role = View(from.at("role").get_string());
    if (role == "system") {
      if (habits_.merges_system) return {};
      if (auto text = SystemTextOf(from); text && !text->empty()) {
        chat_.messages.push_back({{"role", "system"}, {"content", *text}});
      }
      return {};
    }
    json::object message{{"role", Boost(role)}};
    if (const json::string* text = from.at("content").if_string()) {
      message["content"] = *text;
      chat_.messages.push_back(std::move(message));
      return {};
    }
    json::array parts, calls;
    std::optional<std::string> reasoning;
    for (const json::value& value : from.at("content").get_array()) {
      auto done = AddBlock(value.get_object(), role, where, &parts, &calls, &reasoning);
      if (!done) return done;
    }
    if (reasoning) message["reasoning"] = *reasoning;
    if (!calls.empty()) message["tool_calls"] = std::move(calls);
    if (parts.size() == 1 && parts[0].at("type") == "text") {
      message["content"] = parts[0].at("text");
    } else if (!parts.empty()) {
      message["content"] = std::move(parts);
    }
    if (role == "user" && !message.contains("content")) return {};  // only results of tools
    chat_.messages.push_back(std::move(message));
    return {};
  }

  Result<> AddBlock(const json::object& block, std::string_view role, std::string_view where,
                    json::array* parts, json::array* calls, std::optional<std::string>* reasoning) {
    const std::string_view type = View(block.at("type").get_string());
    if (type == "text") {
      const json::value* text = Find(block, "text");
      if (text != nullptr && !text->get_string().empty()) {
        parts->push_back(TextPart(View(text->get_string())));
      }
    } else if (type == "image") {
      const json::value* source = Find(block, "source");
      if (source != nullptr && !source->get_object().empty()) {
        parts->push_back(ImagePart(source->get_object()));
      }
    } else if (type == "thinking") {
      if (const json::value* thinking = Find(block, "thinking")) {
        *reasoning = reasoning->value_or("") + std::string(View(thinking->get_string()));
      }
    } else if (type == "tool_use") {
      return AddCall(block, where, calls);
    } else if (type == "tool_result") {
      if (role == "user") {
        AddResult(block);
        return {};
      }
      std::string text = "Tool result: ";
      if (const json::value* content = Find(block, "content")) {
        if (content->is_array() && !content->get_array().empty()) {
          return Fail(Code::kOutOfRange,
                      fmt::format("{}: an assistant's tool_result is a list, which the engine "
                                  "writes in Python's way",
                                  where));
        }
        if (content->is_string()) text += View(content->get_string());
      }
      parts->push_back(TextPart(text));
    }
    return {};
  }

  static Result<> AddCall(const json::object& block, std::string_view where, json::array* calls) {
    const json::value* id = Find(block, "id");
    if (id == nullptr || id->get_string().empty()) {
      return Fail(Code::kOutOfRange,
                  fmt::format("{}: a tool_use has no id; the engine makes one of the time", where));
    }
    const json::value* name = Find(block, "name");
    const json::value* input = Find(block, "input");
    calls->push_back({{"id", *id},
                      {"type", "function"},
                      {"function",
                       {{"name", name == nullptr ? json::value("") : *name},
                        {"arguments", input == nullptr ? json::value(json::object()) : *input}}}});
    return {};
  }

  // Before the message in which it stands; what shows of it in images, after it.
  void AddResult(const json::object& block) {
    std::vector<std::string> texts;
    json::array images, references;
    const json::value* content = Find(block, "content");
    if (content != nullptr && content->is_string()) {
      texts.emplace_back(View(content->get_string()));
    } else if (content != nullptr) {
      for (const json::value& value : content->get_array()) {
        ReadResultItem(value.get_object(), &texts, &images, &references);
      }
    }
    std::string text;
    for (size_t i = 0; i < texts.size(); ++i) text += (i == 0 ? "" : "\n") + texts[i];
    const json::value* id = Find(block, "tool_use_id");
    const json::value call = id == nullptr ? json::value("") : *id;
    chat_.messages.push_back({{"role", "tool"}, {"tool_call_id", call}, {"content", text}});
    if (!images.empty()) {
      chat_.messages.push_back({{"role", "user"}, {"content", std::move(images)}});
    }
    if (!references.empty()) {
      chat_.messages.push_back(
          {{"role", "tool"}, {"tool_call_id", call}, {"content", std::move(references)}});
    }
  }

  static void ReadResultItem(const json::object& item, std::vector<std::string>* texts,
                             json::array* images, json::array* references) {
    const auto field = [&](std::string_view key) {
      const json::value* value = Find(item, key);
      return value == nullptr || !value->is_string() ? std::string_view()
                                                     : View(value->get_string());
    };
    const std::string_view type = field("type");
    if (type == "text") {
      texts->emplace_back(field("text"));
    } else if (type == "image") {
      const json::value* source = Find(item, "source");
      const bool is_known = source != nullptr && source->is_object();
      json::object part = ImagePart(is_known ? source->get_object() : json::object());
      if (part.at("image_url").at("url") != "") images->push_back(std::move(part));
    } else if (type == "tool_reference") {
      const std::string_view name = field("tool_name").empty() ? field("name") : field("tool_name");
      if (!name.empty()) {
        references->push_back({{"type", "tool_reference"}, {"name", Boost(name)}});
      }
    }
  }

  // A function as PrepareTools wants it.
  static Result<json::object> ReadTool(const json::value& value, std::string_view where) {
    const json::object* tool = value.if_object();
    if (tool == nullptr) return Refuse(where, "must be an object");
    const json::value* name = Find(*tool, "name");
    const json::value* schema = Find(*tool, "input_schema");
    if (name == nullptr || !name->is_string() || schema == nullptr || !schema->is_object()) {
      return Refuse(where, "must have a name and an input_schema");
    }
    if (const auto text = FindText(*tool, "description", where); !text) {
      return std::unexpected(text.error());
    }
    json::object parameters = schema->get_object();
    if (!parameters.contains("type")) parameters["type"] = "object";
    json::object function{{"name", *name}};
    if (const json::value* text = Find(*tool, "description")) function["description"] = *text;
    function["parameters"] = std::move(parameters);
    for (const char* key : {"strict", "defer_loading"}) {
      if (const json::value* set = Find(*tool, key)) function[key] = *set;
    }
    return json::object{{"type", "function"}, {"function", std::move(function)}};
  }

  Result<> ReadTools(const model::PromptSource& source) {
    if (!source.tools.empty()) {
      const auto parsed = ParseJson(source.tools);
      if (!parsed) return std::unexpected(parsed.error());
      if (!parsed->is_array()) return Refuse("tools", "must be a list");
      json::array& tools = chat_.tools.emplace();
      for (size_t i = 0; i < parsed->get_array().size(); ++i) {
        auto tool = ReadTool(parsed->get_array()[i], fmt::format("tools[{}]", i));
        if (!tool) return std::unexpected(tool.error());
        tools.push_back(*std::move(tool));
      }
    }
    return ChangeTools();
  }

  static std::string_view NameOf(const json::value& tool) {
    return View(tool.at("function").at("name").get_string());
  }

  // Tools that came and went in system messages: what is there at the end is what counts.
  Result<> ChangeTools() {
    std::vector<std::string> removed;
    bool changes = false;
    for (const json::value& message : messages_.get_array()) {
      const json::value& content = message.at("content");
      if (!content.is_array()) continue;
      for (const json::value& value : content.get_array()) {
        const json::object& block = value.get_object();
        const std::string_view type = View(block.at("type").get_string());
        if (type != "tool_addition" && type != "tool_removal") continue;
        if (!changes) LetLastOfANameCount();
        changes = true;
        if (auto done = ChangeTool(block, type == "tool_removal", &removed); !done) return done;
      }
    }
    if (!changes) return {};
    json::array left;
    for (json::value& tool : *chat_.tools) {
      if (std::ranges::find(removed, NameOf(tool)) == removed.end()) {
        left.push_back(std::move(tool));
      }
    }
    chat_.tools = std::move(left);
    return {};
  }

  json::value* FindTool(std::string_view name) {
    for (json::value& tool : *chat_.tools) {
      if (NameOf(tool) == name) return &tool;
    }
    return nullptr;
  }

  // As a Python dict of them does: in the place of the first, the last.
  void LetLastOfANameCount() {
    json::array all;
    if (chat_.tools) all.swap(*chat_.tools);
    chat_.tools.emplace();
    for (json::value& tool : all) {
      if (json::value* before = FindTool(NameOf(tool))) {
        *before = std::move(tool);
      } else {
        chat_.tools->push_back(std::move(tool));
      }
    }
  }

  Result<> ChangeTool(const json::object& block, bool removes, std::vector<std::string>* removed) {
    constexpr std::string_view kWhere = "a change of tools";
    const json::value* change = Find(block, "tool");
    if (change == nullptr) return Refuse(kWhere, "has no 'tool'");
    const json::value* type = Find(change->get_object(), "type");
    std::string name;
    if (!removes && type != nullptr && *type == "tool_definition") {
      const json::value* definition = Find(change->get_object(), "definition");
      auto tool = ReadTool(definition == nullptr ? json::value() : *definition, kWhere);
      if (!tool) return std::unexpected(tool.error());
      const json::value made = *std::move(tool);
      name = NameOf(made);
      if (json::value* before = FindTool(name)) {
        *before = made;
      } else {
        chat_.tools->push_back(made);
      }
    } else {
      const auto named = FindText(change->get_object(), "name", kWhere);
      if (!named) return std::unexpected(named.error());
      if (type == nullptr || *type != "tool_reference" || *named == nullptr) {
        return Refuse(kWhere, "must be a tool_reference with a name");
      }
      name = View(**named);
      json::value* tool = FindTool(name);
      if (tool == nullptr) return Refuse(kWhere, fmt::format("tool '{}' is not declared", name));
      if (!removes) tool->at("function").get_object().erase("defer_loading");
    }
    std::erase(*removed, name);
    if (removes) removed->push_back(name);
    return {};
  }

  Result<> ReadEffort(const model::PromptSource& source) {
    if (!source.output_config.empty()) {
      const auto config = ParseJson(source.output_config);
      if (!config) return std::unexpected(config.error());
      if (!config->is_object()) return Refuse("output_config", "must be an object");
      if (const json::value* effort = Find(config->get_object(), "effort")) {
        const auto known = std::ranges::find_if(
            kEfforts, [&](std::string_view name) { return *effort == Boost(name); });
        if (known == std::end(kEfforts)) return Refuse("output_config", "unknown effort");
        chat_.reasoning_effort = *known;
      }
    }
    if (source.thinking.empty()) return {};
    const auto thinking = ParseJson(source.thinking);
    if (!thinking) return std::unexpected(thinking.error());
    const json::value* type =
        thinking->is_object() ? Find(thinking->get_object(), "type") : nullptr;
    if (type == nullptr || (*type != "enabled" && *type != "disabled" && *type != "adaptive")) {
      return Refuse("thinking", "must be enabled, disabled or adaptive");
    }
    if (*type == "disabled") chat_.reasoning_effort = habits_.disabled_effort;
    return {};
  }

  const AnthropicHabits& habits_;
  json::value messages_;
  AnthropicChat chat_;
};

}  // namespace

bool MergesSystem(const ChatTemplate* chat_template) {
  if (chat_template == nullptr) return true;
  json::array messages;
  for (const char* role : {"system", "user", "system", "user"}) {
    messages.push_back({{"role", role}, {"content", "t"}});
  }
  return !chat_template->Render({.messages = &messages, .is_plain_jinja = true});
}

Result<AnthropicChat> ReadAnthropicChat(const model::PromptSource& source,
                                        const AnthropicHabits& habits) {
  return Reader(habits).Read(source);
}

}  // namespace penstock::tokens
