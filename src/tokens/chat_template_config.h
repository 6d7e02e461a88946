// The files of a model's folder that say how its chats are written: tokenizer_config.json,
// chat_template.jinja.
//
// THREADS: any.
// SOURCE: transformers' PreTrainedTokenizerBase (from_pretrained, get_chat_template,
// special_tokens_map).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "tokens/chat_template.h"

namespace penstock::tokens {

struct ChatTemplateConfig {
  // By name; a single one is "default". Sources, not parsed.
  std::vector<std::pair<std::string, std::string>> templates;
  // bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token, those that the
  // model has.
  NamedTokens special_tokens;

  // The source of the template of that name; without a name "tool_use" for requests with tools, or
  // "default". A name that is none of them is the template itself, as transformers takes it.
  // kNotFound when there is none.
  enum class Tools { kNone, kGiven };
  Result<std::string_view> Choose(std::string_view name, Tools tools) const;
};

// The text of a tokenizer_config.json.
Result<ChatTemplateConfig> ReadChatTemplateConfig(std::string_view text);

// A model's folder. chat_template.jinja takes the place of what the configuration says,
// additional_chat_templates/NAME.jinja add named ones. Errors name the file.
Result<ChatTemplateConfig> ReadChatTemplateFolder(const std::string& folder);

}  // namespace penstock::tokens
