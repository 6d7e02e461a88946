#include "sim/words.h"

#include <string>

namespace penstock::sim {
namespace {

std::string_view SpellingOf(SpecialToken mark) {
  switch (mark) {
    case kMessageEnd:
      return "\n";
    case kSystem:
      return "[system]\n";
    case kUser:
      return "[user]\n";
    case kAssistant:
      return "[assistant]\n";
    case kTool:
      return "[tool]\n";
    case kToolList:
      return "[tools]\n";
    case kImage:
      return "[image]\n";
  }
  return "\n";
}

}  // namespace

void Words::Text(std::string_view text) {
  if (tokenizer_ != nullptr && tokenizer_->EncodeText(text, "false", tokens_)) return;
  Tokenize(text, tokens_);
}

void Words::Media(std::string_view content) {
  const size_t before = tokens_->size();
  TokenizeMedia(content, tokens_);
  if (tokenizer_ == nullptr) return;
  const auto vocabulary = static_cast<uint32_t>(tokenizer_->tokenizer().vocabulary_size());
  for (size_t i = before; i < tokens_->size(); ++i) (*tokens_)[i] %= vocabulary;
}

void Words::Mark(SpecialToken mark) {
  if (tokenizer_ == nullptr) {
    tokens_->push_back(mark);
  } else {
    Text(SpellingOf(mark));
  }
}

Writing WriteWith(const tokens::PromptTokenizer& tokenizer, uint64_t seed, uint32_t count,
                  FirstWord first) {
  // A word has at least one token.
  Writing words = Write(seed, count, first);
  Writing writing;
  if (!tokenizer.EncodeText(words.text, "false", &writing.tokens)) return words;
  if (writing.tokens.size() > count) writing.tokens.resize(count);
  for (const uint32_t token : writing.tokens) {
    writing.text += tokenizer.tokenizer().TokenBytes(token);
    writing.ends.push_back(static_cast<uint32_t>(writing.text.size()));
  }
  // SentencePiece begins every text with a space that is not in it.
  if (first == FirstWord::kBare && writing.text.starts_with(' ')) {
    writing.text.erase(0, 1);
    for (uint32_t& end : writing.ends) --end;
  }
  return writing;
}

}  // namespace penstock::sim
