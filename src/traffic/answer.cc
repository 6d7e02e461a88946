#include "traffic/answer.h"

#include <boost/json.hpp>

#include "core/text.h"

namespace penstock::traffic {
namespace {

namespace json = boost::json;

constexpr size_t kScratchBytes = 16 * 1024;
constexpr size_t kMaxErrorBytes = 300;

const json::object* ObjectAt(const json::object& parent, std::string_view key) {
  const json::value* value = parent.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

std::string_view TextAt(const json::object& parent, std::string_view key) {
  const json::value* value = parent.if_contains(key);
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view() : std::string_view(text->data(), text->size());
}

bool ReadCount(const json::object& parent, std::string_view key, uint64_t* count) {
  const json::value* value = parent.if_contains(key);
  if (value == nullptr || !value->is_number()) return false;
  std::error_code bad;
  const auto number = value->to_number<uint64_t>(bad);
  if (bad) return false;
  *count = number;
  return true;
}

void ReadUsage(const json::object& usage, AnswerUsage* out) {
  out->is_known = ReadCount(usage, "prompt_tokens", &out->prompt_tokens);
  ReadCount(usage, "completion_tokens", &out->output_tokens);
  if (const json::object* details = ObjectAt(usage, "prompt_tokens_details")) {
    out->cached_known = ReadCount(*details, "cached_tokens", &out->cached_tokens);
  }
}

// The first choice's "delta" or "message".
const json::object* FirstMessage(const json::object& chunk) {
  const json::value* choices = chunk.if_contains("choices");
  const json::array* list = choices == nullptr ? nullptr : choices->if_array();
  if (list == nullptr || list->empty()) return nullptr;
  const json::object* choice = list->front().if_object();
  if (choice == nullptr) return nullptr;
  const json::object* delta = ObjectAt(*choice, "delta");
  return delta != nullptr ? delta : ObjectAt(*choice, "message");
}

}  // namespace

AnswerReader::AnswerReader(Format format)
    : format_(format), events_([this](std::string_view data) { OnEvent(data); }) {}

void AnswerReader::Feed(std::string_view piece) {
  if (!problem_.empty()) return;
  if (format_ == Format::kStream) {
    events_.Feed(piece);
    if (events_.is_broken()) Complain("an event is larger than 1 MiB");
    return;
  }
  if (body_.size() + piece.size() > kMaxBytes) return Complain("the answer is longer than 1 MiB");
  body_ += piece;
}

void AnswerReader::Finish() {
  if (!problem_.empty()) return;
  if (format_ == Format::kWhole) {
    OnObject(body_);
  } else if (!is_done_) {
    Complain("the stream ended without [DONE]");
  }
}

void AnswerReader::OnEvent(std::string_view data) {
  if (!problem_.empty() || is_done_) return;
  if (data == "[DONE]") {
    is_done_ = true;
    return;
  }
  OnObject(data);
}

void AnswerReader::OnObject(std::string_view text) {
  unsigned char scratch[kScratchBytes];
  json::monotonic_resource memory(scratch, sizeof(scratch));
  json::error_code bad;
  const json::value value = json::parse(text, bad, &memory);
  const json::object* chunk = bad ? nullptr : value.if_object();
  if (chunk == nullptr) return Complain("not a JSON object");
  if (const json::value* error = chunk->if_contains("error"); error && !error->is_null()) {
    return Complain(ErrorText(text));
  }
  if (const json::object* usage = ObjectAt(*chunk, "usage")) ReadUsage(*usage, &usage_);
  const json::object* message = FirstMessage(*chunk);
  if (message == nullptr) return;
  const std::string_view content = TextAt(*message, "content");
  // vLLM streams a model's reasoning under either name.
  has_output_ |= !content.empty() || !TextAt(*message, "reasoning_content").empty() ||
                 !TextAt(*message, "reasoning").empty();
  if (text_.size() + content.size() > kMaxBytes) return Complain("the answer is longer than 1 MiB");
  text_ += content;
}

void AnswerReader::Complain(std::string_view problem) {
  if (problem_.empty()) problem_ = problem.empty() ? "an error without words" : problem;
}

std::string ErrorText(std::string_view body) {
  json::error_code bad;
  const json::value value = json::parse(body, bad);
  if (!bad && value.is_object()) {
    if (const json::object* error = ObjectAt(value.get_object(), "error")) {
      const std::string_view message = TextAt(*error, "message");
      if (!message.empty()) return std::string(Utf8Prefix(message, kMaxErrorBytes));
    }
  }
  return std::string(Utf8Prefix(TrimSpace(body), kMaxErrorBytes));
}

}  // namespace penstock::traffic
