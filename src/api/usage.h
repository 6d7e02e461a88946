// Watches a response go by, in whatever pieces it comes, and finds the token usage and the number
// of stream events without parsing it as a whole.
//
// THREADS: belongs to one response. COST: one memchr-like pass; carries over at most 64 KiB (a
// longer event is passed by unread and counted as such).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::api {

struct Usage {
  bool found = false;
  uint64_t input_tokens = 0;
  uint64_t output_tokens = 0;
  bool cached_known = false;
  uint64_t cached_tokens = 0;
};

class UsageScanner {
 public:
  enum class Format : uint8_t { kJson, kEventStream };
  // The format comes from the response's Content-Type.
  explicit UsageScanner(Format format) : format_(format) {}
  void Feed(std::string_view piece);
  void Finish();  // at the end of the body
  const Usage& usage() const { return usage_; }
  // "data:" events other than [DONE] seen so far (event streams).
  uint64_t events() const { return events_; }
  // True once an error object was seen as a stream event.
  bool saw_error_event() const { return saw_error_; }

 private:
  void Line(std::string_view line);
  void Object(std::string_view json);
  Format format_;
  Usage usage_;
  uint64_t events_ = 0;
  bool saw_error_ = false;
  bool skipping_ = false;
  std::string carry_;
};

}  // namespace penstock::api
