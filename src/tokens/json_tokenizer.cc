#include "tokens/json_tokenizer.h"

#include <utility>

#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

constexpr uint32_t kMetaspaceCode = 0x2581;
constexpr std::string_view kMetaspace = "\xe2\x96\x81";

// A text is worked on in slices of about this many bytes: what a slice needs stays in the first
// cache.
constexpr size_t kSliceBytes = 1024;

bool IsAsciiLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool HasLetterThen(std::string_view text, std::string_view space) {
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (IsAsciiLetter(text[i]) && text.substr(i + 1).starts_with(space)) return true;
  }
  return false;
}

}  // namespace

struct JsonTokenizer::Work {
  std::vector<uint32_t>* tokens;
  std::vector<Cut>* cuts;  // or null
  size_t last_cut;         // in the text
  std::string scratch;

  void AddCut(size_t offset, size_t settled, bool is_in_text) {
    last_cut = offset;
    if (cuts != nullptr) cuts->push_back({offset, settled, tokens->size(), is_in_text});
  }
};

JsonTokenizer::JsonTokenizer(TokenizerParts parts)
    : normalizer_(std::move(parts.normalizer)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      bpe_(std::move(parts.bpe)),
      space_(parts.space),
      is_char_model_(bpe_->alphabet() == Bpe::Alphabet::kChars) {
  prefix_ = std::move(parts.prefix);
  suffix_ = std::move(parts.suffix);
}

Result<std::unique_ptr<Tokenizer>> JsonTokenizer::Make(std::string_view json) {
  Result<TokenizerParts> parts = ReadTokenizerJson(json);
  if (!parts) return std::unexpected(parts.error());
  const std::vector<AddedToken> added = std::move(parts->added);
  std::unique_ptr<JsonTokenizer> tokenizer(new JsonTokenizer(*std::move(parts)));
  if (auto done = tokenizer->AddTokens(added); !done) return std::unexpected(done.error());
  tokenizer->FindCuts(added);
  return tokenizer;
}

Result<> JsonTokenizer::AddTokens(const std::vector<AddedToken>& added) {
  // Of two that look alike the special one counts.
  for (const bool is_special : {true, false}) {
    for (const AddedToken& token : added) {
      if (token.is_special != is_special) continue;
      added_texts_.insert_or_assign(token.id, token.text);
      if (!token.is_normalized) {
        raw_tokens_.Add(token.text, token);
        continue;
      }
      std::string scratch;
      const auto wanted = normalizer_.Apply(token.text, TextStart::kOfInput, &scratch);
      if (!wanted) return std::unexpected(wanted.error());
      normalized_tokens_.Add(*wanted, token);
    }
  }
  return {};
}

void JsonTokenizer::FindCuts(const std::vector<AddedToken>& added) {
  raw_cuts_ = EndsAlone(raw_tokens_, {&raw_tokens_});
  normalized_cuts_ = EndsAlone(normalized_tokens_, {&raw_tokens_, &normalized_tokens_});
  // A word's neighbours decide whether it is one.
  bool has_words = false;
  for (const AddedToken& token : added) has_words = has_words || token.is_single_word;
  for (size_t i = 0; i < raw_cuts_.size(); ++i) {
    if (has_words || raw_tokens_.tokens()[i].strips_right) raw_cuts_[i] = false;
  }
  for (size_t i = 0; i < normalized_cuts_.size(); ++i) {
    const bool is_movable = !normalizer_.IsIdentity();  // its place in the text is not known
    if (has_words || is_movable || normalized_tokens_.tokens()[i].strips_right) {
      normalized_cuts_[i] = false;
    }
  }
  if (has_words || !normalizer_.AllowsCuts() || !pre_tokenizer_.AllowsCuts()) return;
  if (HasTokenAcrossCuts(added)) return;
  for (unsigned char c = 0; c < 128; ++c) {
    cuts_behind_[c] =
        IsAsciiLetter(static_cast<char>(c)) && (!is_char_model_ || bpe_->NeverJoins(c, space_));
  }
}

// Whether an added token may reach over a letter and the space behind it.
bool JsonTokenizer::HasTokenAcrossCuts(const std::vector<AddedToken>& added) const {
  for (const AddedToken& token : added) {
    if (HasLetterThen(token.text, " ")) return true;
    if (token.strips_right && IsAsciiLetter(token.text.back())) return true;
  }
  for (const std::string& wanted : normalized_tokens_.wanted()) {
    if (HasLetterThen(wanted, " ")) return true;
    if (space_ == kMetaspaceCode && HasLetterThen(wanted, kMetaspace)) return true;
  }
  return false;
}

Result<> JsonTokenizer::EncodeFrom(std::string_view text, size_t from, bool is_in_text,
                                   std::vector<uint32_t>* tokens, std::vector<Cut>* cuts) const {
  Work work{tokens, cuts, from, {}};
  const std::string_view rest = text.substr(from);
  Result<> done;
  raw_tokens_.Split(rest, [&](const AddedTokens::Part& part) {
    if (!done) return;
    if (part.token != nullptr) {
      tokens->push_back(part.token->id);
      const auto index = static_cast<size_t>(part.token - raw_tokens_.tokens().data());
      if (raw_cuts_[index]) work.AddCut(from + part.end, from + part.end, false);
      return;
    }
    TextStart start = TextStart::kAfterToken;
    if (from + part.begin == 0) start = TextStart::kOfInput;
    if (part.begin == 0 && is_in_text) start = TextStart::kContinuation;
    done =
        EncodeRaw(rest.substr(part.begin, part.end - part.begin), from + part.begin, start, work);
  });
  return done;
}

// The end of the slice, at `from` or later: behind a letter and before a space.
//
// There a cut changes nothing. No added token reaches across (HasTokenAcrossCuts). The Unicode
// forms do not compose over a space, and a space stays what it is. In every split that AllowsCuts a
// run of letters ends before a space whatever follows, what matched up to it has looked at that
// space at most, and from the space on the expression begins anew; none looks back. A model over
// characters has no token with that letter right before its space (NeverJoins).
size_t JsonTokenizer::NextCut(std::string_view raw, size_t from) const {
  size_t at = std::max<size_t>(from, 1);
  while (at < raw.size()) {
    at = raw.find(' ', at);
    if (at == std::string_view::npos) break;
    const auto before = static_cast<unsigned char>(raw[at - 1]);
    if (before < 128 && cuts_behind_[before]) return at;
    ++at;
  }
  return raw.size();
}

Result<> JsonTokenizer::EncodeRaw(std::string_view raw, size_t offset, TextStart start,
                                  Work& work) const {
  for (size_t at = 0; at < raw.size();) {
    const size_t next = std::max(work.last_cut + kSliceBytes, offset + at + 1) - offset;
    const size_t end = NextCut(raw, next);
    auto done = EncodeSlice(raw.substr(at, end - at), offset + at, start, work);
    if (!done) return done;
    if (end < raw.size()) work.AddCut(offset + end, offset + end + 1, true);
    at = end;
    start = TextStart::kContinuation;
  }
  return {};
}

Result<> JsonTokenizer::EncodeSlice(std::string_view slice, size_t offset, TextStart start,
                                    Work& work) const {
  const auto normalized = normalizer_.Apply(slice, start, &work.scratch);
  if (!normalized) return std::unexpected(normalized.error());
  if (normalized_tokens_.empty()) return EncodeText(*normalized, start, work.tokens);
  Result<> done;
  normalized_tokens_.Split(*normalized, [&](const AddedTokens::Part& part) {
    if (!done) return;
    if (part.token != nullptr) {
      work.tokens->push_back(part.token->id);
      const auto index = static_cast<size_t>(part.token - normalized_tokens_.tokens().data());
      if (normalized_cuts_[index]) work.AddCut(offset + part.end, offset + part.end, false);
      return;
    }
    done = EncodeText(normalized->substr(part.begin, part.end - part.begin),
                      part.begin == 0 ? start : TextStart::kAfterToken, work.tokens);
  });
  return done;
}

Result<> JsonTokenizer::EncodeText(std::string_view text, TextStart start,
                                   std::vector<uint32_t>* tokens) const {
  if (is_char_model_) {
    return pre_tokenizer_.Split(text, start,
                                [&](std::string_view piece) { EncodeCharPiece(piece, tokens); });
  }
  return pre_tokenizer_.Split(text, start,
                              [&](std::string_view piece) { bpe_->Encode(piece, tokens); });
}

// Models over characters have long pieces, whole texts even: they are cut before a word where no
// merge can reach across, so that each word is encoded once.
void JsonTokenizer::EncodeCharPiece(std::string_view piece, std::vector<uint32_t>* tokens) const {
  size_t begin = 0;
  for (size_t at = 1; (at = piece.find(kMetaspace, at)) != std::string_view::npos;
       at += kMetaspace.size()) {
    if (!bpe_->NeverJoins(CharAt(piece, CharBefore(piece, at)).code, kMetaspaceCode)) continue;
    bpe_->Encode(piece.substr(begin, at - begin), tokens);
    begin = at;
  }
  bpe_->Encode(piece.substr(begin), tokens);
}

std::string JsonTokenizer::TokenBytes(uint32_t id) const {
  if (const auto added = added_texts_.find(id); added != added_texts_.end()) return added->second;
  const std::string_view bytes = bpe_->Bytes(id);
  if (!is_char_model_) return std::string(bytes);
  if (const auto byte = bpe_->FallbackByte(id)) return std::string(1, static_cast<char>(*byte));
  std::string out;
  for (size_t at = 0; at < bytes.size();) {
    const Char c = CharAt(bytes, at);
    if (c.code == space_) {
      out += ' ';
    } else {
      out.append(bytes.substr(at, c.size));
    }
    at += c.size;
  }
  return out;
}

size_t JsonTokenizer::vocabulary_size() const {
  size_t size = bpe_->vocabulary_size();
  for (const auto& [id, text] : added_texts_) size += bpe_->Has(id) ? 0 : 1;
  return size;
}

}  // namespace penstock::tokens
