#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "api/prompt_reader.h"
#include "api/request.h"
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

struct PromptField {
  std::string_view name;
  Shape shape;
  size_t section;
};

// One of the fields of these sections has to be there.
struct Required {
  std::string_view name;  // the usual one
  std::string_view text;  // all that will do
  uint32_t sections;      // as bits
};

struct Rules {
  std::span<const PromptField> fields;
  std::span<const Required> required;
  bool needs_model = true;
};

constexpr PromptField kChatFields[] = {{"tools", Shape::kRaw, 0},
                                       {"messages", Shape::kMessages, 1}};
constexpr PromptField kCompletionFields[] = {{"prompt", Shape::kPrompts, 0},
                                             {"prompt_embeds", Shape::kRaw, 1}};
constexpr PromptField kResponseFields[] = {
    {"instructions", Shape::kContent, 0}, {"tools", Shape::kRaw, 1}, {"input", Shape::kInput, 2}};
constexpr PromptField kEmbeddingFields[] = {{"input", Shape::kPrompts, 0},
                                            {"messages", Shape::kMessages, 1}};
constexpr PromptField kMessagesFields[] = {
    {"system", Shape::kContent, 0}, {"tools", Shape::kRaw, 1}, {"messages", Shape::kMessages, 2}};
constexpr PromptField kTokenizeFields[] = {
    {"prompt", Shape::kPrompts, 0}, {"tools", Shape::kRaw, 1}, {"messages", Shape::kMessages, 2}};
constexpr PromptField kRerankFields[] = {{"query", Shape::kTexts, 0},
                                         {"documents", Shape::kTexts, 1}};
constexpr PromptField kScoreFields[] = {
    {"text_1", Shape::kTexts, 0}, {"queries", Shape::kTexts, 0},   {"data_1", Shape::kTexts, 0},
    {"text_2", Shape::kTexts, 1}, {"documents", Shape::kTexts, 1}, {"data_2", Shape::kTexts, 1}};

constexpr Required kChatRequired[] = {{"messages", "\"messages\"", 0b010}};
constexpr Required kCompletionRequired[] = {{"prompt", "\"prompt\" or \"prompt_embeds\"", 0b011}};
constexpr Required kResponseRequired[] = {{"input", "\"input\"", 0b100}};
constexpr Required kEmbeddingRequired[] = {{"input", "\"input\" or \"messages\"", 0b011}};
constexpr Required kMessagesRequired[] = {{"messages", "\"messages\"", 0b100}};
constexpr Required kTokenizeRequired[] = {{"prompt", "\"prompt\" or \"messages\"", 0b101}};
constexpr Required kRerankRequired[] = {{"query", "\"query\"", 0b001},
                                        {"documents", "\"documents\"", 0b010}};
constexpr Required kScoreRequired[] = {{"text_1", "\"text_1\" or \"queries\"", 0b001},
                                       {"text_2", "\"text_2\" or \"documents\"", 0b010}};

Rules RulesOf(Api api) {
  switch (api) {
    case Api::kChatCompletions:
      return {kChatFields, kChatRequired};
    case Api::kCompletions:
      return {kCompletionFields, kCompletionRequired};
    case Api::kResponses:
      return {kResponseFields, kResponseRequired};
    case Api::kEmbeddings:
      return {kEmbeddingFields, kEmbeddingRequired};
    case Api::kMessages:
      return {kMessagesFields, kMessagesRequired};
    case Api::kTokenize:
      return {kTokenizeFields, kTokenizeRequired, false};
    case Api::kRerank:
      return {kRerankFields, kRerankRequired};
    case Api::kScore:
      return {kScoreFields, kScoreRequired};
    case Api::kOther:
      break;
  }
  return {{}, {}, false};
}

// Only the router may set it: it names the engine to fetch a KV cache from.
constexpr std::string_view kRouterField = "kv_transfer_params";
constexpr size_t kMaxCuts = 16;

constexpr size_t kMaxModelBytes = 1024;

// A key that is longer, as it stands with its escapes, is none of ours.
constexpr size_t kMaxKeyBytes = 192;

// True for what a JSON parser that guesses the encoding, as Python's does, would take for an
// object: '{' behind white space, a byte order mark or the zero bytes of UTF-16 and UTF-32.
bool LooksLikeObject(std::string_view body) {
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

}  // namespace

struct BodyReader::Impl {
  Api api = Api::kOther;
  Rules rules;
  model::Request* request = nullptr;
  PromptReader prompt;
  std::optional<ApiError> error;
  uint32_t max_completion_tokens = 0, max_tokens = 0, max_output_tokens = 0;
  bool has_model = false;

  void Start(Api of, size_t body_bytes, model::Request* into);
  std::expected<void, ApiError> ReadObject(std::string_view body, std::vector<Splice>* splices);
  bool ReadField(std::string_view key, JsonScanner& json);
  bool ReadModel(JsonScanner& json);
  bool ReadStream(JsonScanner& json);
  bool ReadSalt(JsonScanner& json);
  bool ReadLimit(uint32_t* limit, JsonScanner& json);
  std::string_view KeyText(const JsonString& key, std::string* buffer) const;
  std::expected<void, ApiError> Complain(const JsonScanner& json) const;
  std::expected<void, ApiError> CheckRequired() const;
  bool WrongType(std::string_view field, std::string_view expected, JsonScanner& json);
};

BodyReader::BodyReader() : impl_(std::make_unique<Impl>()) {}
BodyReader::~BodyReader() = default;

std::expected<void, ApiError> BodyReader::Read(Api api, const std::string& body,
                                               model::Request* request,
                                               std::vector<Splice>* splices) {
  splices->clear();
  impl_->Start(api, body.size(), request);
  if (api == Api::kOther && !LooksLikeObject(body)) return {};
  if (!simdjson::validate_utf8(body.data(), body.size())) {
    return Refuse("invalid_utf8", "the body is not valid UTF-8 at byte " +
                                      std::to_string(wire::ValidUtf8Length(body)));
  }
  auto read = impl_->ReadObject(body, splices);
  if (!read) {
    splices->clear();
    return read;
  }
  request->prompt = impl_->prompt.Finish();
  request->extra_tokens = impl_->prompt.extra_tokens();
  request->max_output_tokens = impl_->max_completion_tokens != 0 ? impl_->max_completion_tokens
                               : impl_->max_tokens != 0          ? impl_->max_tokens
                                                                 : impl_->max_output_tokens;
  return {};
}

void BodyReader::Impl::Start(Api of, size_t body_bytes, model::Request* into) {
  api = of;
  rules = RulesOf(of);
  request = into;
  prompt.Reset();
  error.reset();
  max_completion_tokens = max_tokens = max_output_tokens = 0;
  has_model = false;
  into->api = of;
  into->model.clear();
  into->stream = false;
  into->max_output_tokens = 0;
  into->cache_salt.clear();
  into->extra_tokens = 0;
  into->body_bytes = body_bytes;
  into->prompt = {};
}

std::expected<void, ApiError> BodyReader::Impl::ReadObject(std::string_view body,
                                                           std::vector<Splice>* splices) {
  JsonScanner json(body);
  const Kind kind = json.Peek();
  if (kind != Kind::kObject && kind != Kind::kNone) {
    return Refuse("invalid_json", "the body must be a JSON object, found " + Found(json));
  }
  FieldCutter cutter(splices);
  size_t cuts = 0;
  JsonString key;
  std::string key_buffer;
  for (json.EnterObject(); json.NextField(&key);) {
    const auto key_begin = static_cast<size_t>(key.raw.data() - body.data()) - 1;
    const std::string_view name = KeyText(key, &key_buffer);
    if (name == kRouterField) {
      if (!json.Skip()) return Complain(json);
      if (++cuts > kMaxCuts) {
        return Refuse("duplicate_field",
                      "kv_transfer_params: found more than " + std::to_string(kMaxCuts) + " times",
                      kRouterField);
      }
      cutter.Cut(key_begin, json.offset());
    } else {
      if (!ReadField(name, json)) return Complain(json);
      cutter.Keep(key_begin, json.offset());
    }
  }
  if (!json.Finish()) return Complain(json);
  cutter.Finish();
  return CheckRequired();
}

std::string_view BodyReader::Impl::KeyText(const JsonString& key, std::string* buffer) const {
  if (!key.escaped || key.raw.size() > kMaxKeyBytes) return key.raw;
  buffer->resize(key.raw.size());
  buffer->resize(wire::UnescapeJson(key.raw, buffer->data()));
  return *buffer;
}

bool BodyReader::Impl::ReadField(std::string_view key, JsonScanner& json) {
  if (key == "model") return ReadModel(json);
  if (api == Api::kOther) return json.Skip();
  if (key == "stream") return ReadStream(json);
  if (key == "cache_salt") return ReadSalt(json);
  if (key == "max_completion_tokens") return ReadLimit(&max_completion_tokens, json);
  if (key == "max_tokens") return ReadLimit(&max_tokens, json);
  if (key == "max_output_tokens") return ReadLimit(&max_output_tokens, json);
  for (const PromptField& field : rules.fields) {
    // `key` may be gone by the time an error is made of it; the table's name stays.
    if (key == field.name) return prompt.ReadField(field.name, field.shape, field.section, json);
  }
  return json.Skip();
}

bool BodyReader::Impl::ReadModel(JsonScanner& json) {
  has_model = false;
  request->model.clear();
  const Kind kind = json.Peek();
  if (kind != Kind::kString) {
    if (kind == Kind::kNull || api == Api::kOther) return json.Skip();
    return WrongType("model", "a string", json);
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
  return true;
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
