#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "api/grpc_body.h"
#include "api/media_marks.h"
#include "api/prompt_reader.h"
#include "api/request.h"
#include "api/rules.h"
#include "api/splice.h"
#include "core/text.h"
#include "wire/json.h"
#include "wire/json_scan.h"

namespace penstock::api {
namespace {

using model::Api;
using wire::JsonScanner;
using wire::JsonString;
using Kind = JsonScanner::Kind;

// Only the router may set it: it names the engine to fetch a KV cache from.
constexpr std::string_view kRouterField = "kv_transfer_params";
constexpr size_t kMaxEdits = 16;  // of the same field

constexpr size_t kMaxModelBytes = 1024;

// A key that is longer, as it stands with its escapes, is none of ours.
constexpr size_t kMaxKeyBytes = 192;

// True for what a JSON parser that guesses the encoding, as Python's does, would take for an
// object: '{' behind white space, a byte order mark or the zero bytes of UTF-16 and UTF-32.
bool LooksLikeObject(std::string_view body) {
  // A gRPC message of 31 KiB or 8 MiB begins with the zeros of UTF-32, too; a tag is never zero.
  if (body.size() > 5 && body[0] == 0 && body[1] == 0 && body[5] != 0) return false;
  for (std::string_view mark : {"\xEF\xBB\xBF", "\xFF\xFE", "\xFE\xFF"}) {
    if (body.starts_with(mark)) body.remove_prefix(mark.size());
  }
  size_t zeros = 0;  // four of them begin a gRPC message, not a text
  for (const char c : body) {
    if (c == '{') return true;
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\0') return false;
    zeros = c == '\0' ? zeros + 1 : 0;
    if (zeros == 4) return false;
  }
  return false;
}

// What a token limit asks for; 0 for what is negative, not whole or no number.
uint32_t TokenLimit(std::string_view number) {
  if (const std::optional<uint64_t> value = ParseUint(number)) {
    return static_cast<uint32_t>(std::min<uint64_t>(*value, UINT32_MAX));
  }
  const std::optional<double> value = ParseDouble(number);
  if (!value || *value < 0 || *value != std::floor(*value)) return 0;
  return static_cast<uint32_t>(std::min<double>(*value, UINT32_MAX));
}

std::unexpected<ApiError> Refuse(std::string_view code, std::string message,
                                 std::string_view param = {}) {
  return std::unexpected(ApiError{.code = code, .message = std::move(message), .param = param});
}

// Fields that an engine makes token ids of, of which the JSON itself is kept, and who takes them.
constexpr uint8_t kOfChats = 1;
constexpr uint8_t kOfCompletions = 2;
constexpr uint8_t kOfTokenize = 4;
constexpr uint8_t kOfMessages = 8;
constexpr uint8_t kOfResponses = 16;
struct SourceField {
  std::string_view name;
  std::string_view model::PromptSource::*field;
  uint8_t of;
};
constexpr SourceField kSourceFields[] = {
    {"messages", &model::PromptSource::messages, kOfChats | kOfTokenize | kOfMessages},
    {"tools", &model::PromptSource::tools, kOfChats | kOfTokenize | kOfMessages | kOfResponses},
    {"documents", &model::PromptSource::documents, kOfChats},
    {"chat_template", &model::PromptSource::chat_template, kOfChats | kOfTokenize},
    {"chat_template_kwargs", &model::PromptSource::chat_template_kwargs,
     kOfChats | kOfTokenize | kOfMessages | kOfResponses},
    {"add_generation_prompt", &model::PromptSource::add_generation_prompt, kOfChats | kOfTokenize},
    {"continue_final_message", &model::PromptSource::continue_final_message,
     kOfChats | kOfTokenize},
    {"reasoning_effort", &model::PromptSource::reasoning_effort, kOfChats},
    {"tool_choice", &model::PromptSource::tool_choice, kOfChats | kOfMessages | kOfResponses},
    {"add_special_tokens", &model::PromptSource::add_special_tokens,
     kOfChats | kOfCompletions | kOfTokenize},
    {"truncate_prompt_tokens", &model::PromptSource::truncate_prompt_tokens,
     kOfChats | kOfCompletions},
    {"prompt_embeds", &model::PromptSource::prompt_embeds, kOfCompletions},
    {"response_format", &model::PromptSource::response_format, kOfChats},
    {"suffix", &model::PromptSource::suffix, kOfCompletions},
    {"system", &model::PromptSource::system, kOfMessages},
    {"thinking", &model::PromptSource::thinking, kOfMessages},
    {"output_config", &model::PromptSource::output_config, kOfMessages},
    {"input", &model::PromptSource::input, kOfResponses},
    {"instructions", &model::PromptSource::instructions, kOfResponses},
    {"reasoning", &model::PromptSource::reasoning, kOfResponses},
    {"text", &model::PromptSource::text, kOfResponses},
    {"truncation", &model::PromptSource::truncation, kOfResponses},
    {"previous_input_messages", &model::PromptSource::previous_input_messages, kOfResponses},
    {"previous_response_id", &model::PromptSource::previous_response_id, kOfResponses},
    {"conversation", &model::PromptSource::conversation, kOfResponses},
    {"prompt", &model::PromptSource::stored_prompt, kOfResponses},
};

template <uint8_t kOf>
constexpr auto kSourceFieldsOf = [] {
  constexpr auto kIsOne = [](const SourceField& field) { return (field.of & kOf) != 0; };
  std::array<SourceField, std::ranges::count_if(kSourceFields, kIsOne)> fields;
  std::ranges::copy_if(kSourceFields, fields.begin(), kIsOne);
  return fields;
}();

std::span<const SourceField> SourceOf(Api api) {
  switch (api) {
    case Api::kChatCompletions:
    case Api::kChatRender:
      return kSourceFieldsOf<kOfChats>;
    case Api::kCompletions:
    case Api::kCompletionRender:
      return kSourceFieldsOf<kOfCompletions>;
    case Api::kTokenize:
      return kSourceFieldsOf<kOfTokenize>;
    case Api::kMessages:
      return kSourceFieldsOf<kOfMessages>;
    case Api::kResponses:
      return kSourceFieldsOf<kOfResponses>;
    default:
      return {};
  }
}

// Media beside the prompt, in requests of token ids.
bool HoldsMedia(Api api, std::string_view key) {
  if (api == Api::kVllmGenerate) return key == "content_parts";
  return api == Api::kSglangGenerate && (key == "image_data" || key == "video_data" ||
                                         key == "audio_data" || key == "input_embeds");
}

}  // namespace

struct BodyReader::Impl {
  Api api = Api::kOther;
  Rules rules;
  std::span<const SourceField> sources;
  model::Request* request = nullptr;
  BodyEdits* edits = nullptr;
  std::string_view body;  // the JSON text
  PromptReader prompt;
  MediaMarks marks;
  std::optional<ApiError> error;
  uint32_t max_completion_tokens = 0, max_tokens = 0, max_output_tokens = 0;
  bool has_model = false;
  size_t cuts = 0;
  std::array<std::string, 3> key_buffers;  // by level
  BodyEdits own_edits;                     // of callers that want the cuts only

  void Start(Api of, size_t body_bytes, model::Request* into, BodyEdits* edits_into);
  void Finish();
  std::expected<void, ApiError> ReadText(std::string_view text);
  std::expected<void, ApiError> ReadVllm(std::string_view message);
  std::expected<void, ApiError> ReadVertex(std::string_view message);
  static Api ApiOfText(std::string_view text);
  std::expected<void, ApiError> ReadObject();
  // Reads the fields of an object: Impl::*read for those that stay, the router's are cut.
  bool ReadFields(bool (Impl::*read)(std::string_view, JsonScanner&), size_t level,
                  FieldCutter* cutter, JsonScanner& json);
  bool ReadNested(bool (Impl::*read)(std::string_view, JsonScanner&), size_t level,
                  JsonScanner& json);
  bool ReadField(std::string_view key, JsonScanner& json);
  bool ReadKnownField(std::string_view key, JsonScanner& json);
  bool ReadSamplingField(std::string_view key, JsonScanner& json);
  bool SkipField(std::string_view, JsonScanner& json) { return json.Skip(); }
  bool ReadModel(JsonScanner& json);
  bool ReadStream(JsonScanner& json);
  bool ReadSalt(JsonScanner& json);
  bool ReadExtraKey(JsonScanner& json);
  bool ReadLimit(uint32_t* limit, JsonScanner& json);
  bool NoteModel(size_t value_begin, JsonScanner& json);
  bool RefuseMore(std::string_view field);
  static std::string_view KeyText(const JsonString& key, std::string* buffer);
  std::expected<void, ApiError> Complain(const JsonScanner& json) const;
  std::expected<void, ApiError> CheckRequired() const;
  bool WrongType(std::string_view field, std::string_view expected, JsonScanner& json);
};

BodyReader::BodyReader() : impl_(std::make_unique<Impl>()) {}
BodyReader::~BodyReader() = default;

std::expected<void, ApiError> BodyReader::Read(Api api, const std::string& body,
                                               model::Request* request,
                                               std::vector<Splice>* splices) {
  auto read = Read(Route{.api = api}, body, request, &impl_->own_edits);
  splices->swap(impl_->own_edits.cuts_);
  return read;
}

std::expected<void, ApiError> BodyReader::Read(const Route& route, const std::string& body,
                                               model::Request* request, BodyEdits* edits) {
  impl_->Start(route.api, body.size(), request, edits);
  auto read = route.framing == Framing::kVllm     ? impl_->ReadVllm(body)
              : route.framing == Framing::kVertex ? impl_->ReadVertex(body)
                                                  : impl_->ReadText(body);
  if (!read) edits->Clear();
  return read;
}

std::expected<void, ApiError> BodyReader::Impl::ReadText(std::string_view text) {
  if (rules.is_passed && !LooksLikeObject(text)) return {};
  if (!simdjson::validate_utf8(text.data(), text.size())) {
    return Refuse("invalid_utf8", "the body is not valid UTF-8 at byte " +
                                      std::to_string(wire::ValidUtf8Length(text)));
  }
  body = text;
  auto read = ReadObject();
  if (read) Finish();
  return read;
}

std::expected<void, ApiError> BodyReader::Impl::ReadVllm(std::string_view message) {
  auto read = ReadVllmRequest(api, message, &prompt, &marks);
  if (!read) return std::unexpected(std::move(read.error()));
  request->stream = read->stream;
  max_tokens = read->max_tokens;
  edits->cuts_ = std::move(read->cuts);
  FixLengths(message, nullptr, &edits->cuts_);
  Finish();
  return {};
}

std::expected<void, ApiError> BodyReader::Impl::ReadVertex(std::string_view message) {
  const auto place = FindHttpBody(message);
  if (!place) return std::unexpected(place.error());
  if (api == Api::kOther) {
    api = request->api = ApiOfText(place->data);
    rules = RulesOf(api);
    sources = SourceOf(api);
  }
  auto read = ReadText(place->data);
  if (!read) return read;
  for (Splice& cut : edits->cuts_) {
    cut.begin += place->data_begin;
    cut.end += place->data_begin;
  }
  FixLengths(message, &*place, &edits->cuts_);
  edits->models_.clear();
  edits->inside_.reset();
  return {};
}

// A text that has input and no messages asks for a response.
Api BodyReader::Impl::ApiOfText(std::string_view text) {
  JsonScanner json(text);
  bool has_input = false;
  JsonString key;
  std::string buffer;
  for (json.EnterObject(); json.NextField(&key) && json.Skip();) {
    const std::string_view name = KeyText(key, &buffer);
    if (name == "messages") return Api::kChatCompletions;
    has_input = has_input || name == "input";
  }
  return has_input ? Api::kResponses : Api::kChatCompletions;
}

void BodyReader::Impl::Start(Api of, size_t body_bytes, model::Request* into,
                             BodyEdits* edits_into) {
  api = of;
  rules = RulesOf(of);
  sources = SourceOf(of);
  request = into;
  edits = edits_into;
  edits->Clear();
  prompt.Reset();
  marks.Reset();
  error.reset();
  max_completion_tokens = max_tokens = max_output_tokens = 0;
  has_model = false;
  cuts = 0;
  into->api = of;
  into->model.clear();
  into->stream = false;
  into->max_output_tokens = 0;
  into->cache_salt.clear();
  into->extra_tokens = 0;
  into->body_bytes = body_bytes;
  into->prompt = {};
  into->source = {};
}

void BodyReader::Impl::Finish() {
  if (!rules.has_prompt) return;
  if (rules.has_sampling) marks.Apply(&prompt, 0);
  request->source.is_anthropic = api == Api::kMessages;
  request->source.holds_ids = prompt.holds_ids();
  request->source.has_media = request->source.has_media || prompt.has_media();
  request->prompt = prompt.Finish();
  request->extra_tokens = prompt.extra_tokens();
  request->max_output_tokens = max_completion_tokens != 0 ? max_completion_tokens
                               : max_tokens != 0          ? max_tokens
                                                          : max_output_tokens;
}

std::expected<void, ApiError> BodyReader::Impl::ReadObject() {
  JsonScanner json(body);
  const Kind kind = json.Peek();
  if (kind != Kind::kObject && kind != Kind::kNone) {
    return Refuse("invalid_json", "the body must be a JSON object, found " + Found(json));
  }
  FieldCutter cutter(&edits->cuts_);
  const size_t bracket = json.offset();
  if (!ReadFields(&Impl::ReadField, 0, &cutter, json) || !json.Finish()) return Complain(json);
  edits->inside_ = bracket + 1;
  edits->has_fields_ = cutter.keeps_one();
  return CheckRequired();
}

bool BodyReader::Impl::ReadFields(bool (Impl::*read)(std::string_view, JsonScanner&), size_t level,
                                  FieldCutter* cutter, JsonScanner& json) {
  const bool is_routers = level != 1;  // in sampling_params itself it means nothing
  JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    const auto key_begin = static_cast<size_t>(key.raw.data() - body.data()) - 1;
    const std::string_view name = KeyText(key, &key_buffers[level]);
    if (is_routers && name == kRouterField) {
      if (!json.Skip()) return false;
      if (++cuts > kMaxEdits) return RefuseMore(kRouterField);
      cutter->Cut(key_begin, json.offset());
    } else {
      cutter->Keep(key_begin);
      if (!(this->*read)(name, json)) return false;
      cutter->Kept(json.offset());
    }
  }
  if (!json.ok()) return false;
  cutter->Finish();
  return true;
}

bool BodyReader::Impl::ReadNested(bool (Impl::*read)(std::string_view, JsonScanner&), size_t level,
                                  JsonScanner& json) {
  if (json.Peek() != Kind::kObject) return json.Skip();
  FieldCutter cutter(&edits->cuts_);
  return ReadFields(read, level, &cutter, json);
}

std::string_view BodyReader::Impl::KeyText(const JsonString& key, std::string* buffer) {
  if (!key.escaped || key.raw.size() > kMaxKeyBytes) return key.raw;
  buffer->resize(key.raw.size());
  buffer->resize(wire::UnescapeJson(key.raw, buffer->data()));
  return *buffer;
}

bool BodyReader::Impl::ReadField(std::string_view key, JsonScanner& json) {
  if (sources.empty() && !rules.has_sampling) return ReadKnownField(key, json);
  if (HoldsMedia(api, key)) {
    request->source.has_media = json.Peek() != Kind::kNull;
    return json.Skip();
  }
  for (const auto& [name, field, of] : sources) {
    if (key != name) continue;
    const bool is_null = json.Peek() == Kind::kNull;
    const char* const begin = json.position();
    if (!ReadKnownField(key, json)) return false;
    request->source.*field =
        is_null ? std::string_view()
                : std::string_view(begin, static_cast<size_t>(json.position() - begin));
    return true;
  }
  return ReadKnownField(key, json);
}

bool BodyReader::Impl::ReadKnownField(std::string_view key, JsonScanner& json) {
  if (key == "model") return ReadModel(json);
  if (rules.is_passed) return json.Skip();
  if (key == "stream") return ReadStream(json);
  if (key == "cache_salt") return ReadSalt(json);
  if (key == "max_completion_tokens") return ReadLimit(&max_completion_tokens, json);
  if (key == "max_tokens") return ReadLimit(&max_tokens, json);
  if (key == "max_output_tokens") return ReadLimit(&max_output_tokens, json);
  if (rules.has_sampling) {
    if (key == "sampling_params") {
      max_tokens = 0;
      return ReadNested(&Impl::ReadSamplingField, 1, json);
    }
    if (key == "features" && api == Api::kVllmGenerate) return marks.ReadFeatures(json);
    if (key == "extra_key" && api == Api::kSglangGenerate) return ReadExtraKey(json);
  }
  for (const PromptField& field : rules.fields) {
    // `key` may be gone by the time an error is made of it; the table's name stays.
    if (key == field.name) return prompt.ReadField(field.name, field.shape, field.section, json);
  }
  return json.Skip();
}

bool BodyReader::Impl::ReadSamplingField(std::string_view key, JsonScanner& json) {
  if (key == "max_tokens" || key == "max_new_tokens") return ReadLimit(&max_tokens, json);
  if (key == "extra_args") return ReadNested(&Impl::SkipField, 2, json);
  return json.Skip();
}

bool BodyReader::Impl::ReadModel(JsonScanner& json) {
  has_model = false;
  request->model.clear();
  const Kind kind = json.Peek();
  const size_t begin = json.offset();
  if (kind != Kind::kString) {
    if (kind != Kind::kNull && !rules.is_passed) return WrongType("model", "a string", json);
    return json.Skip() && NoteModel(begin, json);
  }
  JsonString name;
  if (!json.ReadString(&name)) return false;
  // It stands in metrics, logs and the record of the decision.
  if (name.raw.size() > kMaxModelBytes) {
    error =
        ApiError{.code = "invalid_value",
                 .message = "model: expected a name of at most " + std::to_string(kMaxModelBytes) +
                            " bytes, found one of " + std::to_string(name.raw.size()),
                 .param = "model"};
    return false;
  }
  request->model = prompt.Text(name);
  has_model = !request->model.empty();
  return NoteModel(begin, json);
}

bool BodyReader::Impl::NoteModel(size_t value_begin, JsonScanner& json) {
  if (edits->models_.size() == kMaxEdits) return RefuseMore("model");
  edits->models_.push_back({value_begin, json.offset()});
  return true;
}

bool BodyReader::Impl::RefuseMore(std::string_view field) {
  error = ApiError{
      .code = "duplicate_field",
      .message = std::string(field) + ": found more than " + std::to_string(kMaxEdits) + " times",
      .param = field};
  return false;
}

bool BodyReader::Impl::ReadStream(JsonScanner& json) {
  request->stream = false;
  if (json.Peek() == Kind::kNull) return json.Skip();
  if (json.Peek() != Kind::kBool) return WrongType("stream", "true or false", json);
  return json.ReadBool(&request->stream);
}

bool BodyReader::Impl::ReadSalt(JsonScanner& json) {
  request->cache_salt.clear();
  if (json.Peek() == Kind::kNull) return json.Skip();
  if (json.Peek() != Kind::kString) return WrongType("cache_salt", "a string", json);
  JsonString salt;
  if (!json.ReadString(&salt)) return false;
  request->cache_salt = prompt.Text(salt);
  return true;
}

// SGLang's name for a salt; in a batch there is one for each prompt.
bool BodyReader::Impl::ReadExtraKey(JsonScanner& json) {
  if (json.Peek() == Kind::kString) return ReadSalt(json);
  const bool is_null = json.Peek() == Kind::kNull;
  const char* const begin = json.position();
  if (!json.Skip()) return false;
  request->cache_salt.assign(begin, is_null ? begin : json.position());
  return true;
}

bool BodyReader::Impl::ReadLimit(uint32_t* limit, JsonScanner& json) {
  *limit = 0;
  if (json.Peek() != Kind::kNumber) return json.Skip();
  std::string_view number;
  if (!json.ReadNumber(&number)) return false;
  *limit = TokenLimit(number);
  return true;
}

bool BodyReader::Impl::WrongType(std::string_view field, std::string_view expected,
                                 JsonScanner& json) {
  if (json.Peek() == Kind::kNone) return json.Skip();
  const std::string found = Found(json);
  if (json.ok()) {
    error = ApiError{
        .code = "invalid_type",
        .message = std::string(field) + ": expected " + std::string(expected) + ", found " + found,
        .param = field};
  }
  return false;
}

std::expected<void, ApiError> BodyReader::Impl::Complain(const JsonScanner& json) const {
  if (error) return std::unexpected(*error);
  if (prompt.error()) return std::unexpected(*prompt.error());
  return Refuse(json.too_deep() ? "nesting_too_deep" : "invalid_json",
                "the body is not valid JSON: " + json.Complaint());
}

std::expected<void, ApiError> BodyReader::Impl::CheckRequired() const {
  if (rules.needs_model && !has_model) {
    return Refuse("missing_field", "model: expected the name of a model, found nothing", "model");
  }
  for (const Required& required : rules.required) {
    if ((required.sections & prompt.present()) == 0) {
      return Refuse("missing_field",
                    "the body has no " + std::string(required.text) + ", which " +
                        std::string(model::ApiName(api)) + " requires",
                    required.name);
    }
  }
  if (api == Api::kMessages && prompt.messages(2) == 0) {
    return Refuse("missing_field", "messages: expected at least one message, found none",
                  "messages");
  }
  return {};
}

}  // namespace penstock::api
