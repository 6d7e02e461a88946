// How somebody else is asked for a prompt's tokens, and what he answers: vLLM's render endpoints
// and /tokenize.
//
// THREADS: functions without state. COST: an answer of 100 thousand ids is read in 1.7 ms.
// SOURCE: vLLM: entrypoints/scale_out/render, entrypoints/serve/tokenize (TokenizeChatRequest,
// TokenizeCompletionRequest); spec kv-index 4.4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/request.h"

namespace penstock::tokens {

// Where the question goes. A render endpoint takes the request as it is and does with it what it
// would do before it generates; /tokenize takes what it knows of.
enum class TokenRoute : uint8_t { kRender, kTokenize };
inline constexpr size_t kTokenRoutes = 2;

// What a server has or has not. Chats and texts have come together, before the others: whoever
// renders anything renders them.
enum class TokenEndpoint : uint8_t { kRender, kRenderMessages, kRenderResponses, kTokenize };
inline constexpr size_t kTokenEndpoints = 4;
TokenEndpoint EndpointOf(TokenRoute route, model::Api api);

// Of one request.
inline constexpr size_t kMaxAskedPrompts = 1024;

// A number for all that a request's tokens depend on.
struct TokenKey {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const TokenKey&) const = default;
};
// Under a secret, so that nobody can make two requests with one key. REQUIRES: IsQuestion(request).
TokenKey KeyOf(const model::Request& request, uint64_t secret);

// Whether the tokens of such a request can be asked for at all: a chat in any of the APIs, or at
// most kMaxAskedPrompts texts, and nothing else in it. Not where endpoints that render would tell
// something else than the engine has: what it stored itself, prompts that are cut, tools that it
// calls itself, and Anthropic's thinking turned off, for which engines go by their own settings.
bool IsQuestion(const model::Request& request);
// Whether /tokenize is told all that they depend on: it takes one prompt, a chat of OpenAI's or a
// text; it knows neither documents nor reasoning efforts, writes gpt-oss's chats by a template,
// which the engine does not, and does not say where media are.
bool FitsTokenize(const model::Request& request);
// The number of prompts that an answer has to be for. REQUIRES: IsQuestion.
size_t PromptsOf(const model::Request& request);

// "/v1/chat/completions/render", ... REQUIRES: IsQuestion.
std::string_view PathOf(TokenRoute route, model::Api api);
// The body for /tokenize. REQUIRES: FitsTokenize.
std::string TokenizeBody(const model::Request& request, std::string_view model);

// No honest answer to a question about so many prompts in a body of that size is larger.
constexpr size_t MaxAnswerBytes(size_t body_bytes, size_t prompts) {
  constexpr size_t kBesides = 256 << 10;      // what stands there beside the ids of the first
  constexpr size_t kBesidesOthers = 4 << 10;  // and of each other, with what the body asks for
  constexpr size_t kBytesPerId = 12;          // "4294967295, "; a token is a byte of text at least
  constexpr size_t kMost = size_t{32} << 20;
  if (prompts > kMost / kBesidesOthers || body_bytes > kMost / kBytesPerId) return kMost;
  const size_t bytes =
      kBesides + (prompts - 1) * (kBesidesOthers + body_bytes) + kBytesPerId * body_bytes;
  return bytes < kMost ? bytes : kMost;
}

// What was told of a request's prompts.
struct TokenAnswer {
  std::vector<uint32_t> ids;            // of all prompts, one behind the other
  std::vector<uint32_t> sequence_ends;  // where each prompt ends in `ids`
  std::vector<model::MediaSpan> media;  // of the one prompt; in order, without overlap
};
// The ids of so many prompts, at least one of each. Errors say what is wrong with the answer:
// kInvalidArgument. REQUIRES: prompts > 0.
Result<TokenAnswer> ReadTokenAnswer(TokenRoute route, std::string_view body, size_t prompts);

}  // namespace penstock::tokens
