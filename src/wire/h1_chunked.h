// Takes chunked framing off a body, whatever way its bytes are cut. Extensions and trailers are
// read over, within limits.
//
//   for (ChunkDecoder::Step s; (s = decoder.Next(&input)).state == kData;) Use(s.data);
//
// THREADS: a plain value. OWNS: nothing; data points into the input. COST: no copy, no allocation.
// SOURCE: RFC 9112 section 7.1.
#pragma once

#include <cstdint>
#include <string_view>

#include "wire/h1.h"

namespace penstock::wire {

class ChunkDecoder {
 public:
  // Of one body: what extensions and trailers may take together, since a body of one-byte chunks
  // with long extensions is all cost and no content.
  static constexpr size_t kMaxExtensionBytes = 16 * 1024;
  static constexpr size_t kMaxTrailerBytes = 16 * 1024;

  enum class State : uint8_t {
    kData,   // `data` is the next piece; call again
    kMore,   // the input is used up
    kEnd,    // the body is complete; what is left of the input belongs to the next message
    kError,  // error() says why; final
  };
  struct Step {
    State state;
    std::string_view data;
  };

  // Moves `input` past what it has taken.
  Step Next(std::string_view* input);
  void Reset() { *this = ChunkDecoder(); }
  const H1Error& error() const { return error_; }

 private:
  enum class At : uint8_t {
    kSizeFirst,     // the first digit of a size
    kSize,          // more digits
    kExtension,     // behind ';', up to CR
    kSizeFeed,      // LF behind the size line
    kData,          // remaining_ bytes
    kDataReturn,    // CR behind the data
    kDataFeed,      // LF behind that
    kTrailerFirst,  // the first character of a trailer line, or CR of the last line
    kTrailerName,   // up to the colon
    kTrailerValue,  // up to CR
    kTrailerFeed,   // LF behind a trailer
    kLastFeed,      // the last LF
    kEnd,
    kError,
  };
  // Takes one character of framing; the next place.
  At Take(char c);
  At TakeSize(char c);
  At TakeTrailer(char c);
  At Refuse(std::string_view code, std::string_view message);

  At at_ = At::kSizeFirst;
  uint64_t remaining_ = 0;
  size_t extension_bytes_ = 0;
  size_t trailer_bytes_ = 0;
  H1Error error_;
};

}  // namespace penstock::wire
