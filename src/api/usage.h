// Watches a response go by, in whatever pieces it comes, and finds the token usage and the number
// of stream events. It is never parsed as a whole and never kept: how it is cut into pieces does
// not change what is found. Garbage gives no usage, at worst a wrong one.
//
// Known are OpenAI's usage (chat, completions, responses, embeddings), Anthropic's (message_start
// and message_delta), SGLang's meta_info, and the gRPC answers of vLLM and Vertex AI. Only keys
// count, never what a model wrote into a string. Several usage objects are merged field by field,
// the last one wins.
//
// THREADS: belongs to one response.
// COST: per piece of token events two substring searches, about 0.1 us; an event that holds a usage
// or error object is scanned once. Carries over at most 64 KiB.
// SOURCE: OpenAI API reference, Anthropic Messages API; spec endpoint-picker 4.4.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/grpc_usage.h"
#include "api/parsers.h"
#include "api/usage_finder.h"

namespace penstock::api {

class UsageScanner {
 public:
  enum class Format : uint8_t {
    kJson,
    kEventStream,
    kVllmGenerate,  // gRPC
    kVllmEmbed,     // gRPC
    kVertex,        // gRPC; what it holds may be JSON texts or an event stream
  };
  explicit UsageScanner(Format format);
  void Feed(std::string_view piece);
  void Finish();  // at the end of the body
  const Usage& usage() const { return is_vllm() ? grpc_->usage() : finder_.usage(); }
  // "data:" events other than [DONE] seen so far (event streams); else messages (gRPC).
  uint64_t events() const { return events_; }
  // True once an error object was seen as a stream event.
  bool saw_error_event() const { return format_ != Format::kJson && finder_.saw_error(); }

 private:
  enum class Text : uint8_t { kUnknown, kJson, kEvents };  // what a kVertex answer holds

  bool is_vllm() const { return format_ == Format::kVllmGenerate || format_ == Format::kVllmEmbed; }
  void FeedGrpc(std::string_view piece);
  void FeedEvents(std::string_view piece);
  void FeedEnd(std::string_view rest);
  void Line(std::string_view line);

  Format format_;
  bool in_long_line_ = false;  // too long to carry: what it holds goes straight to the finder
  bool is_long_event_ = false;
  uint64_t events_ = 0;
  UsageFinder finder_;
  std::string carry_;  // the begin of a line
  std::unique_ptr<GrpcUsageFinder> grpc_;
  Text text_ = Text::kUnknown;
  uint64_t text_message_ = 0;  // the message whose JSON text is being read
};

// How to look at an answer; not at all when there is nothing to find.
std::optional<UsageScanner::Format> UsageFormat(const Route& route, std::string_view content_type);

}  // namespace penstock::api
