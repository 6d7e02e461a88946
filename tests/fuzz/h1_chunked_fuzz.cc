// Any bytes as a chunked body: the outcome does not depend on how they are cut, data lies within
// the input; a second reading of the grammar comes to the same end; and any bytes sent as chunks
// come out again.
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "wire/h1_chunked.h"

namespace {

using penstock::wire::ChunkDecoder;

void Check(bool holds) {
  if (!holds) std::abort();
}

struct Outcome {
  std::string body;
  size_t used = 0;
  ChunkDecoder::State state = ChunkDecoder::State::kMore;
  std::string code;
  bool operator==(const Outcome&) const = default;
};

Outcome Decode(std::string_view text, size_t piece) {
  ChunkDecoder decoder;
  Outcome outcome;
  for (size_t at = 0; at < text.size() && outcome.state == ChunkDecoder::State::kMore;
       at += piece) {
    // A copy of its own, so that a read behind it is noticed.
    const std::string bytes(text.substr(at, piece));
    std::string_view input = bytes;
    while (true) {
      const ChunkDecoder::Step step = decoder.Next(&input);
      outcome.state = step.state;
      if (step.state != ChunkDecoder::State::kData) break;
      Check(!step.data.empty() && step.data.data() >= bytes.data());
      Check(step.data.data() + step.data.size() <= bytes.data() + bytes.size());
      outcome.body += step.data;
    }
    outcome.used += bytes.size() - input.size();
    Check(outcome.state != ChunkDecoder::State::kMore || input.empty());
  }
  if (outcome.state == ChunkDecoder::State::kError) {
    outcome.code = decoder.error().code;
    Check(decoder.error().status == 400 || decoder.error().status == 431);
    Check(!outcome.code.empty() && !decoder.error().message.empty());
  }
  return outcome;
}

// The grammar of RFC 9112 section 7.1 once more, over the whole text: the body and the bytes used,
// or nothing when the body is not complete or not well-formed.
class Reference {
 public:
  explicit Reference(std::string_view text) : text_(text) {}

  bool Read() {
    while (true) {
      size_t size = 0;
      if (!ReadSize(&size) || !(Peek() == ';' ? SkipLine() : Take("\r\n"))) return false;
      if (size == 0) break;
      if (size > text_.size() - at_) return false;
      body.append(text_.substr(at_, size));
      at_ += size;
      if (!Take("\r\n")) return false;
    }
    while (!Take("\r\n")) {
      const size_t name = at_;
      while (penstock::wire::IsTokenChar(Peek())) ++at_;
      if (at_ == name || Peek() != ':' || !SkipLine()) return false;
    }
    return true;
  }
  size_t used() const { return at_; }
  std::string body;

 private:
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  bool ReadSize(size_t* size) {
    const size_t first = at_;
    while (at_ < text_.size() && std::isxdigit(static_cast<unsigned char>(text_[at_]))) ++at_;
    std::string digits(text_.substr(first, at_ - first));
    if (digits.empty()) return false;
    digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
    if (digits.size() > 15) return false;
    *size = digits.empty() ? 0 : std::stoull(digits, nullptr, 16);
    return true;
  }
  bool SkipLine() {
    const size_t end = text_.find('\r', at_);
    if (end == std::string_view::npos) return false;
    const bool is_text = penstock::wire::IsHeaderValue(text_.substr(at_, end - at_));
    at_ = end;
    return is_text && Take("\r\n");
  }

  std::string_view text_;
  size_t at_ = 0;
};

void CheckAgainstReference(std::string_view text, const Outcome& outcome) {
  if (text.size() > ChunkDecoder::kMaxExtensionBytes) return;  // may be above a limit
  Reference reference(text);
  const bool is_complete = reference.Read();
  Check(is_complete == (outcome.state == ChunkDecoder::State::kEnd));
  if (is_complete) Check(reference.body == outcome.body && reference.used() == outcome.used);
}

std::string Encode(std::string_view body, size_t piece) {
  std::string text;
  char size[32];
  for (size_t at = 0; at < body.size(); at += piece) {
    const std::string_view chunk = body.substr(at, piece);
    std::snprintf(size, sizeof(size), at % 2 ? "%zX;x=%zu\r\n" : "%zx\r\n", chunk.size(), at % 7);
    text.append(size).append(chunk).append("\r\n");
  }
  return text + "0\r\nSum: 1\r\n\r\n";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t piece = 1 + data[0] % 64;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const Outcome whole = Decode(text, text.size());
  Check(whole == Decode(text, piece));
  Check(whole == Decode(text, 1));
  CheckAgainstReference(text, whole);
  Check(whole.body.size() <= whole.used && whole.used <= text.size());

  const Outcome again = Decode(Encode(text, piece + text.size() / 256), piece);
  Check(again.state == ChunkDecoder::State::kEnd && again.body == text);
  return 0;
}
