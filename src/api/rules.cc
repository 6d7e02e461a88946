#include "api/rules.h"

namespace penstock::api {
namespace {

using model::Api;

constexpr PromptField kChatFields[] = {{"tools", Shape::kRaw, 0},
                                       {"messages", Shape::kMessages, 1}};
constexpr PromptField kCompletionFields[] = {{"prompt", Shape::kPrompts, 0},
                                             {"prompt_embeds", Shape::kRaw, 1}};
constexpr PromptField kResponseFields[] = {
    {"instructions", Shape::kContent, 0}, {"tools", Shape::kRaw, 1}, {"input", Shape::kInput, 2}};
constexpr PromptField kEmbeddingFields[] = {{"input", Shape::kPrompts, 0},
                                            {"messages", Shape::kMessages, 1}};
constexpr PromptField kMessagesFields[] = {
    {"system", Shape::kContent, 0}, {"tools", Shape::kRaw, 1}, {"messages", Shape::kMessages, 2}};
constexpr PromptField kTokenizeFields[] = {
    {"prompt", Shape::kPrompts, 0}, {"tools", Shape::kRaw, 1}, {"messages", Shape::kMessages, 2}};
constexpr PromptField kRerankFields[] = {{"query", Shape::kTexts, 0},
                                         {"documents", Shape::kTexts, 1}};
constexpr PromptField kScoreFields[] = {
    {"text_1", Shape::kTexts, 0}, {"queries", Shape::kTexts, 0},   {"data_1", Shape::kTexts, 0},
    {"text_2", Shape::kTexts, 1}, {"documents", Shape::kTexts, 1}, {"data_2", Shape::kTexts, 1}};
constexpr PromptField kConversationFields[] = {{"items", Shape::kMessages, 0}};
constexpr PromptField kImageFields[] = {{"prompt", Shape::kPrompts, 0}};
constexpr PromptField kVllmFields[] = {{"token_ids", Shape::kTokenIds, 0}};
constexpr PromptField kSglangFields[] = {{"text", Shape::kPrompts, 0},
                                         {"input_ids", Shape::kTokenIds, 1}};

constexpr Required kChatRequired[] = {{"messages", "\"messages\"", 0b010}};
constexpr Required kCompletionRequired[] = {{"prompt", "\"prompt\" or \"prompt_embeds\"", 0b011}};
constexpr Required kResponseRequired[] = {{"input", "\"input\"", 0b100}};
constexpr Required kEmbeddingRequired[] = {{"input", "\"input\" or \"messages\"", 0b011}};
constexpr Required kMessagesRequired[] = {{"messages", "\"messages\"", 0b100}};
constexpr Required kTokenizeRequired[] = {{"prompt", "\"prompt\" or \"messages\"", 0b101}};
constexpr Required kRerankRequired[] = {{"query", "\"query\"", 0b001},
                                        {"documents", "\"documents\"", 0b010}};
constexpr Required kScoreRequired[] = {{"text_1", "\"text_1\" or \"queries\"", 0b001},
                                       {"text_2", "\"text_2\" or \"documents\"", 0b010}};
constexpr Required kConversationRequired[] = {{"items", "\"items\"", 0b001}};
constexpr Required kImageRequired[] = {{"prompt", "\"prompt\"", 0b001}};
constexpr Required kVllmRequired[] = {{"token_ids", "\"token_ids\"", 0b001}};
constexpr Required kSglangRequired[] = {{"input_ids", "\"input_ids\" or \"text\"", 0b011}};

}  // namespace

Rules RulesOf(Api api) {
  switch (api) {
    case Api::kChatCompletions:
      return {kChatFields, kChatRequired};
    case Api::kCompletions:
      return {kCompletionFields, kCompletionRequired};
    case Api::kResponses:
      return {kResponseFields, kResponseRequired};
    case Api::kEmbeddings:
      return {kEmbeddingFields, kEmbeddingRequired};
    case Api::kMessages:
      return {kMessagesFields, kMessagesRequired};
    case Api::kTokenize:
      return {kTokenizeFields, kTokenizeRequired, false};
    case Api::kRerank:
      return {kRerankFields, kRerankRequired};
    case Api::kScore:
      return {kScoreFields, kScoreRequired};
    case Api::kChatRender:
      return {.fields = kChatFields, .required = kChatRequired, .has_prompt = false};
    case Api::kCompletionRender:
      return {.fields = kCompletionFields, .required = kCompletionRequired, .has_prompt = false};
    case Api::kConversations:
      return {kConversationFields, kConversationRequired, false};
    case Api::kImages:
      return {.fields = kImageFields, .required = kImageRequired, .has_prompt = false};
    case Api::kVllmGenerate:
      return {.fields = kVllmFields,
              .required = kVllmRequired,
              .needs_model = false,
              .has_sampling = true};
    case Api::kSglangGenerate:
      return {.fields = kSglangFields,
              .required = kSglangRequired,
              .needs_model = false,
              .has_sampling = true};
    case Api::kVllmEmbed:  // never JSON
    case Api::kCountTokens:
    case Api::kOther:
      break;
  }
  return {.needs_model = false, .is_passed = true};
}

}  // namespace penstock::api
