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
    if (EqualsIgnoreCase(header.name, name)) return header.value;
  }
  return {};
}

}  // namespace penstock::model
