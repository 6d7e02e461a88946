// A SentencePiece model ("tokenizer.model"), run by its own library. Control symbols such as "</s>"
// are cut out of a text first; what stands between is encoded by itself.
//
// For .cc files of this module only.
// THREADS: const methods from any thread.
// SOURCE: https://github.com/google/sentencepiece
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokens/added_tokens.h"
#include "tokens/tokenizer.h"

namespace penstock::tokens {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // `model` is the bytes of the file. The prefix is its beginning-of-text symbol, where it has one.
  static Result<std::unique_ptr<Tokenizer>> Make(std::string_view model);
  ~SentencePieceTokenizer() override;

  Result<> EncodeFrom(std::string_view text, size_t from, bool is_in_text,
                      std::vector<uint32_t>* tokens, std::vector<Cut>* cuts) const override;
  std::string TokenBytes(uint32_t id) const override;
  size_t vocabulary_size() const override;

 private:
  struct Model;

  explicit SentencePieceTokenizer(std::unique_ptr<Model> model);

  std::unique_ptr<Model> model_;
  AddedTokens controls_;
  std::vector<bool> cuts_behind_;  // beside controls_.tokens()
};

}  // namespace penstock::tokens
