// Reads the answer to a chat completion, streamed or whole: its text, the token counts and what
// went wrong.
//
// THREADS: belongs to one answer. COST: one JSON parse per event, without allocation for token
// events; keeps the text, 1 MiB at most.
// SOURCE: OpenAI API reference, chat completions; vLLM's reasoning fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "traffic/sse.h"

namespace penstock::traffic {

struct AnswerUsage {
  bool is_known = false;
  bool cached_known = false;
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;
  uint64_t output_tokens = 0;
};

class AnswerReader {
 public:
  static constexpr size_t kMaxBytes = 1 << 20;
  enum class Format : uint8_t { kStream, kWhole };

  explicit AnswerReader(Format format);
  AnswerReader(const AnswerReader&) = delete;
  AnswerReader& operator=(const AnswerReader&) = delete;

  void Feed(std::string_view piece);
  // At the end of the body.
  void Finish();

  const std::string& text() const { return text_; }
  const AnswerUsage& usage() const { return usage_; }
  // Something that the model wrote, reasoning included, has come.
  bool has_output() const { return has_output_; }
  // What is wrong with the answer, or "": no JSON, an error event, too long, not ended.
  const std::string& problem() const { return problem_; }

 private:
  void OnEvent(std::string_view data);
  // One chunk, or the whole answer.
  void OnObject(std::string_view json);
  void Complain(std::string_view problem);

  const Format format_;
  SseReader events_;
  std::string body_;  // kWhole
  std::string text_;
  std::string problem_;
  AnswerUsage usage_;
  bool has_output_ = false;
  bool is_done_ = false;
};

// The "message" of an error body in OpenAI's shape, or the body's begin, at most 300 bytes.
std::string ErrorText(std::string_view body);

}  // namespace penstock::traffic
