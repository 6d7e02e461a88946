#include "api/grpc_usage.h"

#include <algorithm>

namespace penstock::api {

bool GrpcUsageFinder::Take(std::string_view* piece, std::string_view* text) {
  while (!piece->empty()) {
    if (prefix_size_ < kPrefixBytes) {
      prefix_[prefix_size_++] = static_cast<uint8_t>(piece->front());
      piece->remove_prefix(1);
      if (prefix_size_ == kPrefixBytes) BeginMessage();
    } else if (state_ == State::kSkip || state_ == State::kText) {
      const size_t size = std::min<uint64_t>(skip_, piece->size());
      const bool is_text = state_ == State::kText;
      *text = piece->substr(0, size);
      piece->remove_prefix(size);
      at_ += size;
      skip_ -= size;
      if (skip_ == 0) state_ = State::kTag;
      Settle();
      if (is_text) return true;
    } else {
      TakeByte(static_cast<uint8_t>(piece->front()));
      piece->remove_prefix(1);
      Settle();
    }
  }
  return false;
}

void GrpcUsageFinder::BeginMessage() {
  ++messages_;
  at_ = 0;
  message_end_ = 0;
  for (size_t i = 1; i < kPrefixBytes; ++i) message_end_ = message_end_ << 8 | prefix_[i];
  inner_ = Inner::kNone;
  state_ = State::kTag;
  varint_ = 0;
  shift_ = 0;
  if (prefix_[0] != 0) PassMessage();
  Settle();
}

// Leaves what has come to its end.
void GrpcUsageFinder::Settle() {
  if (inner_ != Inner::kNone && at_ == inner_end_) {
    if (state_ != State::kTag || shift_ != 0) return PassMessage();  // cut off in a field
    inner_ = Inner::kNone;
  }
  if (at_ == message_end_) prefix_size_ = 0;
}

void GrpcUsageFinder::PassMessage() {
  inner_ = Inner::kNone;
  state_ = State::kSkip;
  skip_ = message_end_ - at_;
  if (skip_ == 0) prefix_size_ = 0;
}

void GrpcUsageFinder::TakeByte(uint8_t byte) {
  ++at_;
  if (shift_ < 64) varint_ |= uint64_t{byte & 0x7Fu} << shift_;
  shift_ += 7;
  if (byte < 0x80) {
    EndVarint();
  } else if (shift_ >= 70) {
    PassMessage();
  }
}

void GrpcUsageFinder::EndVarint() {
  shift_ = 0;
  switch (state_) {
    case State::kTag:
      EndTag();
      break;
    case State::kNumber:
      Note(varint_);
      state_ = State::kTag;
      break;
    case State::kLength:
      EndLength();
      break;
    case State::kSkip:
    case State::kText:
      break;
  }
  varint_ = 0;
}

void GrpcUsageFinder::EndTag() {
  number_ = static_cast<uint32_t>(std::min<uint64_t>(varint_ >> 3, UINT32_MAX));
  switch (varint_ & 7) {
    case 0:
      state_ = State::kNumber;
      return;
    case 1:
      return Skip(8);
    case 2:
      state_ = State::kLength;
      return;
    case 5:
      return Skip(4);
    default:
      return PassMessage();
  }
}

void GrpcUsageFinder::EndLength() {
  const uint64_t bytes = varint_;
  if (bytes > end() - at_) return PassMessage();
  const bool is_outer = inner_ == Inner::kNone;
  if (is_outer && answer_ == Answer::kGenerate && (number_ == 1 || number_ == 2)) {
    inner_ = number_ == 1 ? Inner::kChunk : Inner::kComplete;
    inner_end_ = at_ + bytes;
    state_ = State::kTag;
    return;
  }
  Skip(bytes);
  if (is_outer && answer_ == Answer::kHttpBody && number_ == 2 && bytes > 0) state_ = State::kText;
}

void GrpcUsageFinder::Skip(uint64_t bytes) {
  if (bytes > end() - at_) return PassMessage();
  state_ = bytes == 0 ? State::kTag : State::kSkip;
  skip_ = bytes;
}

GrpcUsageFinder::Count GrpcUsageFinder::CountOf(uint32_t number) const {
  if (answer_ == Answer::kEmbed) return number == 2 ? Count::kInput : Count::kNone;
  if (inner_ == Inner::kNone) return Count::kNone;
  const uint32_t first = inner_ == Inner::kChunk ? 2 : 3;
  if (number < first || number > first + 2) return Count::kNone;
  constexpr std::array kCounts = {Count::kInput, Count::kOutput, Count::kCached};
  return kCounts[number - first];
}

void GrpcUsageFinder::Note(uint64_t value) {
  const auto count = static_cast<uint32_t>(value);
  switch (CountOf(number_)) {
    case Count::kInput:
      usage_.input_tokens = count;
      break;
    case Count::kOutput:
      usage_.output_tokens = count;
      break;
    case Count::kCached:
      usage_.cached_tokens = count;
      break;
    case Count::kNone:
      return;
  }
  usage_.found = true;
  usage_.cached_known = answer_ == Answer::kGenerate;  // zero when it does not come
}

}  // namespace penstock::api
