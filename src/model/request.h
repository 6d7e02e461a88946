// A request as the brain sees it: the few facts of its body and headers that routing needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::model {

struct HeaderView {
  std::string_view name;
  std::string_view value;
};

enum class Api : uint8_t {
  kChatCompletions,
  kCompletions,
  kResponses,
  kEmbeddings,
  kMessages,  // Anthropic
  kTokenize,
  kRerank,
  kScore,
  kChatRender,        // what a chat would send to the engine: nothing is generated
  kCompletionRender,  // so for a completion
  kCountTokens,       // Anthropic; passed like kOther
  kConversations,
  kImages,
  kVllmGenerate,    // token ids in and out, over HTTP or gRPC
  kVllmEmbed,       // gRPC
  kSglangGenerate,  // SGLang's own
  kOther,           // passed through; no prompt is read
};
std::string_view ApiName(Api api);  // "chat_completions", ... for metrics and logs

// A piece of prompt text (UTF-8, unescaped) or of token ids (packed as little-endian 32-bit words).
// Either way so many bytes are one estimated token.
inline constexpr size_t kBytesPerToken = 4;
struct PromptPart {
  std::string_view bytes;
  bool starts_sequence = false;  // the first part of each prompt of a multi-prompt request
};

// An image, a sound or a video among a prompt's tokens: where its placeholders stand, and the name
// by which the engine's events know it.
struct MediaSpan {
  uint32_t offset = 0;  // of the first token
  uint32_t length = 0;  // in tokens
  std::string name;
  bool operator==(const MediaSpan&) const = default;
};

// What an engine makes a prompt's token ids of, beside the prompt: fields of the body as the JSON
// that the client sent. Views into the body; empty for what is missing or null.
struct PromptSource {
  std::string_view messages;
  std::string_view tools;
  std::string_view documents;
  std::string_view chat_template;
  std::string_view chat_template_kwargs;
  std::string_view add_generation_prompt;
  std::string_view continue_final_message;
  std::string_view reasoning_effort;
  std::string_view tool_choice;
  std::string_view add_special_tokens;
  std::string_view truncate_prompt_tokens;
  std::string_view prompt_embeds;
  std::string_view response_format;
  std::string_view suffix;
  // Of Anthropic's messages.
  std::string_view system;
  std::string_view thinking;
  std::string_view output_config;
  // Of OpenAI's responses; the last three refer to what the engine stored.
  std::string_view input;
  std::string_view instructions;
  std::string_view reasoning;
  std::string_view text;
  std::string_view truncation;
  std::string_view previous_input_messages;
  std::string_view previous_response_id;
  std::string_view conversation;
  std::string_view stored_prompt;
  bool is_anthropic = false;  // messages and tools are in Anthropic's form
  bool holds_ids = false;     // the prompt's parts are token ids, as the client gave them
  bool has_media = false;     // images, audio or video are part of it
};

// Hosts of the endpoints that may serve a request, sorted, without ports. Nothing: any may; an
// empty list: nobody may.
using Subset = std::optional<std::vector<std::string>>;
bool IsAllowed(const Subset& subset, std::string_view host);

struct Request {
  std::string id;  // x-request-id or generated
  Api api = Api::kOther;
  std::string model;         // as the client named it; "" when the body has none
  std::string target_model;  // what the engine is asked for
  bool stream = false;
  uint32_t max_output_tokens = 0;  // 0: not given
  std::string cache_salt;
  uint64_t extra_tokens = 0;  // estimate for images, audio and video
  uint64_t body_bytes = 0;
  Subset subset;
  std::vector<HeaderView> headers;     // views that stay valid for the life of the request
  std::span<const PromptPart> prompt;  // valid only during Director::Arrive
  PromptSource source;                 // likewise

  // The first header of that name (ASCII case-insensitive), or "".
  std::string_view Header(std::string_view name) const;
};

}  // namespace penstock::model
