// A model's tokenizer and chat template together: the token ids that vLLM makes of a request's
// text or chat.
//
// THREADS: const methods and the encoders from any thread.
// OWNS: the tokenizer, the templates, and a TokenCache of at most `cache_bytes`.
// COST: a chat that grew by a turn: parsing and rendering all of it, about 1 ms for 200 KB, and
// tokenising the turn. A prompt seen first: 40 ms a MB.
// SOURCE: vLLM 0.32: renderers/hf.py, renderers/online_renderer.py, the build_chat_params and
// build_tok_params of entrypoints/openai/*/protocol.py; entrypoints/anthropic/serving.py.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/request.h"
#include "tokens/token_cache.h"

namespace penstock::tokens {

class PromptTokenizer {
 public:
  struct Options {
    // tokenizer.json, a SentencePiece model (.model), or a model's folder with one of them. The
    // chat template and the special tokens are read from the files beside it.
    std::string path;
    // A Jinja file in place of the model's own template, as vLLM's --chat-template; "": none.
    std::string chat_template;
    // vLLM's --default-chat-template-kwargs: a JSON object; "": none.
    std::string chat_template_kwargs;
    size_t cache_bytes = size_t{64} << 20;
    uint64_t secret = 0;  // of the cache's keys
  };
  // Errors name the file.
  static Result<std::unique_ptr<PromptTokenizer>> Load(const Options& options);
  ~PromptTokenizer();

  // Why a prompt's tokens are not known.
  enum class Unknown : uint8_t {
    kNoTemplate,    // the model has no chat template
    kOwnTemplate,   // the client brings its own
    kOtherFormat,   // the engine writes this model's chats by other means than the template
    kContinues,     // continue_final_message
    kMedia,         // what stands for an image is known to the model's processor only
    kRefused,       // the template, or vLLM before it, would refuse the request
    kNotSupported,  // by us: numbers beyond 64 bits, a template that takes too long
    kTooLong,       // beyond Tokenizer::kMaxTextBytes, or a split expression ran away
  };
  struct Reason {
    Unknown why;
    std::string detail;
  };
  using Encoded = std::expected<void, Reason>;

  // Appends the tokens of one prompt's text; add_special_tokens as it stands in the request, true
  // when it does not.
  Encoded EncodeText(std::string_view text, std::string_view add_special_tokens,
                     std::vector<uint32_t>* ids) const;
  // Appends the tokens of a chat, in OpenAI's form or Anthropic's.
  Encoded EncodeChat(const model::PromptSource& chat, std::vector<uint32_t>* ids) const;
  // The text that the template makes of a chat.
  std::expected<std::string, Reason> Render(const model::PromptSource& chat) const;

  const Tokenizer& tokenizer() const;
  bool has_chat_template() const;
  TokenCache::Stats cache_stats() const;
  size_t cache_bytes() const;

 private:
  struct Impl;
  explicit PromptTokenizer(std::unique_ptr<Impl> impl);
  void LearnAnthropicHabits();

  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::tokens
