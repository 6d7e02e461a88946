#include "tokens/token_question.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <optional>
#include <utility>

#include "core/text.h"
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
// What render endpoints are told beside.
constexpr std::array<std::string_view PromptSource::*, 3> kOtherFields = {
    &PromptSource::documents, &PromptSource::reasoning_effort, &PromptSource::tool_choice};

void Add(XXH3_state_t* state, std::string_view text) {
  const uint64_t size = text.size();
  XXH3_128bits_update(state, &size, sizeof size);
  XXH3_128bits_update(state, text.data(), text.size());
}

std::unexpected<Error> Bad(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

struct Found {
  std::optional<std::vector<uint32_t>> ids;  // none: there is no such list
  std::optional<uint64_t> count;             // what the answer says of its length
  bool has_media = false;
};

// Whether the value at which `json` stands is an object with something in it.
bool ReadHashes(JsonScanner& json, bool* has_media) {
  if (json.Peek() != JsonScanner::Kind::kObject) return json.Skip();
  wire::JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    const char* const begin = json.position();
    if (!json.Skip()) return false;
    const std::string_view value(begin, static_cast<size_t>(json.position() - begin));
    // Modality and list; an empty one says that there is none.
    if (value != "null" && value != "[]" && value != "{}") *has_media = true;
  }
  return json.ok();
}

bool ReadFeatures(JsonScanner& json, bool* has_media) {
  if (json.Peek() != JsonScanner::Kind::kObject) return json.Skip();
  wire::JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    const bool is_hashes = key.raw == "mm_hashes" || key.raw == "mm_placeholders";
    if (!(is_hashes ? ReadHashes(json, has_media) : json.Skip())) return false;
  }
  return json.ok();
}

bool ReadObject(TokenRoute route, JsonScanner& json, Found* found) {
  const std::string_view wanted = route == TokenRoute::kRender ? "token_ids" : "tokens";
  wire::JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    if (key.raw == "features" && route == TokenRoute::kRender) {
      if (!ReadFeatures(json, &found->has_media)) return false;
      continue;
    }
    const bool is_list = json.Peek() == JsonScanner::Kind::kArray;
    if (key.raw == wanted) {
      found->ids.reset();
      if (!(is_list ? json.ReadUints(&found->ids.emplace()) : json.Skip())) return false;
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

}  // namespace

bool IsQuestion(const model::Request& request) {
  const PromptSource& source = request.source;
  if (source.has_media || source.holds_ids || !source.prompt_embeds.empty() ||
      !source.truncate_prompt_tokens.empty()) {
    return false;
  }
  if (request.api == Api::kChatCompletions) return !source.messages.empty();
  return request.api == Api::kCompletions && request.prompt.size() == 1;
}

bool FitsTokenize(const model::Request& request) {
  return request.source.documents.empty() && request.source.reasoning_effort.empty() &&
         (request.api != Api::kChatCompletions ||
          request.target_model.find("gpt-oss") == std::string::npos);
}

TokenKey KeyOf(const model::Request& request, uint64_t secret) {
  XXH3_state_t state = {};
  XXH3_128bits_reset_withSeed(&state, secret);
  const auto api = static_cast<unsigned char>(request.api);
  XXH3_128bits_update(&state, &api, sizeof api);
  Add(&state, request.target_model);
  for (const auto& [name, field] : kTokenizeFields) Add(&state, request.source.*field);
  for (const auto field : kOtherFields) Add(&state, request.source.*field);
  if (request.api == Api::kCompletions) Add(&state, request.prompt.front().bytes);
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  return {hash.low64, hash.high64};
}

std::string_view PathOf(TokenRoute route, Api api) {
  if (route == TokenRoute::kTokenize) return "/tokenize";
  return api == Api::kChatCompletions ? "/v1/chat/completions/render" : "/v1/completions/render";
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

Result<std::vector<uint32_t>> ReadTokenAnswer(TokenRoute route, std::string_view body) {
  JsonScanner json(body);
  Found found;
  size_t prompts = 1;
  if (json.Peek() == JsonScanner::Kind::kArray) {
    prompts = 0;
    for (json.EnterArray(); json.NextElement();) {
      ++prompts;
      if (json.Peek() == JsonScanner::Kind::kObject) {
        ReadObject(route, json, &found);
      } else {
        json.Skip();
      }
    }
  } else {
    ReadObject(route, json, &found);
  }
  if (!json.Finish())
    return Bad(json.ok() ? "the answer goes on behind its end" : json.Complaint());
  if (prompts != 1) return Bad(fmt::format("the answer is for {} prompts, not one", prompts));
  if (found.has_media) {
    return Fail(Code::kFailedPrecondition, "the answer counts media among the tokens");
  }
  if (!found.ids) {
    return Bad(route == TokenRoute::kRender ? "the answer has no list token_ids"
                                            : "the answer has no list tokens");
  }
  if (found.ids->empty()) return Bad("the answer has no tokens");
  if (found.count && *found.count != found.ids->size()) {
    return Bad(
        fmt::format("the answer has {} tokens and counts {}", found.ids->size(), *found.count));
  }
  return *std::move(found.ids);
}

}  // namespace penstock::tokens
