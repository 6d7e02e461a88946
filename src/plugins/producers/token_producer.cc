// The tokens of a prompt: its ids where the client sends them or the model's tokenizer is at hand,
// else how many they are, by the estimate that four bytes are one token.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <random>

#include "plugins/builtin_types.h"
#include "tokens/prompt_tokenizer.h"

namespace penstock::plugins {
namespace {

using sched::PromptTokens;

// What became of a prompt.
enum class Outcome : uint8_t {
  kNoPrompt,
  kIds,
  kTokenised,
  kNotWanted,
  kNoTokenizer,
  kMedia,
  kTruncated,
  kOtherApi,
  kAnthropic,
  kNoTemplate,
  kOwnTemplate,
  kOtherFormat,
  kContinues,
  kRefused,
  kNotSupported,
  kTooLong,
};
struct OutcomeNames {
  std::string_view label;
  std::string_view unknown_because;  // "": its ids are known
};
constexpr std::array<OutcomeNames, 16> kOutcomes = {{
    {"no_prompt", "the request has no prompt"},
    {"ids", ""},
    {"tokenised", ""},
    {"not_wanted", "no engine tells what its cache holds"},
    {"no_tokenizer", "there is no tokenizer for the model"},
    {"media", "images, audio or video are part of the prompt"},
    {"truncated", "the client asks the engine to truncate the prompt"},
    {"other_api", "the API's prompt is neither a chat nor a text nor token ids"},
    // vLLM makes a chat of system, thinking, tool calls and results in ways that change with its
    // versions.
    {"anthropic", "the engine turns Anthropic messages into a chat in its own way"},
    {"no_template", "the model has no chat template"},
    {"own_template", "the client brings its own chat template"},
    {"other_format", "the engine writes this model's chats by other means than a template"},
    {"continues", "the answer goes on from the last message"},
    {"refused", "the chat template or the engine would refuse the request"},
    {"not_supported", "the template does what is not supported here"},
    {"too_long", "the prompt is too long for the tokenizer"},
}};

Outcome OutcomeOf(tokens::PromptTokenizer::Unknown why) {
  using Unknown = tokens::PromptTokenizer::Unknown;
  switch (why) {
    case Unknown::kNoTemplate:
      return Outcome::kNoTemplate;
    case Unknown::kOwnTemplate:
      return Outcome::kOwnTemplate;
    case Unknown::kOtherFormat:
      return Outcome::kOtherFormat;
    case Unknown::kContinues:
      return Outcome::kContinues;
    case Unknown::kMedia:
      return Outcome::kMedia;
    case Unknown::kRefused:
      return Outcome::kRefused;
    case Unknown::kNotSupported:
      return Outcome::kNotSupported;
    case Unknown::kTooLong:
      return Outcome::kTooLong;
  }
  return Outcome::kRefused;
}

// Each prompt of the request is rounded up on its own.
uint64_t Estimate(const model::Request& request) {
  using model::kBytesPerToken;
  uint64_t tokens = 0;
  uint64_t bytes = 0;
  for (const model::PromptPart& part : request.prompt) {
    if (part.starts_sequence) {
      tokens += (bytes + kBytesPerToken - 1) / kBytesPerToken;
      bytes = 0;
    }
    bytes += part.bytes.size();
  }
  return tokens + (bytes + kBytesPerToken - 1) / kBytesPerToken + request.extra_tokens;
}

// REQUIRES: the prompt's parts hold ids.
void TakeIds(const model::Request& request, PromptTokens* tokens) {
  size_t bytes = 0;
  for (const model::PromptPart& part : request.prompt) bytes += part.bytes.size();
  tokens->ids.resize(bytes / sizeof(uint32_t));
  size_t at = 0;
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    const model::PromptPart& part = request.prompt[i];
    if (i > 0 && part.starts_sequence) tokens->sequence_ends.push_back(static_cast<uint32_t>(at));
    if (part.bytes.empty()) continue;
    std::memcpy(tokens->ids.data() + at, part.bytes.data(), part.bytes.size());
    at += part.bytes.size() / sizeof(uint32_t);
  }
  tokens->sequence_ends.push_back(static_cast<uint32_t>(at));
}

// A model's tokenizer, from files.
struct ModelParams {
  std::string name;
  std::string tokenizer;
  std::string chat_template;
  std::string chat_template_kwargs;
  template <class V>
  void Describe(V& v) {
    v.Field("name", name,
            {.text = "Model as engines know it; without a name, every model and adapter that no "
                     "other entry names."});
    v.Field("tokenizer", tokenizer,
            {.text = "tokenizer.json, a SentencePiece model (.model), or the model's folder; the "
                     "chat template is read from the files beside it.",
             .required = true});
    v.Field("chatTemplate", chat_template,
            {.text = "Jinja file in place of the model's own chat template, as vLLM's "
                     "--chat-template."});
    v.Field("chatTemplateKwargs", chat_template_kwargs,
            {.text = "Variables of the chat template as a JSON object, as vLLM's "
                     "--default-chat-template-kwargs."});
  }
};

class TokenProducer : public sched::Producer {
 public:
  struct Params {
    std::vector<ModelParams> models;
    uint32_t cache_mib = 64;
    std::string model_name;
    wire::YamlNode vllm;
    wire::YamlNode estimate;
    wire::YamlNode uds_tokenizer_config;
    template <class V>
    void Describe(V& v) {
      v.Field("models", models,
              {.text = "Tokenizers of the models, from local files: prompts become the token ids "
                       "that engines make of them."});
      v.Field("cacheMiB", cache_mib,
              {.text = "Memory of each tokenizer for the tokens of texts seen before, so that a "
                       "chat's next turn costs its new part only.",
               .unit = "MiB",
               .min = 0,
               .max = 65536});
      v.Field("modelName", model_name,
              {.text = "Accepted and without effect: models says which tokenizer is whose."});
      v.Field("vllm", vllm, {.text = "An engine's render endpoints as the tokenizer."});
      v.Field("estimate", estimate,
              {.text = "The estimate of four bytes a token, with its own settings: `{}`."});
      v.Field("udsTokenizerConfig", uds_tokenizer_config,
              {.text = "A tokenizer service on a Unix socket.", .deprecated = "use vllm."});
    }
    std::string Problem() const {
      if (estimate.kind != wire::YamlNode::Kind::kNull && !estimate.entries.empty()) {
        return "estimate: settings of the estimate of images and video are not available; write "
               "estimate: {}";
      }
      if (vllm.kind != wire::YamlNode::Kind::kNull) {
        return "vllm: the render back end is not available yet; name the model's tokenizer files "
               "under models, or leave it out to count tokens by the estimate of four bytes each";
      }
      if (uds_tokenizer_config.kind != wire::YamlNode::Kind::kNull) {
        return "udsTokenizerConfig: a tokenizer on a Unix socket is not available; leave it out "
               "to count tokens by the estimate of four bytes each";
      }
      for (size_t i = 0; i < models.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
          if (models[i].name != models[j].name) continue;
          return models[i].name.empty() ? "models: two entries have no name; only one can stand "
                                          "for all other models"
                                        : "models: '" + models[i].name + "' is there twice";
        }
      }
      return "";
    }
  };
  using Tokenizers = std::map<std::string, std::shared_ptr<const tokens::PromptTokenizer>,
                              std::less<>>;  // by model; "": of the others

  // Entries of the same files share a tokenizer. Errors name entry and file.
  static Result<std::unique_ptr<TokenProducer>> Load(const Params& params);
  explicit TokenProducer(Tokenizers tokenizers) : tokenizers_(std::move(tokenizers)) {}

  std::vector<sched::DataKey> Produces() const override { return {sched::DataKey::kTokens}; }

  void Prepare(sched::RequestContext& context, Time) const override {
    context.tokens = {};
    const Outcome outcome = Learn(context, &context.tokens);
    counts_[static_cast<size_t>(outcome)].fetch_add(1, std::memory_order_relaxed);
    context.tokens.unknown_because = kOutcomes[static_cast<size_t>(outcome)].unknown_because;
    context.tokens.are_known = context.tokens.unknown_because.empty();
    context.input_tokens =
        context.tokens.are_known ? context.tokens.ids.size() : Estimate(context.request);
  }
  std::vector<sched::PluginStat> Stats() const override {
    std::vector<sched::PluginStat> stats;
    for (size_t i = 0; i < kOutcomes.size(); ++i) {
      stats.push_back({"token_prompts_total",
                       static_cast<double>(counts_[i].load(std::memory_order_relaxed)),
                       kOutcomes[i].label});
    }
    if (tokenizers_.empty()) return stats;
    tokens::TokenCache::Stats sum;
    for (const tokens::PromptTokenizer* tokenizer : Distinct()) {
      const tokens::TokenCache::Stats one = tokenizer->cache_stats();
      sum.texts += one.texts;
      sum.text_bytes += one.text_bytes;
      sum.reused_bytes += one.reused_bytes;
      sum.entries += one.entries;
      sum.bytes += one.bytes;
      sum.evicted += one.evicted;
    }
    stats.push_back({"token_texts_total", static_cast<double>(sum.texts)});
    stats.push_back({"token_text_bytes_total", static_cast<double>(sum.text_bytes)});
    stats.push_back({"token_reused_bytes_total", static_cast<double>(sum.reused_bytes)});
    stats.push_back({"token_cache_entries", static_cast<double>(sum.entries)});
    stats.push_back({"token_cache_bytes", static_cast<double>(sum.bytes)});
    stats.push_back({"token_cache_evictions_total", static_cast<double>(sum.evicted)});
    return stats;
  }
  bool PreparesSlowly() const override { return !tokenizers_.empty(); }
  uint64_t MaxBytes() const override {
    uint64_t bytes = 0;
    for (const tokens::PromptTokenizer* tokenizer : Distinct()) bytes += tokenizer->cache_bytes();
    return bytes;
  }

 private:
  Outcome Learn(const sched::RequestContext& context, PromptTokens* tokens) const {
    const model::Request& request = context.request;
    const model::PromptSource& source = request.source;
    if (request.prompt.empty()) return Outcome::kNoPrompt;
    if (source.has_media || !source.prompt_embeds.empty()) return Outcome::kMedia;
    if (!source.truncate_prompt_tokens.empty()) return Outcome::kTruncated;
    if (source.holds_ids) {
      TakeIds(request, tokens);
      return Outcome::kIds;
    }
    if (request.api == model::Api::kMessages) return Outcome::kAnthropic;
    const bool is_chat = !source.messages.empty();
    if (!is_chat && request.api != model::Api::kCompletions &&
        request.api != model::Api::kTokenize) {
      return Outcome::kOtherApi;
    }
    const tokens::PromptTokenizer* tokenizer = Find(request.target_model);
    if (tokenizer == nullptr) return Outcome::kNoTokenizer;
    if (!context.wants_token_ids) return Outcome::kNotWanted;
    const auto done = is_chat ? tokenizer->EncodeChat(source, &tokens->ids)
                              : EncodeTexts(request, *tokenizer, tokens);
    if (!done) {
      tokens->ids.clear();
      tokens->sequence_ends.clear();
      return OutcomeOf(done.error().why);
    }
    if (is_chat) tokens->sequence_ends.push_back(static_cast<uint32_t>(tokens->ids.size()));
    return Outcome::kTokenised;
  }

  // A prompt of text is one part.
  static tokens::PromptTokenizer::Encoded EncodeTexts(const model::Request& request,
                                                      const tokens::PromptTokenizer& tokenizer,
                                                      PromptTokens* tokens) {
    for (const model::PromptPart& part : request.prompt) {
      auto done = tokenizer.EncodeText(part.bytes, request.source.add_special_tokens, &tokens->ids);
      if (!done) return done;
      tokens->sequence_ends.push_back(static_cast<uint32_t>(tokens->ids.size()));
    }
    return {};
  }

  const tokens::PromptTokenizer* Find(std::string_view model) const {
    auto it = tokenizers_.find(model);
    if (it == tokenizers_.end()) it = tokenizers_.find("");
    return it == tokenizers_.end() ? nullptr : it->second.get();
  }

  std::vector<const tokens::PromptTokenizer*> Distinct() const {
    std::vector<const tokens::PromptTokenizer*> all;
    for (const auto& [name, tokenizer] : tokenizers_) {
      if (std::ranges::find(all, tokenizer.get()) == all.end()) all.push_back(tokenizer.get());
    }
    return all;
  }

  const Tokenizers tokenizers_;
  mutable std::array<std::atomic<uint64_t>, kOutcomes.size()> counts_{};
};

Result<std::unique_ptr<TokenProducer>> TokenProducer::Load(const Params& params) {
  std::random_device entropy;
  Tokenizers all;
  for (size_t i = 0; i < params.models.size(); ++i) {
    const ModelParams& model = params.models[i];
    std::shared_ptr<const tokens::PromptTokenizer>& into = all[model.name];
    for (size_t j = 0; j < i && into == nullptr; ++j) {
      const ModelParams& other = params.models[j];
      if (model.tokenizer == other.tokenizer && model.chat_template == other.chat_template &&
          model.chat_template_kwargs == other.chat_template_kwargs) {
        into = all[other.name];
      }
    }
    if (into != nullptr) continue;
    auto loaded = tokens::PromptTokenizer::Load({.path = model.tokenizer,
                                                 .chat_template = model.chat_template,
                                                 .chat_template_kwargs = model.chat_template_kwargs,
                                                 .cache_bytes = size_t{params.cache_mib} << 20,
                                                 .secret = uint64_t{entropy()} << 32 | entropy()});
    if (!loaded) {
      return Fail(loaded.error().code,
                  "models[" + std::to_string(i) + "]: " + loaded.error().message);
    }
    into = *std::move(loaded);
  }
  return std::make_unique<TokenProducer>(std::move(all));
}

}  // namespace

sched::PluginType TokenProducerType() {
  sched::PluginType type;
  type.type = "token-producer";
  type.kind = sched::Kind::kProducer;
  type.text =
      "Finds out the token ids of a prompt, where the client sends them or the model's tokenizer "
      "is at hand; else their number, by the estimate of four bytes each.";
  type.parameters = [] { return config::Fields<TokenProducer::Params>(); };
  type.make = [](const wire::YamlNode& node, std::string_view path,
                 config::Diagnostics* diagnostics) -> std::unique_ptr<sched::Plugin> {
    TokenProducer::Params params;
    if (!config::ParseInto(node, path, &params, diagnostics)) return nullptr;
    std::string problem = params.Problem();
    if (problem.empty()) {
      auto made = TokenProducer::Load(params);
      if (made) return *std::move(made);
      problem = made.error().message;
    }
    diagnostics->errors.push_back(
        wire::At(diagnostics->file, node, std::string(path) + ": " + problem));
    return nullptr;
  };
  type.aliases = {"tokenizer"};
  type.formula =
      "the number of ids; where they are not known ceil(bytes / 4) for each prompt, plus the "
      "estimate for images, audio and video";
  type.default_producer_of = {sched::DataKey::kTokens};
  return type;
}

}  // namespace penstock::plugins
