// Follows the messages of a gRPC answer byte by byte, in whatever pieces they come, and notes the
// token counts it comes by. Needs no memory for what it passes; what is malformed or compressed is
// passed to the end of its message.
//
// THREADS: belongs to its caller. COST: a loop over the bytes of tags and numbers; texts, tokens
// and log probabilities are skipped. SOURCE: grpc doc/PROTOCOL-HTTP2.md, vllm_engine.proto,
// google/api/httpbody.proto; spec endpoint-picker 4.4.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "api/usage_finder.h"

namespace penstock::api {

class GrpcUsageFinder {
 public:
  enum class Answer : uint8_t {
    kGenerate,  // vLLM's GenerateResponse: counts in chunk and complete
    kEmbed,     // vLLM's EmbedResponse
    kHttpBody,  // the counts are in the text it holds
  };
  explicit GrpcUsageFinder(Answer answer) : answer_(answer) {}

  // Takes the next bytes from `piece`. True with the next piece of the text of an HttpBody; false
  // when all is taken.
  bool Take(std::string_view* piece, std::string_view* text);

  // A count of zero is not on the wire, so a message changes only what it counts.
  const Usage& usage() const { return usage_; }
  uint64_t messages() const { return messages_; }  // begun so far

 private:
  static constexpr size_t kPrefixBytes = 5;
  enum class State : uint8_t { kTag, kNumber, kLength, kSkip, kText };
  enum class Inner : uint8_t { kNone, kChunk, kComplete };
  enum class Count : uint8_t { kNone, kInput, kOutput, kCached };

  void BeginMessage();
  void TakeByte(uint8_t byte);
  void EndVarint();
  void EndTag();
  void EndLength();
  void Skip(uint64_t bytes);
  void PassMessage();
  void Settle();
  void Note(uint64_t value);
  Count CountOf(uint32_t number) const;
  uint64_t end() const { return inner_ == Inner::kNone ? message_end_ : inner_end_; }

  const Answer answer_;
  Usage usage_;
  uint64_t messages_ = 0;

  uint8_t prefix_size_ = 0;  // of the next message, as far as it has come
  std::array<uint8_t, kPrefixBytes> prefix_ = {};
  uint64_t at_ = 0;  // in the message
  uint64_t message_end_ = 0;
  Inner inner_ = Inner::kNone;
  uint64_t inner_end_ = 0;
  State state_ = State::kTag;
  uint64_t skip_ = 0;  // bytes of what is passed or handed out
  uint64_t varint_ = 0;
  uint8_t shift_ = 0;
  uint32_t number_ = 0;  // of the field
};

}  // namespace penstock::api
