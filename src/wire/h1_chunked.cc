#include "wire/h1_chunked.h"

#include <algorithm>

namespace penstock::wire {
namespace {

// One more digit behind a size below it does not overflow.
constexpr uint64_t kChunkBytesBound = uint64_t{1} << 60;

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsText(char c) { return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != '\x7f'); }

}  // namespace

ChunkDecoder::At ChunkDecoder::Refuse(std::string_view code, std::string_view message) {
  error_ = {400, code, message};
  return At::kError;
}

ChunkDecoder::At ChunkDecoder::TakeSize(char c) {
  const int digit = HexValue(c);
  if (digit >= 0) {
    if (at_ == At::kSizeFirst) remaining_ = 0;
    remaining_ = remaining_ * 16 + static_cast<uint64_t>(digit);
    if (remaining_ >= kChunkBytesBound)
      return Refuse("bad_chunk_size", "A chunk's size is beyond all bounds.");
    // Zeros before the size are framing without content, like extensions.
    if (remaining_ == 0 && ++extension_bytes_ > kMaxExtensionBytes)
      return Refuse("chunk_overhead", "The chunks have more framing than the limit.");
    return At::kSize;
  }
  if (at_ == At::kSize && c == '\r') return At::kSizeFeed;
  if (at_ == At::kSize && c == ';') return At::kExtension;
  return Refuse("bad_chunk_size", "A chunk's size is not a hexadecimal number.");
}

ChunkDecoder::At ChunkDecoder::TakeTrailer(char c) {
  if (++trailer_bytes_ > kMaxTrailerBytes) {
    error_ = {431, "trailers_too_large", "The trailers are larger than the limit."};
    return At::kError;
  }
  switch (at_) {
    case At::kTrailerFirst:
      if (c == '\r') return At::kLastFeed;
      return IsTokenChar(c) ? At::kTrailerName
                            : Refuse("bad_trailer", "A trailer's name is not a token.");
    case At::kTrailerName:
      if (c == ':') return At::kTrailerValue;
      return IsTokenChar(c) ? At::kTrailerName
                            : Refuse("bad_trailer", "A trailer's name is not a token.");
    default:
      if (c == '\r') return At::kTrailerFeed;
      return IsText(c) ? At::kTrailerValue
                       : Refuse("bad_trailer", "A trailer holds a control character.");
  }
}

ChunkDecoder::At ChunkDecoder::Take(char c) {
  switch (at_) {
    case At::kSizeFirst:
    case At::kSize:
      return TakeSize(c);
    case At::kExtension:
      if (c == '\r') return At::kSizeFeed;
      if (!IsText(c)) return Refuse("bad_chunk", "A chunk extension holds a control character.");
      if (++extension_bytes_ > kMaxExtensionBytes)
        return Refuse("chunk_overhead", "The chunks have more framing than the limit.");
      return At::kExtension;
    case At::kSizeFeed:
      if (c != '\n') return Refuse("bad_chunk", "A chunk's size line has no line feed.");
      return remaining_ == 0 ? At::kTrailerFirst : At::kData;
    case At::kDataReturn:
      return c == '\r' ? At::kDataFeed : Refuse("bad_chunk", "A chunk is longer than its size.");
    case At::kDataFeed:
      return c == '\n' ? At::kSizeFirst : Refuse("bad_chunk", "A chunk has no line feed.");
    case At::kTrailerFirst:
    case At::kTrailerName:
    case At::kTrailerValue:
      return TakeTrailer(c);
    case At::kTrailerFeed:
      return c == '\n' ? At::kTrailerFirst : Refuse("bad_trailer", "A trailer has no line feed.");
    case At::kLastFeed:
      return c == '\n' ? At::kEnd : Refuse("bad_trailer", "The last line has no line feed.");
    case At::kData:
    case At::kEnd:
    case At::kError:
      break;
  }
  return at_;
}

ChunkDecoder::Step ChunkDecoder::Next(std::string_view* input) {
  while (true) {
    if (at_ == At::kError) return {State::kError, {}};
    if (at_ == At::kEnd) return {State::kEnd, {}};
    if (input->empty()) return {State::kMore, {}};
    if (at_ == At::kData) {
      const size_t take = static_cast<size_t>(std::min<uint64_t>(remaining_, input->size()));
      const std::string_view data = input->substr(0, take);
      input->remove_prefix(take);
      remaining_ -= take;
      if (remaining_ == 0) at_ = At::kDataReturn;
      return {State::kData, data};
    }
    at_ = Take(input->front());
    input->remove_prefix(1);
  }
}

}  // namespace penstock::wire
