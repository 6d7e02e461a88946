// Watches a response go by, in whatever pieces it comes, and finds the token usage and the number
// of stream events. It is never parsed as a whole and never kept: how it is cut into pieces does
// not change what is found. Garbage gives no usage, at worst a wrong one.
//
// Known are OpenAI's usage (chat, completions, responses, embeddings), Anthropic's (message_start
// and message_delta) and SGLang's meta_info. Only keys count, never what a model wrote into a
// string. Several usage objects are merged field by field, the last one wins.
//
// THREADS: belongs to one response.
// COST: per piece of token events two substring searches, about 0.1 us; an event that holds a usage
// or error object is scanned once. Carries over at most 64 KiB.
// SOURCE: OpenAI API reference, Anthropic Messages API; spec endpoint-picker 4.4.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "api/usage_finder.h"

namespace penstock::api {

class UsageScanner {
 public:
  enum class Format : uint8_t { kJson, kEventStream };
  // The format comes from the response's Content-Type.
  explicit UsageScanner(Format format) : format_(format) {}
  void Feed(std::string_view piece);
  void Finish();  // at the end of the body
  const Usage& usage() const { return finder_.usage(); }
  // "data:" events other than [DONE] seen so far (event streams).
  uint64_t events() const { return events_; }
  // True once an error object was seen as a stream event.
  bool saw_error_event() const { return format_ == Format::kEventStream && finder_.saw_error(); }

 private:
  void FeedEnd(std::string_view rest);
  void Line(std::string_view line);

  Format format_;
  bool in_long_line_ = false;  // too long to carry: what it holds goes straight to the finder
  bool is_long_event_ = false;
  uint64_t events_ = 0;
  UsageFinder finder_;
  std::string carry_;  // the begin of a line
};

}  // namespace penstock::api
