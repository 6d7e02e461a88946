// Prompts as tokens: those of the simulated engine's own words, or of a model's tokenizer.
//
// THREADS: belongs to its caller.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/text.h"
#include "tokens/prompt_tokenizer.h"

namespace penstock::sim {

class Words {
 public:
  // Appends to `tokens`. `tokenizer` may be null: the engine's own words.
  Words(const tokens::PromptTokenizer* tokenizer, std::vector<uint32_t>* tokens)
      : tokenizer_(tokenizer), tokens_(tokens) {}

  void Text(std::string_view text);
  // A fixed number of tokens that stand for media of this content.
  void Media(std::string_view content);
  // The beginning or end of a message, for want of a chat template.
  void Mark(SpecialToken mark);

 private:
  const tokens::PromptTokenizer* tokenizer_;
  std::vector<uint32_t>* tokens_;
};

// Write (text.h) with a tokenizer's tokens: `count` of those of the words, and the text that they
// stand for. A token may end within a character.
Writing WriteWith(const tokens::PromptTokenizer& tokenizer, uint64_t seed, uint32_t count,
                  FirstWord first);

}  // namespace penstock::sim
