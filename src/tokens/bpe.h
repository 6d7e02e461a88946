// Byte-pair encoding by rank: the pieces of a text to token ids.
//
// THREADS: const methods from any thread. Each thread keeps the tokens of short pieces in a table
// of 2 MiB that all tokenizers share, made when the thread first encodes. OWNS: vocabulary and
// merges; about 100 bytes a token. COST: a piece in the table one look-up; others O(n log n) merge
// look-ups in the bytes of the piece. SOURCE: Sennrich et al., "Neural Machine Translation of Rare
// Words with Subword Units", 2016.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace penstock::tokens {

inline constexpr uint32_t kNoToken = UINT32_MAX;

class Bpe {
 public:
  // What the symbols are that merges begin with.
  enum class Alphabet {
    kBytes,  // one per byte; the vocabulary spells them in GPT-2's 256 printable characters
    kChars,  // one per code point
  };

  struct Model {
    Alphabet alphabet = Alphabet::kBytes;
    // Token text as the file has it, and id. The views live until Make returns.
    std::vector<std::pair<std::string_view, uint32_t>> vocabulary;
    std::vector<std::pair<std::string_view, std::string_view>> merges;  // lowest rank first
    std::optional<std::string> unknown;  // the token for what has no other
    bool fuse_unknown = false;
    bool byte_fallback = false;
    bool ignore_merges = false;  // a piece that is a token is that token
  };

  static constexpr uint32_t kMaxId = (1U << 24) - 1;

  // Errors name the token or merge that is wrong.
  static Result<Bpe> Make(const Model& model);

  Bpe(Bpe&&) noexcept;
  Bpe& operator=(Bpe&&) noexcept;
  ~Bpe();

  // Appends the tokens of one piece. REQUIRES: valid UTF-8 of less than 2^31 bytes.
  void Encode(std::string_view piece, std::vector<uint32_t>* tokens) const;

  // The bytes that a token stands for, "" for an id without one. A token of byte_fallback stands
  // for its spelling "<0x0A>".
  std::string_view Bytes(uint32_t id) const;
  bool Has(uint32_t id) const { return id < spans_.size() && spans_[id].second != 0; }
  // The byte that a token of byte_fallback stands for.
  std::optional<uint8_t> FallbackByte(uint32_t id) const;
  size_t vocabulary_size() const { return vocabulary_size_; }
  Alphabet alphabet() const { return alphabet_; }

  // Whether no token that a merge makes holds `first` right before `second`, and both begin as
  // tokens of their own: a piece may then be cut between them. Only for kChars.
  bool NeverJoins(uint32_t first, uint32_t second) const;

 private:
  struct Merge {
    uint64_t pair = UINT64_MAX;
    uint32_t rank = 0;
    uint32_t id = 0;
  };
  struct Scratch;
  struct Index;

  Bpe();
  Result<> AddVocabulary(const Model& model);
  Result<> AddMerges(const Model& model);
  void AddMerge(uint64_t pair, uint32_t rank, uint32_t id);
  void NoteJoins(std::string_view token);
  const Merge* FindMerge(uint32_t left, uint32_t right) const;
  void EncodeWhole(std::string_view piece, std::vector<uint32_t>* tokens) const;
  void AddSymbols(std::string_view piece, std::vector<uint32_t>* symbols) const;
  void AddCharSymbols(std::string_view piece, std::vector<uint32_t>* symbols) const;
  void MergeFew(std::vector<uint32_t>* symbols) const;
  void MergeMany(std::vector<uint32_t>* symbols) const;

  uint32_t serial_ = 0;  // tells this one's entries in the threads' tables
  Alphabet alphabet_ = Alphabet::kBytes;
  uint32_t unknown_ = kNoToken;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  size_t vocabulary_size_ = 0;
  std::array<uint32_t, 256> byte_tokens_;  // kBytes: of each byte; kChars: of "<0x00>" to "<0xFF>"
  std::array<uint32_t, 128> ascii_tokens_;
  std::vector<Merge> merges_;  // open addressing, at most half full
  unsigned merge_shift_ = 0;
  std::string text_;                                  // the tokens' bytes, one after another
  std::vector<std::pair<uint32_t, uint32_t>> spans_;  // by id: where in text_, and how long
  std::unique_ptr<Index> index_;
};

}  // namespace penstock::tokens
