// The tokenizer that a tokenizer.json describes: added tokens, normaliser, pre-tokeniser, BPE.
//
// For .cc files of this module only.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokens/added_tokens.h"
#include "tokens/bpe.h"
#include "tokens/normalizer.h"
#include "tokens/pre_tokenizer.h"
#include "tokens/tokenizer.h"

namespace penstock::tokens {

// The parts of a tokenizer.json, read.
struct TokenizerParts {
  std::vector<AddedToken>
      added;  // with the ids that the model has for them, or that follow its own
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<Bpe> bpe;
  std::vector<uint32_t> prefix;
  std::vector<uint32_t> suffix;
  uint32_t space = ' ';  // what stands for a space in the tokens of a model over characters
};

// Errors say where in the file.
Result<TokenizerParts> ReadTokenizerJson(std::string_view json);

class JsonTokenizer final : public Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> Make(std::string_view json);

  Result<> EncodeFrom(std::string_view text, size_t from, bool is_in_text,
                      std::vector<uint32_t>* tokens, std::vector<Cut>* cuts) const override;
  std::string TokenBytes(uint32_t id) const override;
  size_t vocabulary_size() const override;

 private:
  struct Work;  // what one call carries

  explicit JsonTokenizer(TokenizerParts parts);
  Result<> AddTokens(const std::vector<AddedToken>& added);
  void FindCuts(const std::vector<AddedToken>& added);
  bool HasTokenAcrossCuts(const std::vector<AddedToken>& added) const;
  Result<> EncodeRaw(std::string_view raw, size_t offset, TextStart start, Work& work) const;
  Result<> EncodeSlice(std::string_view slice, size_t offset, TextStart start, Work& work) const;
  Result<> EncodeText(std::string_view text, TextStart start, std::vector<uint32_t>* tokens) const;
  void EncodeCharPiece(std::string_view piece, std::vector<uint32_t>* tokens) const;
  size_t NextCut(std::string_view raw, size_t from) const;

  AddedTokens raw_tokens_;         // looked for in the text as it comes
  AddedTokens normalized_tokens_;  // and in what the normaliser made of it
  std::vector<bool> raw_cuts_;     // beside tokens(): whether a text may be cut behind it
  std::vector<bool> normalized_cuts_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<Bpe> bpe_;
  std::unordered_map<uint32_t, std::string> added_texts_;
  uint32_t space_ = ' ';
  bool is_char_model_ = false;
  std::array<bool, 128> cuts_behind_{};  // letters that a text may be cut behind, before a space
};

}  // namespace penstock::tokens
