// Text to token ids, exactly as the engines' tokenizers do it, for the tokenizer.json files of
// Hugging Face (byte-level BPE, and BPE over characters with byte fallback) and for SentencePiece
// models.
//
// A text that is not UTF-8 is read as decoders with replacement read it: U+FFFD for each maximal
// part of an ill-formed sequence. "truncation" and "padding" of a file are not applied, as engines
// switch them off.
//
// THREADS: const methods from any thread.
// OWNS: vocabulary and merges: 30 to 120 MB for 128 to 262 thousand tokens.
// COST: 25 to 100 ns a token; bench/tokens_bench.cc has the numbers.
// SOURCE: https://huggingface.co/docs/tokenizers; tests/conformance/test_tokenizers.py holds it to
// that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace penstock::tokens {

// Whether the tokens that the post-processor puts around every text (a beginning-of-text token) are
// wanted. Chats whose template writes them do not want them twice.
enum class SpecialTokens { kAdd, kOmit };

// A place in a text where it may be cut: the tokens of what stands before do not depend on what
// follows, and those of the rest not on what stood before.
struct Cut {
  size_t offset = 0;        // bytes
  size_t settled = 0;       // the tokens before are certain when the text has this many bytes
  size_t tokens = 0;        // how many stand before it, in the vector they were appended to
  bool is_in_text = false;  // within a text that goes on, not behind an added token
};

class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = size_t{64} << 20;
  static constexpr size_t kMaxFileBytes = size_t{256} << 20;

  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Reads tokenizer.json or, when the name ends with ".model", a SentencePiece model. Errors begin
  // with the path; a component that is not supported is named.
  static Result<std::unique_ptr<Tokenizer>> Load(const std::string& path);
  // Of the text of a tokenizer.json.
  static Result<std::unique_ptr<Tokenizer>> FromJson(std::string_view json);

  // Appends the tokens of `text`. Fails for a text above kMaxTextBytes, or when a split expression
  // that is not one of the well-known runs away on it; `*tokens` is then as before.
  Result<> Encode(std::string_view text, SpecialTokens special,
                  std::vector<uint32_t>* tokens) const;

  // What stands before and behind every text with SpecialTokens::kAdd.
  std::span<const uint32_t> prefix() const { return prefix_; }
  std::span<const uint32_t> suffix() const { return suffix_; }

  // Appends the tokens of text[from, size) as they are in the whole text, without prefix and
  // suffix, and to `cuts` the places behind `from` where it may be cut. `from` is 0 or one of these
  // places of this text or of one with the same first `settled` bytes; `is_in_text` is what that
  // Cut says. REQUIRES: valid UTF-8 of at most kMaxTextBytes.
  virtual Result<> EncodeFrom(std::string_view text, size_t from, bool is_in_text,
                              std::vector<uint32_t>* tokens, std::vector<Cut>* cuts) const = 0;

  // The bytes that a token stands for in a text, "" for an id without one; for diagnostics.
  virtual std::string TokenBytes(uint32_t id) const = 0;
  // The text of the tokens one after another, special ones as they are spelled.
  std::string Decode(std::span<const uint32_t> tokens) const;
  // Tokens of the model and those added to it.
  virtual size_t vocabulary_size() const = 0;

 protected:
  Tokenizer() = default;

  std::vector<uint32_t> prefix_;
  std::vector<uint32_t> suffix_;
};

// `text`, or `*scratch` with what it becomes when it is not UTF-8.
std::string_view AsUtf8(std::string_view text, std::string* scratch);

}  // namespace penstock::tokens
