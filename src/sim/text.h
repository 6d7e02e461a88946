// The simulated engine's tokenizer and its voice: deterministic, cheap, and closed in itself. What
// it writes tokenises to exactly the tokens it was generated as, so a chat's next turn finds the
// last answer in the KV cache.
//
// A token is an optional space and up to five bytes of a word (about four bytes of English), or a
// run of white space. Its id is a hash of its bytes.
//
// THREADS: pure functions. COST: one pass over the text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::sim {

constexpr uint32_t kVocabulary = 151'000;  // ids of text; the special ones follow
// Beginnings and ends of chat messages, as chat templates have them.
enum SpecialToken : uint32_t {
  kMessageEnd = kVocabulary,
  kSystem,
  kUser,
  kAssistant,
  kTool,
  kToolList,
  kImage,
};

// Appends the tokens of `text`. The tokens of a text do not depend on what follows a word's end.
void Tokenize(std::string_view text, std::vector<uint32_t>* tokens);
// Appends a fixed number of tokens that stand for an image or other media of this content.
void TokenizeMedia(std::string_view content, std::vector<uint32_t>* tokens);

// What an engine will answer, word by word.
struct Writing {
  std::string text;
  std::vector<uint32_t> tokens;
  std::vector<uint32_t> ends;  // ends[i]: bytes of text once token i is there
};
enum class FirstWord : uint8_t { kBare, kSpaced };  // an answer of its own, or a continuation
// `count` tokens, the same for the same seed; a longer one begins with the shorter one. The text is
// ASCII and needs no escaping in JSON.
Writing Write(uint64_t seed, uint32_t count, FirstWord first);

// The number of tokens after which an answer ends by itself: log-normal around `median`, between
// median/8 and 8 median.
uint32_t NaturalLength(uint64_t seed, uint32_t median);

}  // namespace penstock::sim
