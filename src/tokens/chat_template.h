// A model's chat template: messages to the text that the engine tokenizes.
//
// The templates are Jinja, rendered as Python's jinja2 does when transformers sets it up; the text
// is identical or there is an error that says what is not supported. A hostile template cannot take
// more time or memory than `Limits`.
//
// THREADS: const methods from any thread.
// COST: a chat of 100 messages in some 100 µs; bench/chat_template_bench.cc.
// SOURCE: transformers' apply_chat_template, Jinja 3.1's ImmutableSandboxedEnvironment.
#pragma once

#include <boost/json/fwd.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace penstock::tokens {

namespace jinja {
struct Template;
}

// What one render may use up; what is beyond is kResourceExhausted.
struct RenderLimits {
  uint64_t steps = 20'000'000;      // about a second
  size_t output_bytes = 64u << 20;  // of the text
  size_t memory_bytes = 256u << 20;
};

// Names such as "bos_token" and their texts.
using NamedTokens = std::vector<std::pair<std::string, std::string>>;

// What a template sees. Borrows everything for the length of the call.
struct ChatInput {
  const boost::json::array* messages = nullptr;  // required
  const boost::json::array* tools = nullptr;
  const boost::json::array* documents = nullptr;
  // The request's chat_template_kwargs: more variables, in place of special tokens of the same
  // name.
  const boost::json::object* variables = nullptr;
  const NamedTokens* special_tokens = nullptr;
  enum class GenerationPrompt { kNone, kAdded };
  GenerationPrompt generation_prompt = GenerationPrompt::kNone;
  // For strftime_now: the wall clock where the engine runs.
  std::chrono::local_time<std::chrono::microseconds> now{};
  // Without what transformers adds to Jinja: raise_exception, strftime_now and {% generation %},
  // and the variables tools and documents.
  bool is_plain_jinja = false;
};

struct RenderedChat {
  // The bytes [begin, end) of the text that the loop over the messages wrote for one of them. In
  // order; what lies between belongs to none. A template that does not loop over its messages has
  // none.
  struct Span {
    size_t message = 0;
    size_t begin = 0;
    size_t end = 0;
  };
  std::string text;
  std::vector<Span> messages;
  uint64_t steps = 0;
};

// How a template takes the content of a message.
enum class ContentFormat {
  kString,  // as one text
  kOpenAi,  // as the list of parts
};

class ChatTemplate {
 public:
  // Errors: kInvalidArgument with the line and what is wrong there; kOutOfRange above 256 KiB.
  static Result<ChatTemplate> Parse(std::string_view source);

  // Errors: kInvalidArgument for what the template or Python refuses ("line 12: 'x' is undefined",
  // or the text that the template gave to raise_exception), kOutOfRange for integers beyond 64
  // bits, kResourceExhausted for the limits. kInvalidArgument also for variables that transformers
  // refuses: messages, tools, chat_template, tokenize.
  Result<RenderedChat> Render(const ChatInput& input, const RenderLimits& limits = {}) const;

  // kOpenAi where the template loops over the content of messages, as vLLM finds out.
  ContentFormat content_format() const { return content_format_; }
  // Whether the source tells of the role "developer".
  bool knows_developer() const { return knows_developer_; }
  // Whether the template names the variable.
  bool Names(std::string_view variable) const;

 private:
  ChatTemplate() = default;

  std::shared_ptr<const jinja::Template> template_;
  ContentFormat content_format_ = ContentFormat::kString;
  bool knows_developer_ = false;
};

}  // namespace penstock::tokens
