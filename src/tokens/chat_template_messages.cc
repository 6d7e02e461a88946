#include "tokens/chat_template_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <string>
#include <utility>

#include "tokens/chat_template_json.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;

// Its value changes with every request of the client that sends it; vLLM drops it so that prompts
// keep their prefix.
constexpr std::string_view kBillingHeader = "x-anthropic-billing-header";

// What a part of a content may have without the template seeing it.
constexpr std::string_view kKnownPartFields[] = {"audio_embeds",
                                                 "audio_url",
                                                 "closed",
                                                 "data",
                                                 "file",
                                                 "image_embeds",
                                                 "image_pil",
                                                 "image_url",
                                                 "input_audio",
                                                 "name",
                                                 "prompt_cache_breakpoint",
                                                 "refusal",
                                                 "text",
                                                 "thinking",
                                                 "type",
                                                 "uuid",
                                                 "video_embeds",
                                                 "video_url"};

struct Media {
  std::string_view type;
  std::string_view modality;
};
constexpr Media kMedia[] = {
    {"image_url", "image"},    {"input_image", "image"}, {"image_embeds", "image"},
    {"image_pil", "image"},    {"audio_url", "audio"},   {"input_audio", "audio"},
    {"audio_embeds", "audio"}, {"video_url", "video"},   {"video_embeds", "video"}};

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

const json::value* Find(const json::object& object, std::string_view key) {
  return object.if_contains(json::string_view(key.data(), key.size()));
}

// Nothing for what is missing, null or no text.
const json::string* FindText(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  return value == nullptr ? nullptr : value->if_string();
}

json::value TextPart(std::string_view text) {
  return json::object{{"type", "text"}, {"text", json::string_view(text.data(), text.size())}};
}

std::string Joined(const std::vector<std::string>& texts, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) out += separator;
    out += texts[i];
  }
  return out;
}

// One message on its way into the template.
class Message {
 public:
  Message(const json::object& from, std::string_view role, ContentFormat format, std::string where)
      : from_(from), role_(role), format_(format), where_(std::move(where)) {}

  Result<json::object> Prepare() {
    if (const auto read = ReadContent(); !read) return std::unexpected(read.error());
    json::object out;
    out["role"] = json::string_view(role_.data(), role_.size());
    if (format_ == ContentFormat::kString) {
      out["content"] = Joined(texts_, "\n");
    } else if (role_ == "tool" && !has_other_parts_) {
      out["content"] = Joined(texts_, "\n");  // few templates take a tool's result in parts
    } else {
      out["content"] = std::move(parts_);
    }
    if (role_ == "assistant") {
      if (const auto done = AddAssistant(&out); !done) return std::unexpected(done.error());
    } else if (role_ == "tool") {
      if (const json::value* id = Find(from_, "tool_call_id")) out["tool_call_id"] = *id;
    }
    for (const char* key : {"name", "task"}) {
      if (const json::string* text = FindText(from_, key)) out[key] = *text;
    }
    if (role_ == "developer") {
      const json::value* tools = Find(from_, "tools");
      out["tools"] = tools == nullptr ? json::value(nullptr) : *tools;
    }
    return out;
  }

 private:
  std::unexpected<Error> Failure(std::string_view what, Code code = Code::kInvalidArgument) const {
    return Fail(code, fmt::format("{}: {}", where_, what));
  }

  Result<> ReadContent() {
    const json::value* content = Find(from_, "content");
    if (content == nullptr || content->is_null()) return {};
    if (const json::string* text = content->if_string()) {
      AddText(View(*text), nullptr);
      return {};
    }
    const json::array* parts = content->if_array();
    if (parts == nullptr) return Failure("content must be a text, a list of parts or null");
    for (const json::value& part : *parts) {
      if (const json::string* text = part.if_string()) {
        AddText(View(*text), nullptr);
      } else if (!part.is_object()) {
        return Failure("a part of the content must be a text or an object");
      } else if (const auto read = ReadPart(part.get_object()); !read) {
        return read;
      }
    }
    return {};
  }

  // `part` gives fields that vLLM does not know and the template may.
  void AddText(std::string_view text, const json::object* part) {
    if (role_ == "system" && text.starts_with(kBillingHeader)) {
      const size_t line_end = text.find('\n');
      if (line_end == std::string_view::npos || line_end + 1 == text.size()) return;
      text.remove_prefix(line_end + 1);
    }
    texts_.emplace_back(text);
    json::value made = TextPart(text);
    if (part != nullptr) AddOtherFields(*part, &made.get_object());
    parts_.push_back(std::move(made));
  }

  static void AddOtherFields(const json::object& part, json::object* out) {
    for (const auto& member : part) {
      const std::string_view key(member.key().data(), member.key().size());
      if (std::ranges::find(kKnownPartFields, key) == std::end(kKnownPartFields)) {
        (*out)[member.key()] = member.value();
      }
    }
  }

  Result<> ReadPart(const json::object& part) {
    const json::value* type_value = Find(part, "type");
    std::string_view type;
    if (type_value != nullptr && type_value->is_string()) type = View(type_value->get_string());
    const json::value* uuid = Find(part, "uuid");
    const bool guesses = type_value == nullptr || (uuid != nullptr && !uuid->is_null());
    if (guesses) {
      for (const Media& media : kMedia) {
        if (Find(part, media.type) != nullptr) return AddMedia(media.modality, part);
      }
    }
    if (type == "text" || type == "input_text" || type == "output_text" || type == "refusal" ||
        type == "thinking") {
      const std::string_view key = type == "refusal" || type == "thinking" ? type : "text";
      const json::string* text = FindText(part, key);
      if (text != nullptr) {
        AddText(View(*text), &part);
        return {};
      }
      if (type == "text" || type == "refusal") return {};  // skipped, as vLLM does
      return Failure(fmt::format("a part of type '{}' has no '{}'", type, key));
    }
    if (type == "tool_reference") {
      const json::string* name = FindText(part, "name");
      if (name == nullptr) return Failure("a part of type 'tool_reference' has no 'name'");
      texts_.emplace_back(View(*name));
      parts_.push_back(json::object{{"type", "tool_reference"}, {"name", *name}});
      has_other_parts_ = true;
      return {};
    }
    for (const Media& media : kMedia) {
      if (type == media.type) return AddMedia(media.modality, part);
    }
    if (type.empty()) return Failure("a part of the content has no 'type'");
    return Failure(fmt::format("unsupported part type '{}'", type));
  }

  Result<> AddMedia(std::string_view modality, const json::object& part) {
    if (format_ == ContentFormat::kString) {
      return Failure(
          fmt::format("what stands for {} in a template that takes texts is known to the "
                      "model's processor only",
                      modality),
          Code::kFailedPrecondition);
    }
    json::object made{{"type", json::string_view(modality.data(), modality.size())}};
    AddOtherFields(part, &made);
    parts_.push_back(std::move(made));
    has_other_parts_ = true;
    return {};
  }

  Result<> AddAssistant(json::object* out) {
    const json::value* calls = Find(from_, "tool_calls");
    if (calls != nullptr && !calls->is_null()) {
      const json::array* list = calls->if_array();
      if (list == nullptr) return Failure("tool_calls must be a list");
      json::array prepared;
      for (const json::value& call : *list) {
        auto made = PrepareCall(call);
        if (!made) return std::unexpected(made.error());
        prepared.push_back(*std::move(made));
      }
      if (!prepared.empty()) (*out)["tool_calls"] = std::move(prepared);
    }
    const json::value* reasoning = Find(from_, "reasoning");
    if (reasoning == nullptr || reasoning->is_null()) reasoning = Find(from_, "reasoning_content");
    if (reasoning != nullptr && !reasoning->is_null()) {
      (*out)["reasoning"] = *reasoning;
      (*out)["reasoning_content"] = *reasoning;
    }
    return {};
  }

  // id, function and type first, as vLLM's classes order them; arguments as an object.
  Result<json::object> PrepareCall(const json::value& call) const {
    const json::object* from = call.if_object();
    if (from == nullptr) return Failure("tool_calls must hold objects");
    const json::value* type = Find(*from, "type");
    const json::value* function = Find(*from, "function");
    const bool is_function =
        type == nullptr || (type->is_string() && View(type->get_string()) == "function");
    if (!is_function || function == nullptr || !function->is_object()) {
      return Failure("tool_calls must be of type 'function' and have a function");
    }
    auto arguments = Arguments(function->get_object());
    if (!arguments) return std::unexpected(arguments.error());
    json::object prepared{{"arguments", *std::move(arguments)}};
    for (const auto& member : function->get_object()) {
      if (member.key() != "arguments") prepared[member.key()] = member.value();
    }
    json::object out;
    if (const json::value* id = Find(*from, "id")) out["id"] = *id;
    out["function"] = std::move(prepared);
    if (type != nullptr) out["type"] = *type;
    for (const auto& member : *from) {
      if (!out.contains(member.key())) out[member.key()] = member.value();
    }
    return out;
  }

  // What is no object becomes an empty one: the call lies in the past, and the conversation goes
  // on.
  Result<json::value> Arguments(const json::object& function) const {
    const json::value* arguments = Find(function, "arguments");
    if (arguments == nullptr) return json::object();
    if (arguments->is_object()) return *arguments;
    const json::string* text = arguments->if_string();
    if (text == nullptr) return json::object();
    auto parsed = ParseJson(View(*text));
    if (!parsed && parsed.error().code == Code::kOutOfRange) {
      return Failure(fmt::format("arguments of a tool call: {}", parsed.error().message),
                     Code::kOutOfRange);
    }
    if (!parsed || !parsed->is_object()) return json::object();
    return *std::move(parsed);
  }

  const json::object& from_;
  std::string_view role_;
  ContentFormat format_;
  std::string where_;
  std::vector<std::string> texts_;
  json::array parts_;
  bool has_other_parts_ = false;
};

bool HasRole(const json::value& message, std::string_view role) {
  return View(message.at("role").get_string()) == role;
}

// The text of a system message, with its parts in lines.
std::string SystemText(const json::value& content) {
  if (const json::string* text = content.if_string()) return std::string(View(*text));
  std::vector<std::string> texts;
  if (const json::array* parts = content.if_array()) {
    for (const json::value& part : *parts) {
      if (const json::string* text = FindText(part.get_object(), "text")) {
        texts.emplace_back(View(*text));
      }
    }
  }
  return Joined(texts, "\n");
}

// Developers become systems, and systems one message at the front.
void ReplaceDevelopers(json::array* messages) {
  std::vector<std::string> systems;
  json::array others;
  bool merges = false;
  for (size_t i = 0; i < messages->size(); ++i) {
    json::value& message = (*messages)[i];
    if (HasRole(message, "developer")) {
      message.get_object()["role"] = "system";
      message.get_object().erase("tools");
    }
    if (!HasRole(message, "system")) {
      others.push_back(message);
      continue;
    }
    merges |= i > 0 || !systems.empty();
    std::string text = SystemText(message.at("content"));
    if (!text.empty()) systems.push_back(std::move(text));
  }
  if (!merges) return;
  json::array out;
  out.push_back(json::object{{"role", "system"}, {"content", Joined(systems, "\n\n")}});
  for (json::value& message : others) out.push_back(std::move(message));
  *messages = std::move(out);
}

}  // namespace

Result<json::array> PrepareMessages(const json::array& messages, ContentFormat format) {
  json::array out;
  out.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    const json::object* object = messages[i].if_object();
    const json::string* role = object == nullptr ? nullptr : FindText(*object, "role");
    if (role == nullptr) {
      return Fail(Code::kInvalidArgument, where + ": must be an object with a role");
    }
    auto prepared = Message(*object, View(*role), format, where).Prepare();
    if (!prepared) return std::unexpected(prepared.error());
    out.push_back(*std::move(prepared));
  }
  return out;
}

Result<json::array> PrepareMessages(const json::array& messages,
                                    const ChatTemplate& chat_template) {
  auto out = PrepareMessages(messages, chat_template.content_format());
  if (!out || chat_template.knows_developer()) return out;
  if (std::ranges::any_of(*out, [](const json::value& m) { return HasRole(m, "developer"); })) {
    ReplaceDevelopers(&*out);
  }
  return out;
}

Result<json::array> PrepareTools(const json::array& tools) {
  json::array out;
  out.reserve(tools.size());
  for (size_t i = 0; i < tools.size(); ++i) {
    const json::object* tool = tools[i].if_object();
    const json::value* function = tool == nullptr ? nullptr : Find(*tool, "function");
    if (function == nullptr || !function->is_object() ||
        FindText(function->get_object(), "name") == nullptr) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("tools[{}]: must be an object with a function that has a name", i));
    }
    const json::value* deferred = Find(*tool, "defer_loading");
    const bool has_deferred = deferred != nullptr && !deferred->is_null();
    json::object made;
    for (const char* key : {"name", "description", "parameters"}) {
      const json::value* value = Find(function->get_object(), key);
      made[key] = value == nullptr ? json::value(nullptr) : *value;
    }
    for (const char* key : {"strict", "defer_loading"}) {
      const json::value* value = Find(function->get_object(), key);
      if (value != nullptr && !value->is_null()) made[key] = *value;
    }
    if (has_deferred && !made.contains("defer_loading")) made["defer_loading"] = *deferred;
    json::object prepared{{"type", "function"}, {"function", std::move(made)}};
    if (has_deferred) prepared["defer_loading"] = *deferred;
    out.push_back(std::move(prepared));
  }
  return out;
}

}  // namespace penstock::tokens
