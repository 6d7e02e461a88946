#include "model/request.h"

#include <algorithm>

#include "core/text.h"

namespace penstock::model {

std::string_view ApiName(Api api) {
  switch (api) {
    case Api::kChatCompletions:
      return "chat_completions";
    case Api::kCompletions:
      return "completions";
    case Api::kResponses:
      return "responses";
    case Api::kEmbeddings:
      return "embeddings";
    case Api::kMessages:
      return "messages";
    case Api::kTokenize:
      return "tokenize";
    case Api::kRerank:
      return "rerank";
    case Api::kScore:
      return "score";
    case Api::kChatRender:
      return "chat_render";
    case Api::kCompletionRender:
      return "completion_render";
    case Api::kCountTokens:
      return "count_tokens";
    case Api::kConversations:
      return "conversations";
    case Api::kImages:
      return "images";
    case Api::kVllmGenerate:
      return "vllm_generate";
    case Api::kVllmEmbed:
      return "vllm_embed";
    case Api::kSglangGenerate:
      return "sglang_generate";
    case Api::kOther:
      return "other";
  }
  return "other";
}

bool IsAllowed(const Subset& subset, std::string_view host) {
  return !subset || std::binary_search(subset->begin(), subset->end(), host);
}

std::string_view Request::Header(std::string_view name) const {
  for (const HeaderView& header : headers) {
    // Most have another length, which is seen here without a call.
    if (header.name.size() != name.size()) continue;
    if (EqualsIgnoreCase(header.name, name)) return header.value;
  }
  return {};
}

}  // namespace penstock::model
