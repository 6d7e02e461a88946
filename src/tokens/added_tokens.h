// The tokens that are cut out of a text before it is split: special ones and others that were added
// to a vocabulary.
//
// THREADS: const methods from any thread.
// COST: about 1 ns a byte where no token begins with it.
// SOURCE: "added_tokens" of tokenizer.json: the leftmost match, of those the longest.
#pragma once

#include <algorithm>
#include <array>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::tokens {

struct AddedToken {
  uint32_t id = 0;
  std::string text;
  bool is_special = false;
  bool strips_left = false;   // takes the white space before it
  bool strips_right = false;  // and behind it
  bool is_single_word = false;
  bool is_normalized = false;  // is looked for in the normalised text
};

class AddedTokens {
 public:
  // A token's place, or a part of the text between tokens.
  struct Part {
    const AddedToken* token = nullptr;
    size_t begin = 0;
    size_t end = 0;
  };

  AddedTokens();
  // What is looked for, and which token it is. Of two that are alike the first counts.
  void Add(std::string_view wanted, AddedToken token);

  bool empty() const { return tokens_.empty(); }
  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const std::vector<std::string>& wanted() const { return wanted_; }

  // Calls emit(Part) for each part of `text` in order. REQUIRES: valid UTF-8.
  template <class Emit>
  void Split(std::string_view text, const Emit& emit) const {
    size_t done = 0;
    size_t at = 0;
    while (at < text.size()) {
      if (!begins_[static_cast<unsigned char>(text[at])]) {
        ++at;
        continue;
      }
      const Match match = LongestAt(text, at);
      if (match.token == nullptr) {
        ++at;
        continue;
      }
      const size_t found = at;
      at = match.end;
      if (match.token->is_single_word && !StandsAlone(text, found, match.end)) continue;
      Part part{match.token, found, match.end};
      if (part.token->strips_left) part.begin = std::max(SpacesBefore(text, found), done);
      if (part.token->strips_right) part.end = SpacesAfter(text, match.end);
      if (done < part.begin) emit(Part{nullptr, done, part.begin});
      emit(part);
      done = part.end;
    }
    if (done < text.size()) emit(Part{nullptr, done, text.size()});
  }

 private:
  struct Match {
    const AddedToken* token = nullptr;
    size_t end = 0;
  };

  Match LongestAt(std::string_view text, size_t at) const;
  static bool StandsAlone(std::string_view text, size_t begin, size_t end);
  static size_t SpacesBefore(std::string_view text, size_t end);
  static size_t SpacesAfter(std::string_view text, size_t begin);

  static constexpr uint32_t kNone = UINT32_MAX;

  std::vector<AddedToken> tokens_;
  std::vector<std::string> wanted_;                         // beside tokens_
  boost::unordered_flat_map<uint64_t, uint32_t> children_;  // node << 8 | byte
  std::vector<uint32_t> ends_;                              // by node: index of the token, or kNone
  std::array<bool, 256> begins_{};                          // bytes that a token begins with
};

// For each token of `tokens`, whether no match of `all` can begin within it, or before it, and end
// behind it: what stands behind it in a text then decides nothing before.
std::vector<bool> EndsAlone(const AddedTokens& tokens, const std::vector<const AddedTokens*>& all);

}  // namespace penstock::tokens
