#include "api/prompt_reader.h"

// Compiles the hash into this file.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace penstock::api {
namespace {

using wire::JsonScanner;
using wire::JsonString;
using Kind = JsonScanner::Kind;

constexpr size_t kKeptScratchBytes = 64 << 10;
constexpr size_t kKeptParts = 4096;
constexpr size_t kIdsPerPart = 4096;
constexpr std::string_view kPromptsExpected =
    "a string, an array of strings, an array of token ids or an array of such arrays";
constexpr std::string_view kTokenIdsExpected = "an array of token ids or an array of such arrays";
constexpr size_t kMaxShownBytes = 40;  // of a wrong value, in an error

// llm-d's defaults: a picture of 640x360 at 1,024 pixels a token; ten seconds of video at two
// frames a second. Sound is ten seconds at 25 tokens a second, as the Whisper-like encoders give.
constexpr uint64_t kImageTokens = 640 * 360 / 1024;
constexpr uint64_t kVideoTokens = 10 * 2 * kImageTokens;
constexpr uint64_t kAudioTokens = 10 * 25;

static_assert(std::endian::native == std::endian::little, "token ids are packed little-endian");

}  // namespace

std::string Found(JsonScanner& json) {
  switch (json.Peek()) {
    case Kind::kObject:
      return "an object";
    case Kind::kArray:
      return "an array";
    case Kind::kString:
      return "a string";
    case Kind::kNumber: {
      std::string_view number;
      json.ReadNumber(&number);
      return "the number " + std::string(number.substr(0, kMaxShownBytes));
    }
    case Kind::kBool: {
      bool value = false;
      json.ReadBool(&value);
      return value ? "true" : "false";
    }
    case Kind::kNull:
      return "null";
    case Kind::kNone:
      break;
  }
  return "nothing";
}

PromptReader::PromptReader()
    : first_scratch_(std::make_unique<std::byte[]>(kKeptScratchBytes)),
      scratch_(first_scratch_.get(), kKeptScratchBytes) {}

void PromptReader::Reset() {
  scratch_.release();
  for (Section& section : sections_) {
    if (section.parts.capacity() > kKeptParts) section.parts = {};
    section.parts.clear();
    section.extra_tokens = 0;
    section.messages = 0;
    section.present = false;
    section.holds_ids = false;
    section.has_media = false;
  }
  ids_.clear();
  section_ = nullptr;
  index_.reset();
  starts_sequence_ = false;
  part_count_ = 0;
  extra_tokens_ = 0;
  error_.reset();
}

void PromptReader::Open(std::string_view name, size_t section) {
  section_ = &sections_[section];
  part_count_ -= section_->parts.size();
  section_->parts.clear();
  section_->extra_tokens = 0;
  section_->messages = 0;
  section_->present = true;
  section_->holds_ids = false;
  section_->has_media = false;
  ids_.clear();
  field_ = name;
  index_.reset();
  starts_sequence_ = false;
}

bool PromptReader::ReadField(std::string_view name, Shape shape, size_t section,
                             JsonScanner& json) {
  Open(name, section);
  section_->present = json.Peek() != Kind::kNull;
  return section_->present ? ReadValue(shape, json) : json.Skip();
}

bool PromptReader::ReadValue(Shape shape, JsonScanner& json) {
  const Kind kind = json.Peek();
  switch (shape) {
    case Shape::kRaw:
      return ReadRaw(json);
    case Shape::kContent:
      if (kind == Kind::kString || kind == Kind::kArray) return ReadContent(json);
      return WrongType("a string or an array of content blocks", json);
    case Shape::kMessages:
      if (kind == Kind::kArray) return ReadMessages(json);
      return WrongType("an array of messages", json);
    case Shape::kInput:
      if (kind == Kind::kString) return ReadText(json);
      if (kind == Kind::kArray) return ReadMessages(json);
      return WrongType("a string or an array of input items", json);
    case Shape::kTokenIds:
      if (kind == Kind::kArray) return ReadPrompts(json, shape);
      return WrongType(kTokenIdsExpected, json);
    case Shape::kPrompts:
      if (kind == Kind::kString) return ReadText(json);
      if (kind == Kind::kArray) return ReadPrompts(json, shape);
      return WrongType(kPromptsExpected, json);
    case Shape::kTexts:
      return ReadTexts(json);
  }
  return json.Skip();
}

bool PromptReader::ReadRaw(JsonScanner& json) {
  json.Peek();
  const char* const begin = json.position();
  if (!json.Skip()) return false;
  Add({begin, static_cast<size_t>(json.position() - begin)});
  return true;
}

bool PromptReader::ReadMessages(JsonScanner& json) {
  index_ = 0;
  for (json.EnterArray(); json.NextElement(); ++*index_) {
    if (json.Peek() != Kind::kObject) return WrongType("an object", json);
    if (!ReadMessage(json)) return false;
  }
  section_->messages = *index_;
  return json.ok();
}

bool PromptReader::ReadMessage(JsonScanner& json) {
  const size_t role = Add({});
  const size_t content = section_->parts.size();
  const uint64_t content_tokens = section_->extra_tokens;
  std::string_view calls;
  JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    if (key.raw == "content") {  // of two, the engine takes the last
      part_count_ -= section_->parts.size() - content;
      section_->parts.resize(content);
      section_->extra_tokens = content_tokens;
    }
    if (!ReadMessageField(key.raw, role, json, &calls)) return false;
  }
  if (!calls.empty()) Add(calls);
  return json.ok();
}

bool PromptReader::ReadMessageField(std::string_view key, size_t role, JsonScanner& json,
                                    std::string_view* calls) {
  const Kind kind = json.Peek();
  if (key == "role" && kind == Kind::kString) {
    JsonString name;
    if (!json.ReadString(&name)) return false;
    if (role < section_->parts.size()) section_->parts[role].bytes = Text(name);
    return true;
  }
  if (key == "content") {
    if (kind == Kind::kString || kind == Kind::kArray) return ReadContent(json);
    if (kind != Kind::kNull) {
      return WrongType("a string or an array of content blocks", json, ".content");
    }
  }
  if (key == "output" && (kind == Kind::kString || kind == Kind::kArray)) return ReadContent(json);
  if (key == "arguments" && kind == Kind::kString) return ReadText(json);
  if (key == "tool_calls" && kind != Kind::kNull) {
    const char* const begin = json.position();
    if (!json.Skip()) return false;
    *calls = {begin, static_cast<size_t>(json.position() - begin)};
    return true;
  }
  return json.Skip();
}

bool PromptReader::ReadContent(JsonScanner& json) {
  if (json.Peek() == Kind::kString) return ReadText(json);
  for (json.EnterArray(); json.NextElement();) {
    const Kind kind = json.Peek();
    const bool read = kind == Kind::kString   ? ReadText(json)
                      : kind == Kind::kObject ? ReadBlock(json)
                                              : json.Skip();
    if (!read) return false;
  }
  return json.ok();
}

bool PromptReader::ReadBlock(JsonScanner& json) {
  JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    const std::string_view name = key.raw;
    const Kind kind = json.Peek();
    const bool is_text = kind == Kind::kString;
    bool read = false;
    if (is_text && (name == "text" || name == "thinking" || name == "refusal")) {
      read = ReadText(json);
    } else if (name == "image_url" || name == "source") {
      read = ReadMedia(Media::kImage, json);
    } else if (name == "video_url") {
      read = ReadMedia(Media::kVideo, json);
    } else if (name == "input_audio" || name == "audio_url") {
      read = ReadMedia(Media::kAudio, json);
    } else if (name == "content" && (is_text || kind == Kind::kArray)) {  // a tool's result
      read = ReadContent(json);
    } else if (name == "input" && kind == Kind::kObject) {  // a tool's arguments
      read = ReadRaw(json);
    } else {
      read = json.Skip();
    }
    if (!read) return false;
  }
  return json.ok();
}

// A string is an address; an object holds one under "url", or the data itself.
bool PromptReader::ReadMedia(Media media, JsonScanner& json) {
  const Kind kind = json.Peek();
  if (kind != Kind::kString && kind != Kind::kObject) return json.Skip();
  section_->has_media = true;
  section_->extra_tokens += media == Media::kImage   ? kImageTokens
                            : media == Media::kVideo ? kVideoTokens
                                                     : kAudioTokens;
  JsonString key, value;
  const auto take = [&](bool is_data) {
    if (!json.ReadString(&value)) return false;
    if (is_data || value.raw.starts_with("data:")) {
      AddData(value.raw);
    } else {
      Add(Text(value));
    }
    return true;
  };
  if (kind == Kind::kString) return take(false);
  for (json.EnterObject(); json.NextField(&key);) {
    const bool is_source = key.raw == "url" || key.raw == "data" || key.raw == "file_id";
    if (is_source && json.Peek() == Kind::kString ? !take(key.raw == "data") : !json.Skip()) {
      return false;
    }
  }
  return json.ok();
}

bool PromptReader::ReadText(JsonScanner& json) {
  JsonString text;
  if (!json.ReadString(&text)) return false;
  Add(Text(text));
  return true;
}

// An array that is a prompt of token ids or holds several prompts.
bool PromptReader::ReadPrompts(JsonScanner& json, Shape shape) {
  std::optional<Kind> kind;  // of all elements, as of the first
  index_ = 0;
  for (json.EnterArray(); json.NextElement(); ++*index_) {
    const Kind found = json.Peek();
    if (!kind) kind = found;
    if (found != kind) return WrongType("an element like those before it", json);
    if (found == Kind::kString && shape == Shape::kPrompts) {
      StartSequence();
      if (!ReadText(json)) return false;
    } else if (found == Kind::kArray) {
      StartSequence();
      if (!ReadTokenIds(json)) return false;
    } else {
      if (!ReadTokenId(found, json)) return false;
    }
  }
  EndTokenIds();
  return json.ok();
}

bool PromptReader::ReadTokenIds(JsonScanner& json) {
  for (json.EnterArray(); json.NextElement();) {
    if (!ReadTokenId(json.Peek(), json)) return false;
  }
  FlushIds();
  return json.ok();
}

bool PromptReader::ReadTokenId(Kind kind, JsonScanner& json) {
  constexpr std::string_view kExpected = "a token id (0 to 4294967295)";
  if (kind != Kind::kNumber) return WrongType(kExpected, json);
  std::string_view text;
  if (!json.ReadNumber(&text)) return false;
  uint64_t id = 0;
  bool is_id = text.size() <= 10;
  for (const char c : text) {
    is_id = is_id && c >= '0' && c <= '9';
    id = id * 10 + static_cast<uint64_t>(c - '0');
  }
  if (!is_id || id > UINT32_MAX) {
    return Refuse(kExpected, "the number " + std::string(text.substr(0, kMaxShownBytes)), {});
  }
  AddTokenId(static_cast<uint32_t>(id));
  return true;
}

void PromptReader::AddTokenId(uint32_t id) {
  if (ids_.size() == kIdsPerPart) FlushIds();
  ids_.push_back(id);
}

void PromptReader::EndTokenIds() {
  if (!ids_.empty()) FlushIds();
}

void PromptReader::FlushIds() {
  const size_t bytes = ids_.size() * sizeof(uint32_t);
  auto* const packed = static_cast<char*>(scratch_.allocate(bytes + 1, 1));
  if (bytes > 0) std::memcpy(packed, ids_.data(), bytes);
  ids_.clear();
  section_->holds_ids = true;
  Add({packed, bytes});
}

bool PromptReader::ReadTexts(JsonScanner& json) {
  if (json.Peek() != Kind::kArray) return ReadSequenceText(json);
  index_ = 0;
  for (json.EnterArray(); json.NextElement(); ++*index_) {
    if (!ReadSequenceText(json)) return false;
  }
  return json.ok();
}

bool PromptReader::ReadSequenceText(JsonScanner& json) {
  StartSequence();
  if (json.Peek() == Kind::kString) return ReadText(json);
  if (json.Peek() != Kind::kObject) return WrongType("a string or an object with text", json);
  Add({});
  return ReadBlock(json);
}

size_t PromptReader::Add(std::string_view bytes) {
  if (part_count_ >= kMaxParts) {
    section_->extra_tokens += (bytes.size() + 3) / 4;
    return kMaxParts;
  }
  ++part_count_;
  section_->parts.push_back({bytes, std::exchange(starts_sequence_, false)});
  return section_->parts.size() - 1;
}

uint64_t PromptReader::CoverTokens(size_t section, uint64_t offset, uint64_t length,
                                   std::string_view hash) {
  if (!sections_[section].holds_ids) return offset;
  const std::vector<model::PromptPart>& parts = sections_[section].parts;
  const XXH128_hash_t bits = XXH3_128bits(hash.data(), hash.size());
  std::array<uint32_t, 4> words;
  std::memcpy(words.data(), &bits, sizeof(words));
  sections_[section].has_media = true;
  uint64_t at = offset;
  for (size_t i = offset / kIdsPerPart; i < parts.size(); ++i) {  // all but the last are full
    const uint64_t begin = i * kIdsPerPart;
    if (at < begin) break;  // the part before was no full one: several sequences
    const uint64_t end = begin + parts[i].bytes.size() / sizeof(uint32_t);
    // FlushIds packed them into scratch, which is ours to write to.
    auto* const ids = const_cast<char*>(parts[i].bytes.data());
    for (; at < end && at - offset < length; ++at) {
      std::memcpy(ids + (at - begin) * sizeof(uint32_t), &words[(at - offset) % 4],
                  sizeof(uint32_t));
    }
    if (at < end) break;
  }
  return at;
}

void PromptReader::AddData(std::string_view data) {
  XXH128_canonical_t hash;
  XXH128_canonicalFromHash(&hash, XXH3_128bits(data.data(), data.size()));
  auto* const kept = static_cast<char*>(scratch_.allocate(sizeof(hash), 1));
  std::memcpy(kept, &hash, sizeof(hash));
  Add({kept, sizeof(hash)});
}

std::string_view PromptReader::Text(const JsonString& string) {
  if (!string.escaped) return string.raw;
  auto* const text = static_cast<char*>(scratch_.allocate(string.raw.size(), 1));
  return {text, wire::UnescapeJson(string.raw, text)};
}

uint32_t PromptReader::present() const {
  uint32_t bits = 0;
  for (size_t i = 0; i < kSections; ++i) bits |= uint32_t{sections_[i].present} << i;
  return bits;
}

bool PromptReader::holds_ids() const {
  bool holds_some = false;
  for (const Section& section : sections_) {
    if (!section.holds_ids && !section.parts.empty()) return false;
    holds_some = holds_some || section.holds_ids;
  }
  return holds_some;
}

bool PromptReader::has_media() const { return std::ranges::any_of(sections_, &Section::has_media); }

std::span<const model::PromptPart> PromptReader::Finish() {
  std::vector<model::PromptPart>& all = sections_[0].parts;
  extra_tokens_ = sections_[0].extra_tokens;
  for (size_t i = 1; i < kSections; ++i) {
    extra_tokens_ += sections_[i].extra_tokens;
    if (all.empty()) {
      all.swap(sections_[i].parts);
    } else {
      all.insert(all.end(), sections_[i].parts.begin(), sections_[i].parts.end());
    }
  }
  return all;
}

bool PromptReader::WrongType(std::string_view expected, JsonScanner& json, std::string_view inner) {
  if (json.Peek() == Kind::kNone) return json.Skip();  // no value at all: the scanner's complaint
  const std::string found = Found(json);
  return json.ok() && Refuse(expected, found, inner);
}

bool PromptReader::Refuse(std::string_view expected, std::string_view found,
                          std::string_view inner) {
  std::string message(field_);
  if (index_) message += "[" + std::to_string(*index_) + "]";
  message += inner;
  message += ": expected ";
  message += expected;
  message += ", found ";
  message += found;
  error_ = ApiError{.code = "invalid_type", .message = std::move(message), .param = field_};
  return false;
}

}  // namespace penstock::api
