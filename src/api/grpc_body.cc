#include "api/grpc_body.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "wire/protobuf.h"

namespace penstock::api {
namespace {

using wire::ProtoField;
using wire::ProtoReader;
using wire::ProtoType;

constexpr size_t kPrefixBytes = 5;  // compressed or not, and four bytes of length
constexpr size_t kMaxCuts = 16;

std::unexpected<ApiError> Refuse(std::string_view code, std::string message,
                                 std::string_view param = {}) {
  return std::unexpected(ApiError{.code = code, .message = std::move(message), .param = param});
}

std::unexpected<ApiError> Malformed(std::string_view what, const ProtoReader& reader) {
  return Refuse("invalid_protobuf",
                std::string(what) + " is not a valid protobuf message: " + reader.Complaint());
}

uint32_t LengthOf(std::string_view prefix) {
  uint32_t length = 0;
  for (size_t i = 1; i < kPrefixBytes; ++i) {
    length = length << 8 | static_cast<unsigned char>(prefix[i]);
  }
  return length;
}

class VllmReader {
 public:
  VllmReader(PromptReader* prompt, MediaMarks* marks) : prompt_(prompt), marks_(marks) {}

  std::expected<VllmRequest, ApiError> Read(model::Api api, std::string_view message) {
    ProtoReader reader(message);
    for (ProtoField field; !error_ && reader.Next(&field);) {
      if (field.Is(2, ProtoType::kBytes)) {
        ReadTokens(field.bytes);
      } else if (api != model::Api::kVllmEmbed) {
        ReadGenerateField(field);
      }
    }
    if (error_) return std::unexpected(std::move(*error_));
    if (!reader.ok()) return Malformed("the request", reader);
    if (input_ == Input::kTokens) prompt_->EndTokenIds();
    return std::move(request_);
  }

 private:
  enum class Input : uint8_t { kNone, kText, kTokens };

  void ReadGenerateField(const ProtoField& field) {
    if (field.Is(3, ProtoType::kBytes)) {
      input_ = Input::kText;  // of text and tokens, the last one counts
      prompt_->Open("text", 0);
      prompt_->AddText(field.bytes);
    } else if (field.Is(4, ProtoType::kBytes)) {
      ReadSampling(field.bytes);
    } else if (field.Is(5, ProtoType::kVarint)) {
      request_.stream = field.value != 0;
    } else if (field.Is(7, ProtoType::kBytes)) {
      ReadMedia(field.bytes);
    } else if (field.number == 6 || field.number == 8) {  // kv_transfer_params, and as JSON
      Cut(field);
    }
  }

  // A message that comes in several pieces is all of them, one behind the other.
  void ReadTokens(std::string_view tokenized) {
    if (input_ != Input::kTokens) prompt_->Open("tokenized", 0);
    input_ = Input::kTokens;
    ProtoReader reader(tokenized);
    for (ProtoField field; reader.Next(&field);) {
      if (field.Is(2, ProtoType::kVarint)) {
        prompt_->AddTokenId(static_cast<uint32_t>(field.value));
      } else if (field.Is(2, ProtoType::kBytes)) {
        ProtoReader packed(field.bytes);
        for (uint64_t id = 0; packed.NextPacked(&id);) {
          prompt_->AddTokenId(static_cast<uint32_t>(id));
        }
        Check("tokenized.input_ids", packed);
      }
    }
    Check("tokenized", reader);
  }

  void ReadSampling(std::string_view sampling) {
    ProtoReader reader(sampling);
    for (ProtoField field; reader.Next(&field);) {
      if (field.Is(8, ProtoType::kVarint)) {
        request_.max_tokens = static_cast<uint32_t>(field.value);
      }
    }
    Check("sampling_params", reader);
  }

  void ReadMedia(std::string_view media) {
    ProtoReader reader(media);
    for (ProtoField field; reader.Next(&field);) {
      if (field.Is(6, ProtoType::kBytes)) {
        marks_->AddHash("", field.bytes);
      } else if (field.Is(5, ProtoType::kBytes)) {
        uint32_t offset = 0, length = 0;
        ProtoReader place(field.bytes);
        for (ProtoField part; place.Next(&part);) {
          if (part.Is(1, ProtoType::kVarint)) offset = static_cast<uint32_t>(part.value);
          if (part.Is(2, ProtoType::kVarint)) length = static_cast<uint32_t>(part.value);
        }
        Check("mm_inputs.mm_placeholders", place);
        marks_->AddPlace("", offset, length);
      }
    }
    Check("mm_inputs", reader);
  }

  void Cut(const ProtoField& field) {
    if (++cuts_ > kMaxCuts) {
      error_ = ApiError{
          .code = "duplicate_field",
          .message = "kv_transfer_params: found more than " + std::to_string(kMaxCuts) + " times",
          .param = "kv_transfer_params"};
      return;
    }
    const size_t begin = kPrefixBytes + field.begin;
    const size_t end = kPrefixBytes + field.end;
    if (!request_.cuts.empty() && request_.cuts.back().end == begin) {
      request_.cuts.back().end = end;
    } else {
      request_.cuts.push_back({begin, end, {}});
    }
  }

  void Check(std::string_view what, const ProtoReader& reader) {
    if (!reader.ok() && !error_) error_ = Malformed(what, reader).error();
  }

  PromptReader* prompt_;
  MediaMarks* marks_;
  Input input_ = Input::kNone;
  size_t cuts_ = 0;
  VllmRequest request_;
  std::optional<ApiError> error_;
};

}  // namespace

std::expected<std::string_view, ApiError> UnframeGrpc(std::string_view body) {
  if (body.size() < kPrefixBytes) {
    return Refuse("invalid_grpc", "the body is no gRPC message: it has " +
                                      std::to_string(body.size()) + " bytes, its prefix alone 5");
  }
  if (body[0] != 0) {
    return Refuse("compressed", "the gRPC message is compressed; send it as it is");
  }
  const uint32_t length = LengthOf(body);
  body.remove_prefix(kPrefixBytes);
  if (length != body.size()) {
    return Refuse("invalid_grpc", "the body must be one gRPC message: its prefix tells of " +
                                      std::to_string(length) + " bytes, found " +
                                      std::to_string(body.size()));
  }
  return body;
}

std::expected<VllmRequest, ApiError> ReadVllmRequest(model::Api api, std::string_view body,
                                                     PromptReader* prompt, MediaMarks* marks) {
  auto message = UnframeGrpc(body);
  if (!message) return std::unexpected(std::move(message.error()));
  return VllmReader(prompt, marks).Read(api, *message);
}

std::expected<HttpBodyPlace, ApiError> FindHttpBody(std::string_view body) {
  auto message = UnframeGrpc(body);
  if (!message) return std::unexpected(std::move(message.error()));
  HttpBodyPlace place;
  size_t bodies = 0, data = 0;
  ProtoReader outer(*message);
  for (ProtoField field; outer.Next(&field);) {
    if (!field.Is(2, ProtoType::kBytes)) continue;
    ++bodies;
    const auto at = static_cast<size_t>(field.bytes.data() - body.data());
    place.outer_begin = kPrefixBytes + field.length_begin;
    place.outer_end = at;
    place.outer_bytes = field.bytes.size();
    ProtoReader inner(field.bytes);
    for (ProtoField part; inner.Next(&part);) {
      if (!part.Is(2, ProtoType::kBytes)) continue;
      ++data;
      place.data = part.bytes;
      place.data_begin = static_cast<size_t>(part.bytes.data() - body.data());
      place.inner_begin = at + part.length_begin;
      place.inner_end = place.data_begin;
    }
    if (!inner.ok()) return Malformed("http_body", inner);
  }
  if (!outer.ok()) return Malformed("the request", outer);
  if (bodies > 1 || data > 1) {
    return Refuse("duplicate_field", "http_body: found more than one, or more than one data in it",
                  "http_body");
  }
  if (data == 0) {
    return Refuse("missing_field", "http_body.data: expected a JSON text, found nothing",
                  "http_body");
  }
  return place;
}

void FixLengths(std::string_view body, const HttpBodyPlace* place, std::vector<Splice>* splices) {
  if (splices->empty()) return;
  const auto change = [&] { return SplicedSize(body.size(), *splices) - body.size(); };
  const auto put_first = [&](size_t begin, size_t end, std::string text) {
    splices->insert(splices->begin(), {begin, end, std::move(text)});
  };
  if (place != nullptr) {  // from the inside out: a length may itself become shorter
    std::string text;
    wire::AppendVarint(place->data.size() + change(), &text);
    put_first(place->inner_begin, place->inner_end, std::move(text));
    text.clear();
    wire::AppendVarint(place->outer_bytes + change(), &text);
    put_first(place->outer_begin, place->outer_end, std::move(text));
  }
  const auto length = static_cast<uint32_t>(body.size() - kPrefixBytes + change());
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text.push_back(static_cast<char>(length >> shift));
  put_first(1, kPrefixBytes, std::move(text));
}

}  // namespace penstock::api
