// What vLLM makes of a request in Anthropic's form before it handles it as a chat: system, blocks
// of text, thinking, tool calls and their results become messages, tools become functions.
//
// THREADS: any.
// COST: parsing and copying the messages, as for a chat.
// SOURCE: vLLM 0.32: entrypoints/anthropic/protocol.py, serving.py (to_chat_completion_request).
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string_view>

#include "core/result.h"
#include "model/request.h"
#include "tokens/chat_template.h"

namespace penstock::tokens {

// What depends on the model's templates.
struct AnthropicHabits {
  // System messages between others go to the one at the front: the template refuses them elsewhere.
  bool merges_system = false;
  // The reasoning effort that stands for thinking that is off. "none", or "low" where the template
  // cannot turn it off.
  std::string_view disabled_effort = "none";
};

// Finds out what vLLM finds out when it starts: renders a chat with a system message in its middle.
// nullptr: the model has no template.
bool MergesSystem(const ChatTemplate* chat_template);

struct AnthropicChat {
  boost::json::array messages;                       // as a chat request would have them
  std::optional<boost::json::array> tools;           // likewise; none where the request has none
  std::optional<std::string_view> reasoning_effort;  // "none", "low", ..., "max"
};

// Of system, messages, tools, thinking and output_config. Errors: kInvalidArgument, with
// "messages[3]", for what vLLM refuses too; kOutOfRange for what it writes in a way of Python's
// that is not copied here.
Result<AnthropicChat> ReadAnthropicChat(const model::PromptSource& source,
                                        const AnthropicHabits& habits);

}  // namespace penstock::tokens
