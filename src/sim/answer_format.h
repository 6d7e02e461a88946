// How answers look on the wire, API by API: events of a stream, and whole bodies.
//
// The text that engines write needs no escaping; what a client sent (model, ids) is escaped once.
// Everything is appended to the caller's buffer.
// SOURCE: OpenAI and Anthropic API references, as vLLM implements them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "sim/request.h"

namespace penstock::sim {

struct TokenUsage {
  uint64_t prompt_tokens = 0;
  uint64_t output_tokens = 0;
  uint64_t cached_tokens = 0;
};

// Of one choice, at its end.
struct Ending {
  engine::FinishReason reason = engine::FinishReason::kStop;
  std::string_view stop_text;  // the stop sequence that was met, or ""
};

struct AnswerHead {
  std::string id;     // "chatcmpl-..."
  std::string model;  // as asked for
  int64_t created = 0;
};

class StreamFormat {
 public:
  virtual ~StreamFormat() = default;
  // Before the first token of any choice.
  virtual void Begin(const TokenUsage& usage, std::string* out) = 0;
  // One token of a choice; `ending` with its last one. `usage` so far.
  virtual void Token(uint32_t choice, std::string_view text, const Ending* ending,
                     const TokenUsage& usage, std::string* out) = 0;
  // After the last token of all choices.
  virtual void End(const TokenUsage& usage, std::string* out) = 0;
};
// REQUIRES: an API that generates.
std::unique_ptr<StreamFormat> MakeStreamFormat(const Job& job, const AnswerHead& head);

struct WholeChoice {
  std::string_view text;
  Ending ending;
};
// The body of an answer that is not streamed. REQUIRES: an API that generates.
std::string RenderWhole(const Job& job, const AnswerHead& head,
                        std::span<const WholeChoice> choices, const TokenUsage& usage);
// Embeddings, rerank and score: vectors and scores come from the prompts' tokens.
std::string RenderPooled(const Job& job, const AnswerHead& head, const TokenUsage& usage);
std::string RenderTokens(const Job& job, uint32_t max_model_len);
// What the engine would compute for a chat of any API, or for each prompt of a completion.
std::string RenderPrompts(const Job& job, std::string_view id);
std::string RenderModels(const Names& names, int64_t created);

// "chatcmpl-", "cmpl-", ... of an API.
std::string_view IdPrefix(model::Api api);

}  // namespace penstock::sim
