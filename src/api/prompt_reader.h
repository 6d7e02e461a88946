// Takes the prompt out of the fields of a request body, as pieces that point into the body wherever
// a string holds no escapes. What is taken, and in which order, follows llm-d's estimate: the JSON
// of the tools, then role, content and tool calls of each message; pictures and sound count as
// their address or a hash of their data plus an estimate of their tokens.
//
// Fields land in sections, which make the prompt in the order of their numbers, so the order of the
// fields in the body does not matter. A field that comes twice counts as it came last.
//
// THREADS: loop-bound (scratch is reused). OWNS: the unescaped text.
// COST: strings without escapes are not copied; text with escapes once.
// SOURCE: OpenAI and Anthropic API references; spec endpoint-picker 4.3, 5.8.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"
#include "wire/json_scan.h"

namespace penstock::api {

// The shape of a field that holds a part of the prompt.
enum class Shape : uint8_t {
  kRaw,       // any JSON, taken as its bytes
  kContent,   // a string, or an array of strings and content blocks
  kMessages,  // an array of messages
  kInput,     // a string, or an array of messages and other items (OpenAI responses)
  kTokenIds,  // an array of token ids, or of arrays of them
  kPrompts,   // a string, an array of them, token ids, or an array of arrays of token ids
  kTexts,     // a string or an object with content, or an array of those: a sequence each
};

class PromptReader {
 public:
  static constexpr size_t kSections = 3;
  // What lies beyond counts into extra_tokens only.
  static constexpr size_t kMaxParts = 262144;

  PromptReader();

  // Forgets the request before; its prompt is no longer valid.
  void Reset();

  // Reads the value at which `json` stands as the field `name`. False when it has the wrong type
  // (error() says which) or is not valid JSON (json knows).
  bool ReadField(std::string_view name, Shape shape, size_t section, wire::JsonScanner& json);
  const std::optional<ApiError>& error() const { return error_; }

  // The same by hand, for what is no JSON: opens the section as the field `name`, empty; adds to
  // the section opened last. What is added must stay until Reset.
  void Open(std::string_view name, size_t section);
  void AddText(std::string_view text) { Add(text); }
  void AddTokenId(uint32_t id);
  void EndTokenIds();

  // Puts `hash` in place of the token ids [offset, offset + length) of the section, as far as its
  // first sequence goes; does nothing to text. Returns the end of what was replaced.
  uint64_t CoverTokens(size_t section, uint64_t offset, uint64_t length, std::string_view hash);

  // The sections whose fields were there, and not null, as bits.
  uint32_t present() const;
  // The number of elements in the section's messages.
  size_t messages(size_t section) const { return sections_[section].messages; }

  // The sections one behind the other. Nothing can be read after it until Reset.
  std::span<const model::PromptPart> Finish();
  uint64_t extra_tokens() const { return extra_tokens_; }
  // Whether all of the prompt is token ids; whether images, audio or video are part of it. Both
  // before Finish.
  bool holds_ids() const;
  bool has_media() const;

  // The text of a string, valid until Reset.
  std::string_view Text(const wire::JsonString& string);

 private:
  struct Section {
    std::vector<model::PromptPart> parts;
    uint64_t extra_tokens = 0;
    size_t messages = 0;
    bool present = false;
    bool holds_ids = false;  // its parts are token ids
    bool has_media = false;
  };
  enum class Media : uint8_t { kImage, kVideo, kAudio };

  bool ReadValue(Shape shape, wire::JsonScanner& json);
  bool ReadRaw(wire::JsonScanner& json);
  bool ReadMessages(wire::JsonScanner& json);
  bool ReadMessage(wire::JsonScanner& json);
  bool ReadMessageField(std::string_view key, size_t role, wire::JsonScanner& json,
                        std::string_view* calls);
  bool ReadContent(wire::JsonScanner& json);
  bool ReadBlock(wire::JsonScanner& json);
  bool ReadMedia(Media media, wire::JsonScanner& json);
  bool ReadText(wire::JsonScanner& json);
  bool ReadPrompts(wire::JsonScanner& json, Shape shape);
  bool ReadTokenIds(wire::JsonScanner& json);
  void FlushIds();
  bool ReadTokenId(wire::JsonScanner::Kind kind, wire::JsonScanner& json);
  bool ReadTexts(wire::JsonScanner& json);
  bool ReadSequenceText(wire::JsonScanner& json);

  // Adds a part to the section at hand and returns its index, or kMaxParts when there is no room.
  size_t Add(std::string_view bytes);
  void AddData(std::string_view data);  // a hash in place of the data
  void StartSequence() { starts_sequence_ = true; }
  // Both set error() and return false; `inner` names a field within the element.
  bool WrongType(std::string_view expected, wire::JsonScanner& json, std::string_view inner = {});
  bool Refuse(std::string_view expected, std::string_view found, std::string_view inner);

  std::unique_ptr<std::byte[]> first_scratch_;  // kept between requests
  std::pmr::monotonic_buffer_resource scratch_;
  std::vector<uint32_t> ids_;  // on their way into scratch, at most kIdsPerPart
  std::array<Section, kSections> sections_;
  Section* section_ = nullptr;     // the one being filled
  std::string_view field_;         // its field
  std::optional<uint64_t> index_;  // the element of the field that is being read
  bool starts_sequence_ = false;   // the next part does
  size_t part_count_ = 0;
  uint64_t extra_tokens_ = 0;
  std::optional<ApiError> error_;
};

// "the number 5", "a string", ...: what stands where something else was expected.
std::string Found(wire::JsonScanner& json);

}  // namespace penstock::api
