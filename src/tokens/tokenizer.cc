#include "tokens/tokenizer.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "core/file.h"
#include "tokens/json_tokenizer.h"
#include "tokens/sentencepiece_tokenizer.h"
#include "tokens/unicode.h"

namespace penstock::tokens {

std::string_view AsUtf8(std::string_view text, std::string* scratch) {
  if (simdjson::validate_utf8(text.data(), text.size())) return text;
  scratch->clear();
  AppendLossyUtf8(text, scratch);
  return *scratch;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& path) {
  const Result<std::string> bytes = ReadFile(path, kMaxFileBytes);
  if (!bytes) return std::unexpected(bytes.error());
  auto tokenizer =
      path.ends_with(".model") ? SentencePieceTokenizer::Make(*bytes) : FromJson(*bytes);
  if (!tokenizer) return Fail(tokenizer.error().code, path + ": " + tokenizer.error().message);
  return tokenizer;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view json) {
  return JsonTokenizer::Make(json);
}

Result<> Tokenizer::Encode(std::string_view text, SpecialTokens special,
                           std::vector<uint32_t>* tokens) const {
  if (text.size() > kMaxTextBytes) {
    return Fail(Code::kOutOfRange, fmt::format("a text of {} bytes: {} at most are tokenised",
                                               text.size(), kMaxTextBytes));
  }
  std::string scratch;
  const size_t before = tokens->size();
  if (special == SpecialTokens::kAdd) tokens->insert(tokens->end(), prefix_.begin(), prefix_.end());
  auto done = EncodeFrom(AsUtf8(text, &scratch), 0, false, tokens, nullptr);
  if (!done) {
    tokens->resize(before);
    return done;
  }
  if (special == SpecialTokens::kAdd) tokens->insert(tokens->end(), suffix_.begin(), suffix_.end());
  return {};
}

std::string Tokenizer::Decode(std::span<const uint32_t> tokens) const {
  std::string out;
  for (const uint32_t token : tokens) out += TokenBytes(token);
  return out;
}

}  // namespace penstock::tokens
