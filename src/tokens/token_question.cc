#include "tokens/token_question.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <optional>
#include <utility>

#include "core/text.h"
#include "tokens/media_features.h"
#include "wire/json.h"
#include "wire/json_scan.h"

namespace penstock::tokens {
namespace {

using model::Api;
using model::PromptSource;
using wire::JsonScanner;

// What stands in both bodies under the same name.
constexpr std::array<std::pair<std::string_view, std::string_view PromptSource::*>, 7>
    kTokenizeFields = {{
        {"messages", &PromptSource::messages},
        {"tools", &PromptSource::tools},
        {"chat_template", &PromptSource::chat_template},
        {"chat_template_kwargs", &PromptSource::chat_template_kwargs},
        {"add_generation_prompt", &PromptSource::add_generation_prompt},
        {"continue_final_message", &PromptSource::continue_final_message},
        {"add_special_tokens", &PromptSource::add_special_tokens},
    }};
// What render endpoints are told beside. Some models' prompts say what form the answer has to have.
constexpr std::array<std::string_view PromptSource::*, 13> kOtherFields = {
    &PromptSource::documents,
    &PromptSource::reasoning_effort,
    &PromptSource::tool_choice,
    &PromptSource::response_format,
    &PromptSource::suffix,
    &PromptSource::system,
    &PromptSource::thinking,
    &PromptSource::output_config,
    &PromptSource::input,
    &PromptSource::instructions,
    &PromptSource::reasoning,
    &PromptSource::text,
    &PromptSource::previous_input_messages,
};

void Add(XXH3_state_t* state, std::string_view text) {
  const uint64_t size = text.size();
  XXH3_128bits_update(state, &size, sizeof size);
  XXH3_128bits_update(state, text.data(), text.size());
}

std::unexpected<Error> Bad(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

// What `field` says in the object `json`; "" where it says nothing, or no text.
std::string_view TextIn(JsonScanner& json, std::string_view field) {
  std::string_view text;
  if (json.Peek() != JsonScanner::Kind::kObject) {
    json.Skip();
    return text;
  }
  wire::JsonString key, value;
  for (json.EnterObject(); json.NextField(&key);) {
    if (key.raw != field || json.Peek() != JsonScanner::Kind::kString) {
      if (!json.Skip()) break;
      continue;
    }
    if (!json.ReadString(&value)) break;
    text = value.raw;
  }
  return text;
}

// vLLM's endpoint that renders takes "none" for the effort then, and the one that generates what
// --anthropic-disabled-thinking-effort says, by itself what the chat template makes of it.
bool IsThinkingOff(std::string_view thinking) {
  JsonScanner json(thinking);
  return TextIn(json, "type") == "disabled";
}

// An engine calls its own tools by itself, and reports the prompts of all that it generates.
bool CallsOwnTools(std::string_view tools) {
  JsonScanner json(tools);
  if (json.Peek() != JsonScanner::Kind::kArray) return false;
  for (json.EnterArray(); json.NextElement();) {
    const std::string_view type = TextIn(json, "type");
    if (type != "function" && type != "custom") return true;
  }
  return false;
}

bool IsSelfContained(const PromptSource& response) {
  return response.previous_response_id.empty() && response.conversation.empty() &&
         response.stored_prompt.empty() && !CallsOwnTools(response.tools) &&
         (response.truncation.empty() || response.truncation == "\"disabled\"");
}

struct Found {
  std::vector<uint32_t> ids;
  bool has_list = false;          // of ids
  std::optional<uint64_t> count;  // what the answer says of its length
  MediaFeatures media;
};

bool ReadObject(TokenRoute route, JsonScanner& json, Found* found) {
  const std::string_view wanted = route == TokenRoute::kRender ? "token_ids" : "tokens";
  wire::JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    if (key.raw == "features" && route == TokenRoute::kRender) {
      if (!found->media.Read(json)) return false;
      continue;
    }
    const bool is_list = json.Peek() == JsonScanner::Kind::kArray;
    if (key.raw == wanted) {
      found->has_list = is_list;
      found->ids.clear();
      if (!(is_list ? json.ReadUints(&found->ids) : json.Skip())) return false;
      continue;
    }
    const char* const begin = json.position();
    if (!json.Skip()) return false;
    if (key.raw == "count" && route == TokenRoute::kTokenize) {
      found->count = ParseUint({begin, static_cast<size_t>(json.position() - begin)});
    }
  }
  return json.ok();
}

// Adds one prompt's.
Result<> Take(TokenRoute route, size_t prompts, Found&& found, TokenAnswer* answer) {
  if (!found.has_list) {
    return Bad(route == TokenRoute::kRender ? "the answer has no list token_ids"
                                            : "the answer has no list tokens");
  }
  if (found.ids.empty()) return Bad("the answer has no tokens");
  if (found.count && *found.count != found.ids.size()) {
    return Bad(
        fmt::format("the answer has {} tokens and counts {}", found.ids.size(), *found.count));
  }
  if (!found.media.empty()) {
    if (prompts > 1) return Bad("the answer has media in one of several prompts");
    auto spans = found.media.Spans(found.ids.size());
    if (!spans) return std::unexpected(spans.error());
    answer->media = *std::move(spans);
  }
  if (answer->ids.empty()) {
    answer->ids = std::move(found.ids);
  } else {
    answer->ids.insert(answer->ids.end(), found.ids.begin(), found.ids.end());
  }
  answer->sequence_ends.push_back(static_cast<uint32_t>(answer->ids.size()));
  return {};
}

}  // namespace

bool IsQuestion(const model::Request& request) {
  const PromptSource& source = request.source;
  if (source.holds_ids || !source.prompt_embeds.empty() || !source.truncate_prompt_tokens.empty()) {
    return false;
  }
  switch (request.api) {
    case Api::kChatCompletions:
      return !source.messages.empty();
    case Api::kCompletions:
      return !request.prompt.empty() && request.prompt.size() <= kMaxAskedPrompts;
    case Api::kMessages:
      return !source.messages.empty() && !IsThinkingOff(source.thinking);
    case Api::kResponses:
      return !source.input.empty() && IsSelfContained(source);
    default:
      return false;
  }
}

bool FitsTokenize(const model::Request& request) {
  const PromptSource& source = request.source;
  if (source.has_media) return false;
  if (request.api == Api::kCompletions) return request.prompt.size() == 1 && source.suffix.empty();
  return request.api == Api::kChatCompletions && source.documents.empty() &&
         source.reasoning_effort.empty() &&
         request.target_model.find("gpt-oss") == std::string::npos;
}

// A prompt of text is one part.
size_t PromptsOf(const model::Request& request) {
  return request.api == Api::kCompletions ? request.prompt.size() : 1;
}

TokenKey KeyOf(const model::Request& request, uint64_t secret) {
  XXH3_state_t state = {};
  XXH3_128bits_reset_withSeed(&state, secret);
  const auto api = static_cast<unsigned char>(request.api);
  XXH3_128bits_update(&state, &api, sizeof api);
  Add(&state, request.target_model);
  for (const auto& [name, field] : kTokenizeFields) Add(&state, request.source.*field);
  for (const auto field : kOtherFields) Add(&state, request.source.*field);
  if (request.api == Api::kCompletions) {
    for (const model::PromptPart& prompt : request.prompt) Add(&state, prompt.bytes);
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  return {hash.low64, hash.high64};
}

TokenEndpoint EndpointOf(TokenRoute route, Api api) {
  if (route == TokenRoute::kTokenize) return TokenEndpoint::kTokenize;
  return api == Api::kMessages    ? TokenEndpoint::kRenderMessages
         : api == Api::kResponses ? TokenEndpoint::kRenderResponses
                                  : TokenEndpoint::kRender;
}

std::string_view PathOf(TokenRoute route, Api api) {
  if (route == TokenRoute::kTokenize) return "/tokenize";
  return api == Api::kMessages      ? "/v1/messages/render"
         : api == Api::kResponses   ? "/v1/responses/render"
         : api == Api::kCompletions ? "/v1/completions/render"
                                    : "/v1/chat/completions/render";
}

std::string TokenizeBody(const model::Request& request, std::string_view model) {
  std::string out;
  out.reserve(request.body_bytes + 64);
  wire::JsonWriter json(&out);
  json.BeginObject().Field("model", model);
  if (request.api == Api::kCompletions) json.Field("prompt", request.prompt.front().bytes);
  for (const auto& [name, field] : kTokenizeFields) {
    if (const std::string_view value = request.source.*field; !value.empty()) {
      json.Key(name).Raw(value);
    }
  }
  json.EndObject();
  return out;
}

Result<TokenAnswer> ReadTokenAnswer(TokenRoute route, std::string_view body, size_t prompts) {
  JsonScanner json(body);
  TokenAnswer answer;
  std::optional<Error> wrong;  // of the first that is
  size_t count = 0;
  const auto read_one = [&] {
    Found found;
    const bool is_read =
        json.Peek() == JsonScanner::Kind::kObject ? ReadObject(route, json, &found) : json.Skip();
    ++count;
    if (!is_read || wrong || count > prompts) return;
    if (auto done = Take(route, prompts, std::move(found), &answer); !done)
      wrong = std::move(done.error());
  };
  if (json.Peek() == JsonScanner::Kind::kArray) {
    for (json.EnterArray(); json.NextElement();) read_one();
  } else {
    read_one();
  }
  if (!json.Finish())
    return Bad(json.ok() ? "the answer goes on behind its end" : json.Complaint());
  if (count != prompts) {
    return Bad(fmt::format("the answer is for {} prompts, not {}", count, prompts));
  }
  if (wrong) return std::unexpected(*std::move(wrong));
  return answer;
}

}  // namespace penstock::tokens
