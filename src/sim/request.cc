#include "sim/request.h"

#include <xxhash.h>

#include <boost/json.hpp>
#include <limits>
#include <utility>

#include "sim/text.h"
#include "sim/words.h"
#include "wire/json_scan.h"

namespace penstock::sim {
namespace {

namespace json = boost::json;
using model::Api;

constexpr size_t kMaxDepth = 512;

using Problem = std::optional<HttpError>;

// What prompts are made with.
struct Input {
  const tokens::PromptTokenizer* tokenizer;  // null: the engine's own words
  model::PromptSource source;
};

// The fields that the tokenizer and the chat template want as they stand. REQUIRES: an object.
model::PromptSource SourceOf(Api api, std::string_view body) {
  using model::PromptSource;
  constexpr std::pair<std::string_view, std::string_view PromptSource::*> kFields[] = {
      {"messages", &PromptSource::messages},
      {"tools", &PromptSource::tools},
      {"documents", &PromptSource::documents},
      {"chat_template", &PromptSource::chat_template},
      {"chat_template_kwargs", &PromptSource::chat_template_kwargs},
      {"add_generation_prompt", &PromptSource::add_generation_prompt},
      {"continue_final_message", &PromptSource::continue_final_message},
      {"reasoning_effort", &PromptSource::reasoning_effort},
      {"add_special_tokens", &PromptSource::add_special_tokens},
      {"system", &PromptSource::system},
      {"thinking", &PromptSource::thinking},
      {"output_config", &PromptSource::output_config},
  };
  PromptSource source;
  source.is_anthropic = api == Api::kMessages;
  wire::JsonScanner json(body);
  wire::JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    const bool is_null = json.Peek() == wire::JsonScanner::Kind::kNull;
    const char* const begin = json.position();
    if (!json.Skip()) break;
    const std::string_view value(begin, static_cast<size_t>(json.position() - begin));
    for (const auto& [name, field] : kFields) {
      if (key.raw == name) source.*field = is_null ? std::string_view() : value;
    }
  }
  return source;
}

HttpError Bad(std::string message, std::string_view param) {
  return {400, "BadRequestError", std::move(message), param};
}

HttpError WrongType(std::string_view field, std::string_view expected, const json::value& found) {
  return Bad("'" + std::string(field) + "' must be " + std::string(expected) + ", not " +
                 std::string(json::to_string(found.kind())),
             field);
}

// Null counts as absent, as pydantic's Optional fields have it.
const json::value* Find(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::string_view View(const json::string& s) { return {s.data(), s.size()}; }

template <class T>
Problem ReadInteger(const json::object& body, std::string_view key, int64_t least, int64_t most,
                    T* out) {
  const json::value* value = Find(body, key);
  if (value == nullptr) return std::nullopt;
  std::error_code bad;
  const auto number = value->to_number<int64_t>(bad);
  if (!value->is_number() || bad) return WrongType(key, "an integer", *value);
  if (number < least || number > most) {
    return Bad("'" + std::string(key) + "' is " + std::to_string(number) + ", not between " +
                   std::to_string(least) + " and " + std::to_string(most),
               key);
  }
  *out = static_cast<T>(number);
  return std::nullopt;
}

Problem ReadBool(const json::object& body, std::string_view key, bool* out) {
  const json::value* value = Find(body, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) return WrongType(key, "a boolean", *value);
  *out = value->get_bool();
  return std::nullopt;
}

Problem ReadText(const json::object& body, std::string_view key, std::string* out) {
  const json::value* value = Find(body, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return WrongType(key, "a string", *value);
  *out = View(value->get_string());
  return std::nullopt;
}

Problem ReadStop(const json::object& body, std::string_view key, std::vector<std::string>* out) {
  const json::value* value = Find(body, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) {
    if (!value->get_string().empty()) out->emplace_back(View(value->get_string()));
    return std::nullopt;
  }
  if (!value->is_array()) return WrongType(key, "a string or a list of strings", *value);
  for (const json::value& item : value->get_array()) {
    if (!item.is_string()) return WrongType(key, "a list of strings", item);
    if (!item.get_string().empty()) out->emplace_back(View(item.get_string()));
  }
  return std::nullopt;
}

Problem ReadTokenIds(const json::array& ids, std::string_view field, std::vector<uint32_t>* out) {
  out->reserve(ids.size());
  for (const json::value& id : ids) {
    std::error_code bad;
    const auto number = id.to_number<uint32_t>(bad);
    if (!id.is_number() || bad) return WrongType(field, "a list of token ids", id);
    out->push_back(number);
  }
  return std::nullopt;
}

// A prompt's text.
Problem AddText(std::string_view text, const Input& input, std::string_view field,
                std::vector<uint32_t>* tokens) {
  if (input.tokenizer == nullptr) {
    Tokenize(text, tokens);
    return std::nullopt;
  }
  const auto done = input.tokenizer->EncodeText(text, input.source.add_special_tokens, tokens);
  if (!done) return Bad(done.error().detail, field);
  return std::nullopt;
}

// A text, a list of texts, a list of token ids, or a list of such lists.
Problem ReadPrompts(const json::object& body, std::string_view field, const Input& input,
                    Job* job) {
  const json::value* value = Find(body, field);
  if (value == nullptr) return Bad("'" + std::string(field) + "' is required", field);
  const auto add = [&](const json::value& one) -> Problem {
    std::vector<uint32_t>& tokens = job->prompts.emplace_back();
    if (one.is_string()) return AddText(View(one.get_string()), input, field, &tokens);
    if (one.is_array()) return ReadTokenIds(one.get_array(), field, &tokens);
    return WrongType(field, "text or token ids", one);
  };
  if (!value->is_array()) return add(*value);
  const json::array& list = value->get_array();
  if (list.empty()) return Bad("'" + std::string(field) + "' is empty", field);
  if (list[0].is_number()) return add(*value);
  for (const json::value& one : list) {
    if (Problem problem = add(one)) return problem;
  }
  return std::nullopt;
}

SpecialToken RoleToken(std::string_view role) {
  if (role == "system" || role == "developer") return kSystem;
  if (role == "assistant") return kAssistant;
  if (role == "tool" || role == "function") return kTool;
  return kUser;
}

// A message's content: text, or parts of text and media.
Problem AddContent(const json::value& content, std::string_view field, Words* words) {
  if (content.is_string()) {
    words->Text(View(content.get_string()));
    return std::nullopt;
  }
  if (!content.is_array()) return WrongType(field, "a string or a list of parts", content);
  for (const json::value& part : content.get_array()) {
    if (part.is_string()) {
      words->Text(View(part.get_string()));
      continue;
    }
    if (!part.is_object()) return WrongType(field, "a list of parts", part);
    const json::value* text = Find(part.get_object(), "text");
    if (text != nullptr && text->is_string()) {
      words->Text(View(text->get_string()));
    } else if (const json::value* type = Find(part.get_object(), "type");
               type != nullptr && type->is_string() &&
               (View(type->get_string()).find("image") != std::string_view::npos ||
                View(type->get_string()).find("audio") != std::string_view::npos ||
                View(type->get_string()).find("video") != std::string_view::npos)) {
      words->Media(json::serialize(part));
    } else {
      words->Text(json::serialize(part));  // tool calls and their results
    }
  }
  return std::nullopt;
}

Problem AddMessages(const json::value& messages, std::string_view field, Words* words) {
  if (!messages.is_array()) return WrongType(field, "a list of messages", messages);
  if (messages.get_array().empty()) return Bad("'" + std::string(field) + "' is empty", field);
  for (const json::value& message : messages.get_array()) {
    if (!message.is_object()) return WrongType(field, "a list of objects", message);
    const json::object& fields = message.get_object();
    const json::value* role = Find(fields, "role");
    if (role != nullptr && !role->is_string()) return WrongType("role", "a string", *role);
    words->Mark(role == nullptr ? kUser : RoleToken(View(role->get_string())));
    if (const json::value* content = Find(fields, "content")) {
      if (Problem problem = AddContent(*content, field, words)) return problem;
    } else if (role == nullptr) {
      words->Text(json::serialize(message));  // items of the responses API
    }
    if (const json::value* calls = Find(fields, "tool_calls")) {
      words->Text(json::serialize(*calls));
    }
    words->Mark(kMessageEnd);
  }
  return std::nullopt;
}

// The chat template: tools, system text, each message between its marks, then the assistant's turn.
// A conversation that goes on begins with the tokens that it had, answer included.
Problem ReadChat(const json::object& body, std::string_view field, std::string_view system,
                 const Input& input, Job* job) {
  Words words(input.tokenizer, &job->prompts.emplace_back());
  if (const json::value* tools = Find(body, "tools")) {
    words.Mark(kToolList);
    words.Text(json::serialize(*tools));
    words.Mark(kMessageEnd);
  }
  if (const json::value* text = system.empty() ? nullptr : Find(body, system)) {
    words.Mark(kSystem);
    if (Problem problem = AddContent(*text, system, &words)) return problem;
    words.Mark(kMessageEnd);
  }
  const json::value* messages = Find(body, field);
  if (messages == nullptr) return Bad("'" + std::string(field) + "' is required", field);
  if (messages->is_string()) {  // the responses API's short form
    words.Mark(kUser);
    words.Text(View(messages->get_string()));
    words.Mark(kMessageEnd);
  } else if (Problem problem = AddMessages(*messages, field, &words)) {
    return problem;
  }
  words.Mark(kAssistant);
  return std::nullopt;
}

Problem ReadTexts(const json::object& body, std::string_view field, std::vector<std::string>* out) {
  const json::value* value = Find(body, field);
  if (value == nullptr) return Bad("'" + std::string(field) + "' is required", field);
  if (value->is_string()) {
    out->emplace_back(View(value->get_string()));
    return std::nullopt;
  }
  if (!value->is_array()) return WrongType(field, "text or a list of texts", *value);
  for (const json::value& item : value->get_array()) {
    if (item.is_string()) {
      out->emplace_back(View(item.get_string()));
    } else if (const json::value* text =
                   item.is_object() ? Find(item.get_object(), "text") : nullptr;
               text != nullptr && text->is_string()) {
      out->emplace_back(View(text->get_string()));
    } else {
      return WrongType(field, "a list of texts", item);
    }
  }
  if (out->empty()) return Bad("'" + std::string(field) + "' is empty", field);
  return std::nullopt;
}

// One prompt per pair of texts.
void AddPair(std::string_view a, std::string_view b, const Input& input, Job* job) {
  Words words(input.tokenizer, &job->prompts.emplace_back());
  words.Text(a);
  words.Mark(kMessageEnd);
  words.Text(b);
}

Problem ReadRerank(const json::object& body, const Input& input, Job* job) {
  std::vector<std::string> query;
  if (Problem p = ReadTexts(body, "query", &query)) return p;
  if (Problem p = ReadTexts(body, "documents", &job->documents)) return p;
  if (Problem p = ReadInteger(body, "top_n", 0, 1'000'000, &job->top_n)) return p;
  for (const std::string& document : job->documents) AddPair(query[0], document, input, job);
  return std::nullopt;
}

Problem ReadScore(const json::object& body, const Input& input, Job* job) {
  const bool named = Find(body, "text_1") == nullptr;
  std::vector<std::string> left, right;
  if (Problem p = ReadTexts(body, named ? "queries" : "text_1", &left)) return p;
  if (Problem p = ReadTexts(body, named ? "documents" : "text_2", &right)) return p;
  if (left.size() != 1 && left.size() != right.size()) {
    return Bad("the numbers of texts differ: " + std::to_string(left.size()) + " and " +
                   std::to_string(right.size()),
               "text_1");
  }
  for (size_t i = 0; i < right.size(); ++i)
    AddPair(left[left.size() == 1 ? 0 : i], right[i], input, job);
  return std::nullopt;
}

Problem ReadModel(const json::object& body, const Names& names, Job* job) {
  job->model = names.model;
  if (Problem p = ReadText(body, "model", &job->model)) return p;
  if (job->model == names.model) return std::nullopt;
  for (size_t i = 0; i < names.loras.size(); ++i) {
    if (names.loras[i] != job->model) continue;
    job->lora = static_cast<uint32_t>(i + 1);
    return std::nullopt;
  }
  return HttpError{404, "NotFoundError", "The model `" + job->model + "` does not exist.", "model"};
}

Problem ReadSampling(const json::object& body, const Names& names, Job* job) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  uint32_t most = 0;
  for (const std::string_view key : {"max_tokens", "max_completion_tokens", "max_output_tokens"}) {
    if (Problem p = ReadInteger(body, key, 1, kMost, &most)) return p;
  }
  if (most > 0) job->max_tokens = most;
  if (Problem p = ReadInteger(body, "min_tokens", 0, kMost, &job->min_tokens)) return p;
  if (job->max_tokens && job->min_tokens > *job->max_tokens) {
    return Bad("'min_tokens' is " + std::to_string(job->min_tokens) + ", above max_tokens " +
                   std::to_string(*job->max_tokens),
               "min_tokens");
  }
  if (job->api == Api::kChatCompletions || job->api == Api::kCompletions) {
    if (Problem p = ReadInteger(body, "n", 1, names.max_choices, &job->n)) return p;
  }
  if (Problem p = ReadInteger(body, "seed", std::numeric_limits<int64_t>::min(),
                              std::numeric_limits<int64_t>::max(), &job->seed)) {
    return p;
  }
  if (Problem p = ReadInteger(body, "priority", std::numeric_limits<int32_t>::min(),
                              std::numeric_limits<int32_t>::max(), &job->priority)) {
    return p;
  }
  if (Problem p = ReadBool(body, "ignore_eos", &job->ignore_eos)) return p;
  if (Problem p = ReadStop(body, "stop", &job->stop)) return p;
  if (Problem p = ReadStop(body, "stop_sequences", &job->stop)) return p;
  if (Problem p = ReadBool(body, "stream", &job->stream)) return p;
  const json::value* stream_options = Find(body, "stream_options");
  if (stream_options == nullptr) return std::nullopt;
  if (!stream_options->is_object())
    return WrongType("stream_options", "an object", *stream_options);
  const json::object& fields = stream_options->get_object();
  if (Problem p = ReadBool(fields, "include_usage", &job->include_usage)) return p;
  return ReadBool(fields, "continuous_usage_stats", &job->continuous_usage);
}

// A chat as the model's template writes it. What the template cannot tell (media, a last message
// that goes on) is told without it.
Problem ReadTemplatedChat(const json::object& body, std::string_view system, const Input& input,
                          Job* job) {
  if (input.tokenizer == nullptr) return ReadChat(body, "messages", system, input, job);
  if (Find(body, "messages") == nullptr) return Bad("'messages' is required", "messages");
  const auto done = input.tokenizer->EncodeChat(input.source, &job->prompts.emplace_back());
  if (done) return std::nullopt;
  using Unknown = tokens::PromptTokenizer::Unknown;
  const Unknown why = done.error().why;
  if (why != Unknown::kMedia && why != Unknown::kContinues && why != Unknown::kOtherFormat) {
    return Bad(done.error().detail, "messages");
  }
  job->prompts.clear();
  return ReadChat(body, "messages", system, input, job);
}

Problem ReadPrompt(const json::object& body, const Input& input, Job* job) {
  switch (job->api) {
    case Api::kChatCompletions:
      return ReadTemplatedChat(body, "", input, job);
    case Api::kMessages:
      return ReadTemplatedChat(body, "system", input, job);
    case Api::kResponses:
      return ReadChat(body, "input", "instructions", input, job);
    case Api::kCompletions:
      return ReadPrompts(body, "prompt", input, job);
    case Api::kTokenize:
      if (Find(body, "messages") != nullptr) return ReadTemplatedChat(body, "", input, job);
      return ReadPrompts(body, "prompt", input, job);
    case Api::kEmbeddings: {
      std::string format;
      if (Problem p = ReadInteger(body, "dimensions", 1, 65'536, &job->dimensions)) return p;
      if (Problem p = ReadText(body, "encoding_format", &format)) return p;
      if (!format.empty() && format != "float" && format != "base64") {
        return Bad("'encoding_format' is neither float nor base64", "encoding_format");
      }
      job->base64 = format == "base64";
      return ReadPrompts(body, "input", input, job);
    }
    case Api::kRerank:
      return ReadRerank(body, input, job);
    case Api::kScore:
      return ReadScore(body, input, job);
    default:
      break;
  }
  return HttpError{404, "NotFoundError", "Not Found"};
}

Problem CheckLengths(const Names& names, const Job& job) {
  const bool generates = job.api == Api::kChatCompletions || job.api == Api::kCompletions ||
                         job.api == Api::kResponses || job.api == Api::kMessages;
  const std::string limit = std::to_string(names.max_model_len);
  for (const std::vector<uint32_t>& prompt : job.prompts) {
    const std::string length = std::to_string(prompt.size());
    if (prompt.empty()) return Bad("The prompt is empty.", "prompt");
    if (prompt.size() + (generates ? 1 : 0) > names.max_model_len) {
      return Bad("This model's maximum context length is " + limit +
                     " tokens. However, your request has " + length +
                     " input tokens. Please reduce the length of the input messages.",
                 "input_tokens");
    }
    if (generates && job.max_tokens && prompt.size() + *job.max_tokens > names.max_model_len) {
      const std::string most = std::to_string(*job.max_tokens);
      return Bad("'max_tokens' or 'max_completion_tokens' is too large: " + most +
                     ". This model's maximum context length is " + limit +
                     " tokens and your request has " + length + " input tokens (" + most + " > " +
                     limit + " - " + length + ").",
                 "max_tokens");
    }
  }
  if (job.prompts.size() * job.n > names.max_choices) {
    return Bad("the request asks for " + std::to_string(job.prompts.size() * job.n) +
                   " answers, more than " + std::to_string(names.max_choices),
               "n");
  }
  return std::nullopt;
}

}  // namespace

std::string RenderError(const HttpError& error, Api api) {
  json::object inner;
  if (api == Api::kMessages) {
    const std::string_view type = error.status == 404   ? "not_found_error"
                                  : error.status == 429 ? "rate_limit_error"
                                  : error.status >= 500 ? "api_error"
                                                        : "invalid_request_error";
    inner["type"] = type;
    inner["message"] = error.message;
    return json::serialize(json::object{{"type", "error"}, {"error", std::move(inner)}});
  }
  inner["message"] = error.message;
  inner["type"] = error.type;
  inner["param"] = error.param.empty() ? json::value(nullptr) : json::value(error.param);
  inner["code"] = error.status;
  return json::serialize(json::object{{"error", std::move(inner)}});
}

PostPath ClassifyPath(std::string_view path) {
  constexpr std::pair<std::string_view, PostPath> kPaths[] = {
      {"/v1/chat/completions", {Api::kChatCompletions}},
      {"/v1/chat/completions/render", {Api::kChatCompletions, true}},
      {"/v1/completions", {Api::kCompletions}},
      {"/v1/completions/render", {Api::kCompletions, true}},
      {"/v1/responses", {Api::kResponses}},
      {"/v1/responses/render", {Api::kResponses, true}},
      {"/v1/messages", {Api::kMessages}},
      {"/v1/messages/render", {Api::kMessages, true}},
      {"/v1/embeddings", {Api::kEmbeddings}},
      {"/tokenize", {Api::kTokenize}},
      {"/rerank", {Api::kRerank}},
      {"/v1/rerank", {Api::kRerank}},
      {"/v2/rerank", {Api::kRerank}},
      {"/score", {Api::kScore}},
      {"/v1/score", {Api::kScore}},
  };
  for (const auto& [known, post] : kPaths) {
    if (path == known) return post;
  }
  return {};
}

std::expected<Job, HttpError> ParseJob(Api api, std::string_view body, const Names& names) {
  json::error_code bad;
  json::parse_options options;
  options.max_depth = kMaxDepth;
  const json::value value = json::parse(body, bad, {}, options);
  if (bad) return std::unexpected(Bad("The body is not JSON: " + bad.message(), {}));
  if (!value.is_object()) return std::unexpected(Bad("The body is not a JSON object.", {}));
  const json::object& fields = value.get_object();
  Job job;
  job.api = api;
  for (const auto read : {ReadModel, ReadSampling}) {
    if (Problem problem = read(fields, names, &job)) return std::unexpected(std::move(*problem));
  }
  if (Problem p = ReadText(fields, "cache_salt", &job.cache_salt)) return std::unexpected(*p);
  const Input input{names.tokenizer,
                    names.tokenizer == nullptr ? model::PromptSource() : SourceOf(api, body)};
  if (Problem p = ReadPrompt(fields, input, &job)) return std::unexpected(std::move(*p));
  if (api == Api::kTokenize) return job;
  if (Problem p = CheckLengths(names, job)) return std::unexpected(std::move(*p));
  return job;
}

}  // namespace penstock::sim
