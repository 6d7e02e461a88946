#include "api/usage.h"

#include <algorithm>
#include <cstring>

#include "core/text.h"

namespace penstock::api {
namespace {

constexpr size_t kMaxCarryBytes = 64 << 10;
constexpr std::string_view kData = "data:";

bool Contains(std::string_view text, std::string_view word) {
  return memmem(text.data(), text.size(), word.data(), word.size()) != nullptr;
}

// Every count that the finder knows has a name that ends so. An underscore is rare in an event, and
// find() looks for the first letter with memchr: 100 instructions a chunk instead of memmem's 450.
bool MayMatter(std::string_view json) {
  return json.find("_tokens\"") != std::string_view::npos || Contains(json, "\"error\"");
}

}  // namespace

std::optional<UsageScanner::Format> UsageFormat(const Route& route, std::string_view content_type) {
  using Format = UsageScanner::Format;
  if (!route.reads_answer) return std::nullopt;
  if (route.framing == Framing::kVertex) return Format::kVertex;
  if (route.framing == Framing::kVllm) {
    return route.api == model::Api::kVllmEmbed ? Format::kVllmEmbed : Format::kVllmGenerate;
  }
  if (route.api == model::Api::kOther) return std::nullopt;
  return content_type.starts_with("text/event-stream") ? Format::kEventStream : Format::kJson;
}

UsageScanner::UsageScanner(Format format) : format_(format) {
  using Answer = GrpcUsageFinder::Answer;
  if (format == Format::kJson || format == Format::kEventStream) return;
  grpc_ = std::make_unique<GrpcUsageFinder>(format == Format::kVllmGenerate ? Answer::kGenerate
                                            : format == Format::kVllmEmbed  ? Answer::kEmbed
                                                                            : Answer::kHttpBody);
}

void UsageScanner::Feed(std::string_view piece) {
  if (format_ == Format::kJson) return finder_.Feed(piece);
  if (format_ == Format::kEventStream) return FeedEvents(piece);
  FeedGrpc(piece);
}

void UsageScanner::FeedGrpc(std::string_view piece) {
  for (std::string_view text; grpc_->Take(&piece, &text);) {
    if (text_ == Text::kUnknown) {
      text_ = text.front() == '{' ? Text::kJson : Text::kEvents;
      events_ = 0;
    }
    if (text_ == Text::kEvents) {
      FeedEvents(text);
      continue;
    }
    if (text_message_ != grpc_->messages()) finder_.NextText();
    text_message_ = grpc_->messages();
    finder_.Feed(text);
  }
  if (text_ != Text::kEvents) events_ = grpc_->messages();
}

void UsageScanner::FeedEvents(std::string_view piece) {
  while (!piece.empty()) {
    const size_t end = piece.find('\n');
    if (end == std::string_view::npos) return FeedEnd(piece);
    const std::string_view line = piece.substr(0, end);
    piece.remove_prefix(end + 1);
    if (in_long_line_) {
      if (is_long_event_) finder_.Feed(line);
      in_long_line_ = false;
    } else if (carry_.empty()) {
      Line(line);
    } else {
      FeedEnd(line);
      if (!in_long_line_) Line(carry_);
      in_long_line_ = false;
      carry_.clear();
    }
  }
}

// A line goes on, and its end is not yet known.
void UsageScanner::FeedEnd(std::string_view rest) {
  if (!in_long_line_ && carry_.size() + rest.size() <= kMaxCarryBytes) {
    carry_ += rest;
    return;
  }
  if (!in_long_line_) {
    in_long_line_ = true;
    // The first bytes, which tell an event, are in the carry unless it is empty.
    if (carry_.size() < kData.size()) {
      const size_t missing = std::min(kData.size() - carry_.size(), rest.size());
      carry_ += rest.substr(0, missing);
      rest.remove_prefix(missing);
    }
    is_long_event_ = carry_.starts_with(kData);
    if (is_long_event_) {
      ++events_;
      finder_.NextText();
      finder_.Feed(std::string_view(carry_).substr(kData.size()));
    }
    carry_ = {};
  }
  if (is_long_event_) finder_.Feed(rest);
}

void UsageScanner::Finish() {
  if (in_long_line_) return;
  if (!carry_.empty()) Line(carry_);
  carry_.clear();
}

void UsageScanner::Line(std::string_view line) {
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  if (TrimSpace(line) == "[DONE]") return;
  ++events_;
  if (!MayMatter(line)) return;
  finder_.NextText();
  finder_.Feed(line);
}

}  // namespace penstock::api
