#include "tokens/sentencepiece_tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <utility>

#include "tokens/unicode.h"

namespace penstock::tokens {

struct SentencePieceTokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceTokenizer::SentencePieceTokenizer(std::unique_ptr<Model> model)
    : model_(std::move(model)) {
  const auto& processor = model_->processor;
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (!processor.IsControl(id)) continue;
    controls_.Add(
        processor.IdToPiece(id),
        {.id = static_cast<uint32_t>(id), .text = processor.IdToPiece(id), .is_special = true});
  }
  cuts_behind_ = EndsAlone(controls_, {&controls_});
  if (processor.bos_id() >= 0) prefix_.push_back(static_cast<uint32_t>(processor.bos_id()));
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

Result<std::unique_ptr<Tokenizer>> SentencePieceTokenizer::Make(std::string_view bytes) {
  auto model = std::make_unique<Model>();
  const auto status = model->processor.LoadFromSerializedProto({bytes.data(), bytes.size()});
  if (!status.ok()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("is no SentencePiece model: {}", status.ToString()));
  }
  return std::unique_ptr<Tokenizer>(new SentencePieceTokenizer(std::move(model)));
}

Result<> SentencePieceTokenizer::EncodeFrom(std::string_view text, size_t from, bool,
                                            std::vector<uint32_t>* tokens,
                                            std::vector<Cut>* cuts) const {
  const std::string_view rest = text.substr(from);
  Result<> done;
  std::vector<int> ids;
  controls_.Split(rest, [&](const AddedTokens::Part& part) {
    if (part.token != nullptr) {
      tokens->push_back(part.token->id);
      if (cuts != nullptr &&
          cuts_behind_[static_cast<size_t>(part.token - controls_.tokens().data())]) {
        cuts->push_back({from + part.end, from + part.end, tokens->size(), false});
      }
      return;
    }
    const auto status =
        model_->processor.Encode({rest.data() + part.begin, part.end - part.begin}, &ids);
    if (!status.ok()) done = Fail(Code::kInternal, "SentencePiece: " + status.ToString());
    tokens->insert(tokens->end(), ids.begin(), ids.end());
  });
  return done;
}

std::string SentencePieceTokenizer::TokenBytes(uint32_t id) const {
  const auto& processor = model_->processor;
  if (id >= static_cast<uint32_t>(processor.GetPieceSize())) return {};
  const std::string& piece = processor.IdToPiece(static_cast<int>(id));
  if (processor.IsByte(static_cast<int>(id))) {
    return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
  }
  std::string out;
  for (size_t at = 0; at < piece.size();) {
    const Char c = CharAt(piece, at);
    if (c.code == 0x2581) {
      out += ' ';
    } else {
      out.append(piece, at, c.size);
    }
    at += c.size;
  }
  return out;
}

size_t SentencePieceTokenizer::vocabulary_size() const {
  return static_cast<size_t>(model_->processor.GetPieceSize());
}

}  // namespace penstock::tokens
