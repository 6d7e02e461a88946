// The tokens of a prompt: its ids where the client sends them, the model's tokenizer is at hand or
// an engine can be asked for them, else how many they are, by the estimate that four bytes are one
// token.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "config/serve_config.h"
#include "plugins/builtin_types.h"
#include "tokens/asked_tokens.h"
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
  kNoTemplate,
  kOwnTemplate,
  kOtherFormat,
  kContinues,
  kRefused,
  kNotSupported,
  kTooLong,
  kTold,
  kToldBefore,
  kAskBusy,
  kAskNobody,
  kAskResting,
  kAskNoRoute,
  kAskTimeout,
  kAskUnreached,
  kAskFailed,
  kAskRefused,
  kAskBadAnswer,
  kAskTooLarge,
};
constexpr size_t kOutcomeCount = 27;
struct OutcomeNames {
  std::string_view label;
  std::string_view unknown_because;  // "": its ids are known
};
constexpr std::array<OutcomeNames, kOutcomeCount> kOutcomes = {{
    {"no_prompt", "the request has no prompt"},
    {"ids", ""},
    {"tokenised", ""},
    {"not_wanted", "no engine tells what its cache holds"},
    {"no_tokenizer", "there is no tokenizer for the model"},
    {"media", "images, audio or video are part of the prompt"},
    {"truncated", "the client asks the engine to truncate the prompt"},
    {"other_api", "the API's prompt is neither a chat nor a text nor token ids"},
    {"no_template", "the model has no chat template"},
    {"own_template", "the client brings its own chat template"},
    {"other_format", "the engine writes this model's chats by other means than a template"},
    {"continues", "the answer goes on from the last message"},
    {"refused", "the chat template or the engine would refuse the request"},
    {"not_supported", "the template does what is not supported here"},
    {"too_long", "the prompt is too long for the tokenizer"},
    {"told", ""},
    {"told_before", ""},
    {"ask_busy", "too many prompts' tokens are being asked for already"},
    {"ask_nobody", "nobody can be asked for the tokens of this model"},
    {"ask_resting", "whoever could be asked for the tokens has failed, and rests"},
    {"ask_no_route", "whoever could be asked for the tokens has no endpoint that tells them"},
    {"ask_timeout", "whoever was asked for the tokens did not answer in time"},
    {"ask_unreached", "whoever was asked for the tokens could not be reached"},
    {"ask_failed", "whoever was asked for the tokens failed"},
    {"ask_refused", "whoever was asked for the tokens refused the request"},
    {"ask_bad_answer", "whoever was asked for the tokens answered something else"},
    {"ask_too_large", "the answer of whoever was asked for the tokens was too large"},
}};

// REQUIRES: neither told nor of no use.
Outcome OutcomeOf(tokens::AskResult result) {
  using tokens::AskResult;
  switch (result) {
    case AskResult::kTold:
    case AskResult::kNotOfUse:
    case AskResult::kBusy:
      return Outcome::kAskBusy;
    case AskResult::kNobody:
      return Outcome::kAskNobody;
    case AskResult::kResting:
      return Outcome::kAskResting;
    case AskResult::kNoRoute:
      return Outcome::kAskNoRoute;
    case AskResult::kTimeout:
      return Outcome::kAskTimeout;
    case AskResult::kUnreached:
      return Outcome::kAskUnreached;
    case AskResult::kFailed:
      return Outcome::kAskFailed;
    case AskResult::kRefused:
      return Outcome::kAskRefused;
    case AskResult::kBadAnswer:
      return Outcome::kAskBadAnswer;
    case AskResult::kTooLarge:
      return Outcome::kAskTooLarge;
  }
  return Outcome::kAskFailed;
}

// Whether somebody else may know the tokens all the same.
bool IsOpen(Outcome outcome) {
  switch (outcome) {
    case Outcome::kNoTokenizer:
    case Outcome::kOtherApi:
    case Outcome::kNoTemplate:
    case Outcome::kOwnTemplate:
    case Outcome::kOtherFormat:
    case Outcome::kContinues:
    case Outcome::kRefused:
    case Outcome::kNotSupported:
    case Outcome::kTooLong:
      return true;
    default:
      return false;
  }
}

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

// A server with vLLM's render endpoints.
struct RenderServerParams {
  std::string url = "http://localhost:8000";
  Duration timeout = seconds(5);
  Duration media_timeout = seconds(30);
  template <class V>
  void Describe(V& v) {
    v.Field("url", url, {.text = "Its address, http://HOST:PORT."});
    v.Field("timeout", timeout,
            {.text = "Longest time that a request waits for its tokens; then they are estimated."});
    v.Field("mmTimeout", media_timeout,
            {.text = "The same for prompts with media, which the server fetches and looks at."});
  }
};

class TokenProducer : public sched::Producer, public sched::AsksForTokens {
 public:
  struct Params {
    std::vector<ModelParams> models;
    uint32_t cache_mib = 64;
    std::string model_name;
    std::optional<RenderServerParams> vllm;
    bool ask_engines = true;
    Duration ask_timeout = milliseconds(250);
    uint32_t ask_cache_mib = 64;
    uint32_t max_asking = 64;
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
              {.text = "The model's name at the render server, which is asked under it for this "
                       "model, its adapters and whatever engines name otherwise; empty: names are "
                       "the engines' own."});
      v.Field("vllm", vllm,
              {.text = "A render server, which is asked for the tokens of prompts that no local "
                       "tokenizer knows, where engines tell what they hold; without it, the "
                       "engines are asked."});
      v.Field(
          "askEngines", ask_engines,
          {.text = "Whether engines are asked, by their render endpoints, or by /tokenize where "
                   "they have none."});
      v.Field("askTimeout", ask_timeout,
              {.text = "Longest time that a request waits for an engine's answer; then its tokens "
                       "are estimated."});
      v.Field("askCacheMiB", ask_cache_mib,
              {.text = "Memory for the tokens that were told, so that a prompt that comes again is "
                       "not asked for.",
               .unit = "MiB",
               .max = 65536});
      v.Field("maxAsking", max_asking,
              {.text = "Prompts that are asked for at once, at most; more are estimated.",
               .min = 1,
               .max = 4096});
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
      if (const auto server = RenderServer(); !server) return "vllm: " + server.error().message;
      if (ask_timeout < milliseconds(1)) return "askTimeout: must be 1ms at least";
      if (vllm && vllm->timeout < milliseconds(1)) return "vllm: timeout must be 1ms at least";
      if (vllm && vllm->media_timeout < milliseconds(1)) {
        return "vllm: mmTimeout must be 1ms at least";
      }
      if (uds_tokenizer_config.kind != wire::YamlNode::Kind::kNull) {
        return "udsTokenizerConfig: a tokenizer on a Unix socket is not available; leave it out "
               "to have engines asked for tokens, or use vllm";
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
    // Of vllm; one without a host where there is none.
    Result<config::EngineUrl> RenderServer() const {
      if (!vllm) return config::EngineUrl();
      auto url = config::ParseEngineUrl(vllm->url);
      if (!url) return url;
      if (url->scheme == model::Scheme::kHttps) {
        return Fail(Code::kInvalidArgument,
                    "url '" + vllm->url +
                        "': render servers are spoken to without TLS; write http://HOST:PORT");
      }
      return url;
    }
    tokens::AskedTokens::Options AskOptions(uint64_t secret) const {
      const config::EngineUrl server = RenderServer().value_or(config::EngineUrl());
      return {.is_on = vllm || ask_engines,
              .host = server.host,
              .port = server.port,
              .model_name = model_name,
              .timeout = vllm ? vllm->timeout : ask_timeout,
              .media_timeout = vllm ? vllm->media_timeout : ask_timeout,
              .cache_bytes = size_t{ask_cache_mib} << 20,
              .max_asking = max_asking,
              .secret = secret};
    }
  };
  using Tokenizers = std::map<std::string, std::shared_ptr<const tokens::PromptTokenizer>,
                              std::less<>>;  // by model; "": of the others

  // Entries of the same files share a tokenizer. Errors name entry and file.
  static Result<std::unique_ptr<TokenProducer>> Load(const Params& params);
  TokenProducer(Tokenizers tokenizers, tokens::AskedTokens::Options asking)
      : tokenizers_(std::move(tokenizers)), asked_(std::move(asking)) {}

  std::vector<sched::DataKey> Produces() const override { return {sched::DataKey::kTokens}; }

  void Prepare(sched::RequestContext& context, Time now) const override {
    const auto told = std::move(context.tokens.told);
    context.tokens = {};
    if (told != nullptr) return Take(*told, Outcome::kTold, context);
    const Outcome outcome = Learn(context, &context.tokens);
    if (!MayBeAsked(outcome) || !context.wants_token_ids || !asked_.is_asked() ||
        !tokens::IsQuestion(context.request)) {
      return Settle(outcome, context);
    }
    const auto key = tokens::KeyOf(context.request, asked_.options().secret);
    if (const auto known = asked_.told().Find(key, now)) {
      return Take(*known, Outcome::kToldBefore, context);
    }
    context.tokens.can_be_asked = true;
    context.tokens.unknown_because = NamesOf(outcome).unknown_because;
    context.input_tokens = Estimate(context.request);
  }
  void GiveUp(sched::RequestContext& context, tokens::AskResult why) const override {
    context.tokens.can_be_asked = false;
    if (why != tokens::AskResult::kNotOfUse) return Settle(OutcomeOf(why), context);
    // As it was without asking.
    const auto* const known = std::ranges::find(kOutcomes, context.tokens.unknown_because,
                                                &OutcomeNames::unknown_because);
    Settle(static_cast<Outcome>(known - kOutcomes.begin()), context);
  }
  sched::AsksForTokens* asks_for_tokens() override {
    return asked_.options().is_on ? this : nullptr;
  }
  tokens::AskedTokens& asked() override { return asked_; }
  void OnTick(Time now) override { asked_.servers().OnTick(now); }
  std::vector<sched::PluginStat> Stats() const override {
    std::vector<sched::PluginStat> stats;
    for (size_t i = 0; i < kOutcomes.size(); ++i) {
      stats.push_back({"token_prompts_total",
                       static_cast<double>(counts_[i].load(std::memory_order_relaxed)),
                       kOutcomes[i].label});
    }
    if (asked_.is_asked()) AddAskedStats(&stats);
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
    if (asked_.is_asked()) {
      bytes += asked_.options().cache_bytes + tokens::AskedTokens::kMaxAnswerBytes;
    }
    return bytes;
  }

 private:
  // Engines would fetch and prepare media twice; a render server is there for it.
  bool MayBeAsked(Outcome outcome) const {
    return IsOpen(outcome) || (outcome == Outcome::kMedia && !asked_.options().host.empty());
  }
  static const OutcomeNames& NamesOf(Outcome outcome) {
    return kOutcomes[static_cast<size_t>(outcome)];
  }
  // Counts it, and leaves the context as it has to be.
  void Settle(Outcome outcome, sched::RequestContext& context) const {
    counts_[static_cast<size_t>(outcome)].fetch_add(1, std::memory_order_relaxed);
    context.tokens.unknown_because = NamesOf(outcome).unknown_because;
    context.tokens.are_known = context.tokens.unknown_because.empty();
    context.input_tokens =
        context.tokens.are_known ? context.tokens.ids.size() : Estimate(context.request);
  }
  // Tokens of the prompts that were asked for.
  void Take(const tokens::TokenAnswer& told, Outcome outcome,
            sched::RequestContext& context) const {
    context.tokens.ids = told.ids;
    context.tokens.sequence_ends = told.sequence_ends;
    context.tokens.media = told.media;
    Settle(outcome, context);
  }
  void AddAskedStats(std::vector<sched::PluginStat>* stats) const {
    const tokens::AskedTokens::Counts& counts = asked_.counts();
    const tokens::ToldTokens::Stats told = asked_.told().stats();
    const tokens::TokenServers::Counts servers = asked_.servers().counts();
    const auto value = [](const auto& count) {
      return static_cast<double>(count.load(std::memory_order_relaxed));
    };
    stats->insert(stats->end(),
                  {
                      {"token_questions_total", value(counts.sent[0]), "render"},
                      {"token_questions_total", value(counts.sent[1]), "tokenize"},
                      {"token_questions_abandoned_total", value(counts.abandoned)},
                      {"token_question_seconds_total", value(counts.micros) * 1e-6},
                      {"token_questions", static_cast<double>(asked_.asking())},
                      {"token_servers", static_cast<double>(servers.render), "render"},
                      {"token_servers", static_cast<double>(servers.tokenize), "tokenize"},
                      {"token_servers", static_cast<double>(servers.none), "no_route"},
                      {"token_servers", static_cast<double>(servers.resting), "resting"},
                      {"token_told_entries", static_cast<double>(told.entries)},
                      {"token_told_bytes", static_cast<double>(told.bytes)},
                      {"token_told_evictions_total", static_cast<double>(told.evicted)},
                  });
  }

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
  mutable tokens::AskedTokens asked_;
  mutable std::array<std::atomic<uint64_t>, kOutcomeCount> counts_{};
};

Result<std::unique_ptr<TokenProducer>> TokenProducer::Load(const Params& params) {
  std::random_device entropy;
  const auto secret = [&] { return uint64_t{entropy()} << 32 | entropy(); };
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
                                                 .secret = secret()});
    if (!loaded) {
      return Fail(loaded.error().code,
                  "models[" + std::to_string(i) + "]: " + loaded.error().message);
    }
    into = *std::move(loaded);
  }
  return std::make_unique<TokenProducer>(std::move(all), params.AskOptions(secret()));
}

}  // namespace

sched::PluginType TokenProducerType() {
  sched::PluginType type;
  type.type = "token-producer";
  type.kind = sched::Kind::kProducer;
  type.text =
      "Finds out the token ids of a prompt, where the client sends them, the model's tokenizer is "
      "at hand or, for engines that tell what they hold, an engine or a render server can be "
      "asked; "
      "else their number, by the estimate of four bytes each.";
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
