// How somebody else is asked for a prompt's tokens, and what he answers: vLLM's render endpoints
// and /tokenize.
//
// THREADS: functions without state. COST: an answer of 100 thousand ids is read in 1.7 ms.
// SOURCE: vLLM: entrypoints/serve/render, entrypoints/serve/tokenize (TokenizeChatRequest,
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

// A number for all that a request's tokens depend on.
struct TokenKey {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const TokenKey&) const = default;
};
// Under a secret, so that nobody can make two requests with one key. REQUIRES: IsQuestion(request).
TokenKey KeyOf(const model::Request& request, uint64_t secret);

// Whether the tokens of such a request can be asked for at all: one prompt, a chat or a text, and
// nothing else in it.
bool IsQuestion(const model::Request& request);
// Whether /tokenize is told all that they depend on; it knows neither documents nor reasoning
// efforts, and writes gpt-oss's chats by a template, which the engine does not.
bool FitsTokenize(const model::Request& request);

// "/v1/chat/completions/render", ... REQUIRES: IsQuestion.
std::string_view PathOf(TokenRoute route, model::Api api);
// The body for /tokenize. REQUIRES: FitsTokenize.
std::string TokenizeBody(const model::Request& request, std::string_view model);

// No honest answer to a question about a body of that size is larger.
constexpr size_t MaxAnswerBytes(size_t body_bytes) {
  constexpr size_t kBesides = 256 << 10;  // what stands there beside the ids
  constexpr size_t kBytesPerId = 12;      // "4294967295, "; a token is a byte of text at least
  constexpr size_t kMost = size_t{32} << 20;
  return body_bytes > (kMost - kBesides) / kBytesPerId ? kMost
                                                       : kBesides + kBytesPerId * body_bytes;
}

// The ids of one prompt, at least one. Errors say what is wrong with the answer: kInvalidArgument
// for what is none, kFailedPrecondition for one that counts media among the tokens.
Result<std::vector<uint32_t>> ReadTokenAnswer(TokenRoute route, std::string_view body);

}  // namespace penstock::tokens
