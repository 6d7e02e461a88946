#include "sim/answer_format.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numeric>
#include <utility>

#include "core/random.h"

namespace penstock::sim {
namespace {

namespace json = boost::json;
using model::Api;

constexpr uint32_t kDefaultDimensions = 384;

template <class... Args>
void Append(std::string* out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(*out), format, std::forward<Args>(args)...);
}

// With its quotes.
std::string Quoted(std::string_view text) { return json::serialize(json::value(text)); }

std::string_view ReasonName(engine::FinishReason reason) {
  return reason == engine::FinishReason::kStop ? "stop" : "length";
}

std::string QuotedOrNull(std::string_view text) { return text.empty() ? "null" : Quoted(text); }

void AppendUsage(const TokenUsage& usage, std::string* out) {
  Append(out,
         R"("usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},)"
         R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
         usage.prompt_tokens, usage.prompt_tokens + usage.output_tokens, usage.output_tokens,
         usage.cached_tokens);
}

// Chat and plain completions share everything but the shape of a choice.
class OpenAiStream final : public StreamFormat {
 public:
  OpenAiStream(const Job& job, const AnswerHead& head)
      : is_chat_(job.api == Api::kChatCompletions),
        choices_(static_cast<uint32_t>(job.prompts.size()) * job.n),
        include_usage_(job.include_usage),
        continuous_usage_(job.include_usage && job.continuous_usage) {
    prefix_ = fmt::format(R"(data: {{"id":{},"object":"{}","created":{},"model":{},"choices":[)",
                          Quoted(head.id), is_chat_ ? "chat.completion.chunk" : "text_completion",
                          head.created, Quoted(head.model));
  }

  void Begin(const TokenUsage& usage, std::string* out) override {
    if (!is_chat_) return;
    for (uint32_t choice = 0; choice < choices_; ++choice) {
      *out += prefix_;
      Append(out,
             R"({{"index":{},"delta":{{"role":"assistant","content":""}},"logprobs":null,)"
             R"("finish_reason":null}}])",
             choice);
      CloseEvent(usage, out);
    }
  }

  void Token(uint32_t choice, std::string_view text, const Ending* ending, const TokenUsage& usage,
             std::string* out) override {
    *out += prefix_;
    Append(out, R"({{"index":{},)", choice);
    *out += is_chat_ ? R"("delta":{"content":")" : R"("text":")";
    *out += text;
    *out += is_chat_ ? R"("},"logprobs":null,"finish_reason":)"
                     : R"(","logprobs":null,"finish_reason":)";
    if (ending == nullptr) {
      *out += "null}]";
    } else {
      Append(out, R"("{}","stop_reason":{}}}])", ReasonName(ending->reason),
             QuotedOrNull(ending->stop_text));
    }
    CloseEvent(usage, out);
  }

  void End(const TokenUsage& usage, std::string* out) override {
    if (include_usage_) {
      *out += prefix_;
      *out += "],";
      AppendUsage(usage, out);
      *out += "}\n\n";
    }
    *out += "data: [DONE]\n\n";
  }

 private:
  void CloseEvent(const TokenUsage& usage, std::string* out) const {
    if (continuous_usage_) {
      *out += ',';
      AppendUsage(usage, out);
    }
    *out += "}\n\n";
  }

  const bool is_chat_;
  const uint32_t choices_;
  const bool include_usage_;
  const bool continuous_usage_;
  std::string prefix_;
};

std::string MessagesStop(const Ending& ending) {
  const std::string_view reason = !ending.stop_text.empty()                      ? "stop_sequence"
                                  : ending.reason == engine::FinishReason::kStop ? "end_turn"
                                                                                 : "max_tokens";
  return fmt::format(R"("stop_reason":"{}","stop_sequence":{})", reason,
                     QuotedOrNull(ending.stop_text));
}

// Anthropic counts input tokens without those read from the cache.
std::string MessagesUsage(const TokenUsage& usage) {
  return fmt::format(R"("usage":{{"input_tokens":{},"cache_creation_input_tokens":0,)"
                     R"("cache_read_input_tokens":{},"output_tokens":{}}})",
                     usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens,
                     usage.output_tokens);
}

class MessagesStream final : public StreamFormat {
 public:
  explicit MessagesStream(const AnswerHead& head) : head_(head) {}

  void Begin(const TokenUsage& usage, std::string* out) override {
    Append(out,
           "event: message_start\n"
           R"(data: {{"type":"message_start","message":{{"id":{},"type":"message",)"
           R"("role":"assistant","model":{},"content":[],"stop_reason":null,)"
           R"("stop_sequence":null,"usage":{{"input_tokens":{},"output_tokens":{}}}}}}})"
           "\n\n",
           Quoted(head_.id), Quoted(head_.model), usage.prompt_tokens - usage.cached_tokens,
           usage.output_tokens);
    *out +=
        "event: content_block_start\n"
        R"(data: {"type":"content_block_start","index":0,)"
        R"("content_block":{"type":"text","text":""}})"
        "\n\n";
  }

  void Token(uint32_t, std::string_view text, const Ending* ending, const TokenUsage&,
             std::string* out) override {
    *out +=
        "event: content_block_delta\n"
        R"(data: {"type":"content_block_delta","index":0,)"
        R"("delta":{"type":"text_delta","text":")";
    *out += text;
    *out += "\"}}\n\n";
    if (ending != nullptr) stop_ = MessagesStop(*ending);
  }

  void End(const TokenUsage& usage, std::string* out) override {
    *out +=
        "event: content_block_stop\n"
        R"(data: {"type":"content_block_stop","index":0})"
        "\n\n";
    Append(out,
           "event: message_delta\n"
           R"(data: {{"type":"message_delta","delta":{{{}}},{}}})"
           "\n\n",
           stop_, MessagesUsage(usage));
    *out += "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  }

 private:
  const AnswerHead head_;
  std::string stop_;
};

std::string ResponsesUsage(const TokenUsage& usage) {
  return fmt::format(
      R"("usage":{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{}}},)"
      R"("output_tokens":{},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{}}})",
      usage.prompt_tokens, usage.cached_tokens, usage.output_tokens,
      usage.prompt_tokens + usage.output_tokens);
}

std::string ResponsesPart(std::string_view text) {
  return fmt::format(R"({{"type":"output_text","text":"{}","annotations":[]}})", text);
}

std::string ResponsesItem(const AnswerHead& head, std::string_view status, std::string_view parts) {
  return fmt::format(
      R"({{"id":{},"type":"message","role":"assistant","status":"{}","content":[{}]}})",
      Quoted("msg_" + head.id), status, parts);
}

// The response object itself. `items` is the content of "output"; `usage` nullptr while it runs.
std::string ResponsesObject(const AnswerHead& head, std::string_view status, std::string_view items,
                            const TokenUsage* usage) {
  const bool cut = status == "incomplete";
  return fmt::format(
      R"({{"id":{},"object":"response","created_at":{},"status":"{}","error":null,)"
      R"("incomplete_details":{},"instructions":null,"metadata":{{}},"model":{},"output":[{}],)"
      R"("parallel_tool_calls":true,"temperature":1.0,"tool_choice":"auto","tools":[],)"
      R"("top_p":1.0,{}}})",
      Quoted(head.id), head.created, status, cut ? R"({"reason":"max_output_tokens"})" : "null",
      Quoted(head.model), items, usage == nullptr ? R"("usage":null)" : ResponsesUsage(*usage));
}

std::string_view ResponsesStatus(engine::FinishReason reason) {
  return reason == engine::FinishReason::kStop ? "completed" : "incomplete";
}

class ResponsesStream final : public StreamFormat {
 public:
  explicit ResponsesStream(const AnswerHead& head) : head_(head), item_(Quoted("msg_" + head.id)) {}

  void Begin(const TokenUsage&, std::string* out) override {
    const std::string response = ResponsesObject(head_, "in_progress", "", nullptr);
    Event("response.created", fmt::format(R"("response":{})", response), out);
    Event("response.in_progress", fmt::format(R"("response":{})", response), out);
    Event("response.output_item.added",
          fmt::format(R"("output_index":0,"item":{})", ResponsesItem(head_, "in_progress", "")),
          out);
    Event("response.content_part.added", Where() + R"(,"part":)" + ResponsesPart(""), out);
  }

  void Token(uint32_t, std::string_view text, const Ending* ending, const TokenUsage&,
             std::string* out) override {
    text_ += text;
    Event("response.output_text.delta",
          fmt::format(R"({},"delta":"{}","logprobs":[])", Where(), text), out);
    if (ending != nullptr) reason_ = ending->reason;
  }

  void End(const TokenUsage& usage, std::string* out) override {
    Event("response.output_text.done",
          fmt::format(R"({},"text":"{}","logprobs":[])", Where(), text_), out);
    Event("response.content_part.done", Where() + R"(,"part":)" + ResponsesPart(text_), out);
    const std::string item = ResponsesItem(head_, "completed", ResponsesPart(text_));
    Event("response.output_item.done", R"("output_index":0,"item":)" + item, out);
    const std::string_view status = ResponsesStatus(reason_);
    Event(fmt::format("response.{}", status),
          R"("response":)" + ResponsesObject(head_, status, item, &usage), out);
  }

 private:
  std::string Where() const { return R"("output_index":0,"content_index":0,"item_id":)" + item_; }
  void Event(std::string_view type, std::string_view fields, std::string* out) {
    Append(out, "event: {}\ndata: {{\"type\":\"{}\",\"sequence_number\":{},{}}}\n\n", type, type,
           sequence_++, fields);
  }

  const AnswerHead head_;
  const std::string item_;
  std::string text_;
  engine::FinishReason reason_ = engine::FinishReason::kStop;
  uint64_t sequence_ = 0;
};

uint64_t TokensHash(std::span<const uint32_t> tokens) {
  return XXH3_64bits(tokens.data(), tokens.size_bytes());
}

std::vector<float> Embedding(std::span<const uint32_t> tokens, uint32_t dimensions) {
  Random random(TokensHash(tokens));
  std::vector<float> vector(dimensions);
  double squares = 0;
  for (float& x : vector) {
    x = static_cast<float>(random.Uniform() - 0.5);
    squares += double{x} * x;
  }
  const double length = std::sqrt(squares);
  if (length > 0) {
    for (float& x : vector) x = static_cast<float>(x / length);
  }
  return vector;
}

// Little-endian floats, as the OpenAI client asks for.
std::string Base64(std::span<const float> values) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<unsigned char> bytes(values.size_bytes());
  std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    const uint32_t group =
        bytes[i] << 16 | (n > 1 ? bytes[i + 1] << 8 : 0) | (n > 2 ? bytes[i + 2] : 0);
    for (size_t k = 0; k < 4; ++k) {
      out += k <= n ? kAlphabet[(group >> (18 - 6 * k)) & 63] : '=';
    }
  }
  return out;
}

std::string RenderEmbeddings(const Job& job, const AnswerHead& head, const TokenUsage& usage) {
  const uint32_t dimensions = job.dimensions > 0 ? job.dimensions : kDefaultDimensions;
  std::string out = fmt::format(R"({{"id":{},"object":"list","created":{},"model":{},"data":[)",
                                Quoted(head.id), head.created, Quoted(head.model));
  for (size_t i = 0; i < job.prompts.size(); ++i) {
    const std::vector<float> vector = Embedding(job.prompts[i], dimensions);
    if (i > 0) out += ',';
    Append(&out, R"({{"index":{},"object":"embedding","embedding":)", i);
    if (job.base64) {
      Append(&out, R"("{}"}})", Base64(vector));
    } else {
      Append(&out, "[{}]}}", fmt::join(vector, ","));
    }
  }
  out += "],";
  AppendUsage(usage, &out);
  out += '}';
  return out;
}

// In [0, 1).
double PairScore(std::span<const uint32_t> tokens) { return Random(TokensHash(tokens)).Uniform(); }

std::string RenderRerank(const Job& job, const AnswerHead& head, const TokenUsage& usage) {
  std::vector<double> scores;
  for (const auto& prompt : job.prompts) scores.push_back(PairScore(prompt));
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  if (job.top_n > 0 && job.top_n < order.size()) order.resize(job.top_n);
  std::string out =
      fmt::format(R"({{"id":{},"model":{},"usage":{{"prompt_tokens":{},"total_tokens":{}}},)",
                  Quoted(head.id), Quoted(head.model), usage.prompt_tokens, usage.prompt_tokens);
  out += R"("results":[)";
  for (size_t i = 0; i < order.size(); ++i) {
    Append(&out, R"({}{{"index":{},"document":{{"text":{}}},"relevance_score":{}}})",
           i > 0 ? "," : "", order[i], Quoted(job.documents[order[i]]), scores[order[i]]);
  }
  out += "]}";
  return out;
}

std::string RenderScores(const Job& job, const AnswerHead& head, const TokenUsage& usage) {
  std::string out = fmt::format(R"({{"id":{},"object":"list","created":{},"model":{},"data":[)",
                                Quoted(head.id), head.created, Quoted(head.model));
  for (size_t i = 0; i < job.prompts.size(); ++i) {
    Append(&out, R"({}{{"index":{},"object":"score","score":{}}})", i > 0 ? "," : "", i,
           PairScore(job.prompts[i]));
  }
  out += "],";
  AppendUsage(usage, &out);
  out += '}';
  return out;
}

}  // namespace

std::string_view IdPrefix(Api api) {
  switch (api) {
    case Api::kChatCompletions:
      return "chatcmpl-";
    case Api::kCompletions:
      return "cmpl-";
    case Api::kResponses:
      return "resp_";
    case Api::kMessages:
      return "msg_";
    case Api::kEmbeddings:
      return "embd-";
    case Api::kRerank:
      return "rerank-";
    case Api::kScore:
      return "score-";
    default:
      return "";
  }
}

std::unique_ptr<StreamFormat> MakeStreamFormat(const Job& job, const AnswerHead& head) {
  if (job.api == Api::kMessages) return std::make_unique<MessagesStream>(head);
  if (job.api == Api::kResponses) return std::make_unique<ResponsesStream>(head);
  return std::make_unique<OpenAiStream>(job, head);
}

std::string RenderWhole(const Job& job, const AnswerHead& head,
                        std::span<const WholeChoice> choices, const TokenUsage& usage) {
  if (job.api == Api::kMessages) {
    return fmt::format(R"({{"id":{},"type":"message","role":"assistant","model":{},)"
                       R"("content":[{{"type":"text","text":"{}"}}],{},{}}})",
                       Quoted(head.id), Quoted(head.model), choices[0].text,
                       MessagesStop(choices[0].ending), MessagesUsage(usage));
  }
  if (job.api == Api::kResponses) {
    const std::string item = ResponsesItem(head, "completed", ResponsesPart(choices[0].text));
    return ResponsesObject(head, ResponsesStatus(choices[0].ending.reason), item, &usage);
  }
  const bool is_chat = job.api == Api::kChatCompletions;
  std::string out = fmt::format(R"({{"id":{},"object":"{}","created":{},"model":{},"choices":[)",
                                Quoted(head.id), is_chat ? "chat.completion" : "text_completion",
                                head.created, Quoted(head.model));
  for (size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) out += ',';
    Append(&out, R"({{"index":{},)", i);
    if (is_chat) {
      Append(&out, R"("message":{{"role":"assistant","content":"{}"}})", choices[i].text);
    } else {
      Append(&out, R"("text":"{}")", choices[i].text);
    }
    Append(&out, R"(,"logprobs":null,"finish_reason":"{}","stop_reason":{}}})",
           ReasonName(choices[i].ending.reason), QuotedOrNull(choices[i].ending.stop_text));
  }
  out += "],";
  AppendUsage(usage, &out);
  out += '}';
  return out;
}

std::string RenderPooled(const Job& job, const AnswerHead& head, const TokenUsage& usage) {
  if (job.api == Api::kEmbeddings) return RenderEmbeddings(job, head, usage);
  if (job.api == Api::kRerank) return RenderRerank(job, head, usage);
  return RenderScores(job, head, usage);
}

std::string RenderTokens(const Job& job, uint32_t max_model_len) {
  const std::vector<uint32_t>& tokens = job.prompts[0];
  return fmt::format(R"({{"count":{},"max_model_len":{},"tokens":[{}],"token_strs":null}})",
                     tokens.size(), max_model_len, fmt::join(tokens, ","));
}

std::string RenderPrompts(const Job& job, std::string_view id) {
  std::string out;
  for (const std::vector<uint32_t>& tokens : job.prompts) {
    Append(&out,
           R"({}{{"request_id":{},"token_ids":[{}],"features":null,"sampling_params":{{}},)"
           R"("model":{},"stream":{}}})",
           out.empty() ? "" : ",", Quoted(id), fmt::to_string(fmt::join(tokens, ",")),
           Quoted(job.model), job.stream);
  }
  return job.api == model::Api::kCompletions ? "[" + out + "]" : out;
}

std::string RenderModels(const Names& names, int64_t created) {
  std::string out = R"({"object":"list","data":[)";
  const auto add = [&](std::string_view id, std::string_view parent, uint32_t max_model_len) {
    Append(&out,
           R"({}{{"id":{},"object":"model","created":{},"owned_by":"vllm","root":{},"parent":{},)"
           R"("max_model_len":{},"permission":[]}})",
           id == names.model ? "" : ",", Quoted(id), created, Quoted(id), QuotedOrNull(parent),
           max_model_len > 0 ? std::to_string(max_model_len) : "null");
  };
  add(names.model, "", names.max_model_len);
  for (const std::string& lora : names.loras) add(lora, names.model, 0);
  out += "]}";
  return out;
}

}  // namespace penstock::sim
