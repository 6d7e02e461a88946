#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "kvcache/exact_caches.h"
#include "kvcache/publisher.h"
#include "plugins/testing.h"
#include "sched/config_loader.h"
#include "tokens/asked_tokens.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using testing::TestPool;

uint64_t Tokens(const std::vector<model::PromptPart>& parts, uint64_t extra = 0) {
  sched::RequestContext context;
  context.request.prompt = parts;
  context.request.extra_tokens = extra;
  Made<sched::Producer>("token-producer")->Prepare(context, Time());
  return context.input_tokens;
}

TEST(TokenProducer, FourBytesAreOneToken) {
  EXPECT_EQ(Tokens({}), 0u);
  EXPECT_EQ(Tokens({{"", true}}), 0u);
  EXPECT_EQ(Tokens({{"a", true}}), 1u);
  EXPECT_EQ(Tokens({{"abcd", true}}), 1u);
  EXPECT_EQ(Tokens({{"abcde", true}}), 2u);
}

TEST(TokenProducer, PartsOfAPromptAreCountedTogetherAndPromptsApart) {
  EXPECT_EQ(Tokens({{"ab", true}, {"cd", false}}), 1u);
  EXPECT_EQ(Tokens({{"ab", true}, {"cd", true}}), 2u);
}

TEST(TokenProducer, AddsTheEstimateForImages) { EXPECT_EQ(Tokens({{"abcd", true}}, 576), 577u); }

sched::RequestContext Prepared(const std::vector<model::PromptPart>& parts,
                               const model::PromptSource& source) {
  sched::RequestContext context;
  context.request.api = model::Api::kCompletions;
  context.request.prompt = parts;
  context.request.source = source;
  Made<sched::Producer>("token-producer")->Prepare(context, Time());
  return context;
}

TEST(TokenProducer, TakesIdsAsTheyAre) {
  const std::vector<uint32_t> ids = {7, 0, 4'000'000'000, 9};
  const auto* bytes = reinterpret_cast<const char*>(ids.data());
  const std::vector<model::PromptPart> parts = {
      {{bytes, 8}, true}, {{bytes + 8, 4}, false}, {{}, true}, {{bytes + 12, 4}, true}};
  const auto context = Prepared(parts, {.holds_ids = true});
  EXPECT_TRUE(context.tokens.are_known);
  EXPECT_EQ(context.tokens.ids, ids);
  EXPECT_THAT(context.tokens.sequence_ends, ElementsAre(3, 3, 4));
  EXPECT_EQ(context.tokens.unknown_because, "");
  EXPECT_EQ(context.input_tokens, 4u);
}

TEST(TokenProducer, SaysWhyIdsAreNotKnown) {
  const std::vector<model::PromptPart> parts = {{"abcdefgh", false}};
  for (const auto& [source, why] : std::vector<std::pair<model::PromptSource, std::string>>{
           {{}, "there is no tokenizer for the model"},
           {{.holds_ids = true, .has_media = true},
            "images, audio or video are part of the prompt"},
           {{.truncate_prompt_tokens = "5", .holds_ids = true},
            "the client asks the engine to truncate the prompt"}}) {
    const auto context = Prepared(parts, source);
    EXPECT_FALSE(context.tokens.are_known);
    EXPECT_EQ(context.tokens.unknown_because, why);
    EXPECT_THAT(context.tokens.ids, IsEmpty());
    EXPECT_EQ(context.input_tokens, 2u);
  }
}

TEST(TokenProducer, CountsPromptsByOutcome) {
  Made<sched::Producer> producer("token-producer");
  sched::RequestContext context;
  producer->Prepare(context, Time());
  const std::vector<model::PromptPart> parts = {{"abcd", false}};
  context.request.api = model::Api::kCompletions;
  context.request.prompt = parts;
  for (int i = 0; i < 2; ++i) producer->Prepare(context, Time());
  std::map<std::string, double> counts;
  for (const sched::PluginStat& stat : producer->Stats()) {
    counts[std::string(stat.metric) + " " + std::string(stat.label)] = stat.value;
  }
  EXPECT_EQ(counts["token_prompts_total no_prompt"], 1);
  EXPECT_EQ(counts["token_prompts_total no_tokenizer"], 2);
  EXPECT_EQ(counts["token_prompts_total ids"], 0);
}

TEST(TokenProducer, ErrorsOfModelsNameTheEntryAndTheFile) {
  EXPECT_THAT(ErrorsOf("token-producer", "{models: [{tokenizer: /nowhere/tokenizer.json}]}"),
              ElementsAre(HasSubstr("models[0]: /nowhere/tokenizer.json: ")));
  EXPECT_THAT(ErrorsOf("token-producer", "{models: [{name: m}]}"),
              ElementsAre(HasSubstr("tokenizer")));
  EXPECT_THAT(
      ErrorsOf("token-producer", "{models: [{name: m, tokenizer: a}, {name: m, tokenizer: b}]}"),
      ElementsAre(HasSubstr("models: 'm' is there twice")));
  EXPECT_THAT(ErrorsOf("token-producer", "{models: [{tokenizer: a}, {tokenizer: b}]}"),
              ElementsAre(HasSubstr("two entries have no name")));
}

// A tokenizer of single bytes: the id of a byte is its place in the alphabet.
class TokenProducerWithModels : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("penstock_token_producer_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / "tokenizer.json")
        << R"({"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
               "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3},
                         "merges": [["a", "b"]]}})";
    std::ofstream(folder_ / "chat_template.jinja")
        << "{% for m in messages %}{{ m.content }}{% endfor %}"
           "{% if add_generation_prompt %}c{% endif %}";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Models(const std::string& more = "") const {
    return "{models: [{tokenizer: " + folder_.string() + "}" + more + "]}";
  }

  std::filesystem::path folder_;
};

TEST_F(TokenProducerWithModels, TokenisesTextsAndChats) {
  Made<sched::Producer> producer("token-producer", Models());
  const std::vector<model::PromptPart> parts = {{"abc", true}, {"ba", true}};
  sched::RequestContext context;
  context.request.api = model::Api::kCompletions;
  context.request.target_model = "any";
  context.request.prompt = parts;
  producer->Prepare(context, Time());
  EXPECT_TRUE(context.tokens.are_known) << context.tokens.unknown_because;
  EXPECT_THAT(context.tokens.ids, ElementsAre(3, 2, 1, 0));
  EXPECT_THAT(context.tokens.sequence_ends, ElementsAre(2, 4));
  EXPECT_EQ(context.input_tokens, 4u);

  context.request.api = model::Api::kChatCompletions;
  context.request.source.messages = R"([{"role": "user", "content": "ab"}])";
  producer->Prepare(context, Time());
  EXPECT_TRUE(context.tokens.are_known) << context.tokens.unknown_because;
  EXPECT_THAT(context.tokens.ids, ElementsAre(3, 2));
  EXPECT_THAT(context.tokens.sequence_ends, ElementsAre(2));

  context.request.source.messages = "[]7";
  producer->Prepare(context, Time());
  EXPECT_FALSE(context.tokens.are_known);
  EXPECT_EQ(context.tokens.unknown_because,
            "the chat template or the engine would refuse the request");
  EXPECT_THAT(context.tokens.ids, IsEmpty());
  EXPECT_EQ(context.input_tokens, 2u);
  EXPECT_EQ(producer->MaxBytes(), 64u << 20);
}

// Tokens of so many prompts by outcome, and how many texts went through a tokenizer.
double StatOf(const sched::Scheduler& scheduler, std::string_view metric, std::string_view label) {
  for (const auto& instance : scheduler.Stats()) {
    for (const sched::PluginStat& stat : instance.stats) {
      if (stat.metric == metric && stat.label == label) return stat.value;
    }
  }
  return -1;
}

// An engine that tells what it holds: nothing.
class EmptyEngine : public kvcache::EventSink {
 public:
  void Apply(const kvcache::KvEvent&) override {}
  void Clear() override {}
  void MarkGap(Time) override {}
  bool HasTurnedOver() const override { return false; }
};

TEST_F(TokenProducerWithModels, DoesNoWorkAsLongAsNoEngineTellsWhatItHolds) {
  sched::SchedulingSpec spec = *sched::BuiltinPolicy("least-cost");
  spec.plugins.push_back({"token-producer", "token-producer", *wire::ParseYaml(Models(), "p")});
  config::Diagnostics diagnostics;
  const auto scheduler = sched::Scheduler::Create(spec, Builtins(), &diagnostics);
  ASSERT_THAT(diagnostics.errors, IsEmpty());
  const auto prepare = [&](bool holds_ids = false) {
    const std::string text = std::string(100, 'a');
    const std::vector<model::PromptPart> parts = {{text, true}};
    sched::RequestContext context;
    context.request.api = model::Api::kCompletions;
    context.request.prompt = parts;
    context.request.source.holds_ids = holds_ids;
    scheduler->Prepare(context, Time());
    return context;
  };
  kvcache::ExactCaches& caches = scheduler->knows_caches()->caches();
  EmptyEngine engine;
  const auto publisher =
      std::make_shared<kvcache::Publisher>(kvcache::Publisher::Options(), engine);
  auto table = std::make_shared<kvcache::SlotTable>();
  table->entries = {{true, *caches.index().Join(), publisher}};
  for (int round = 0; round < 2; ++round) {
    EXPECT_FALSE(scheduler->knows_caches()->HearsAnybody());
    const auto context = prepare();
    EXPECT_EQ(context.input_tokens, 25u) << "the estimate";
    EXPECT_EQ(context.prefix_keys.at(0).content_tokens, 0u);
    EXPECT_THAT(prepare(true).prefix_keys.at(0).content, IsEmpty());
    caches.SetTable(table);  // one that is dialled, and says nothing
  }
  EXPECT_EQ(StatOf(*scheduler, "token_prompts_total", "not_wanted"), 2);
  EXPECT_EQ(StatOf(*scheduler, "token_prompts_total", "tokenised"), 0);
  EXPECT_EQ(StatOf(*scheduler, "token_texts_total", ""), 0);

  publisher->OnConnected(Time());
  constexpr char kNoEvents[] = "\x92\xcb\x3f\xf0\0\0\0\0\0\0\x90";  // [1.0, []]
  publisher->OnBatch(0, {kNoEvents, sizeof(kNoEvents) - 1}, Time());
  ASSERT_EQ(publisher->state(), kvcache::PublisherState::kExact);
  EXPECT_TRUE(scheduler->knows_caches()->HearsAnybody());
  EXPECT_EQ(prepare().input_tokens, 100u);
  EXPECT_EQ(StatOf(*scheduler, "token_prompts_total", "tokenised"), 1);
  EXPECT_EQ(StatOf(*scheduler, "token_texts_total", ""), 1);
  publisher->OnDisconnected(Time());
  EXPECT_EQ(prepare().input_tokens, 25u);
  caches.SetTable(std::make_shared<kvcache::SlotTable>());
}

// Who counts tokens for its own sake goes on.
TEST_F(TokenProducerWithModels, WorksWhereNobodyListensToEngines) {
  sched::SchedulingSpec spec = *sched::BuiltinPolicy("sticky");
  spec.plugins.push_back({"token-producer", "token-producer", *wire::ParseYaml(Models(), "p")});
  config::Diagnostics diagnostics;
  const auto scheduler = sched::Scheduler::Create(spec, Builtins(), &diagnostics);
  ASSERT_NE(scheduler, nullptr);
  const std::vector<model::PromptPart> parts = {{"abc", true}};
  sched::RequestContext context;
  context.request.api = model::Api::kCompletions;
  context.request.prompt = parts;
  scheduler->Prepare(context, Time());
  EXPECT_EQ(context.input_tokens, 2u);
  EXPECT_EQ(StatOf(*scheduler, "token_prompts_total", "tokenised"), 1);
}

TEST_F(TokenProducerWithModels, EachModelHasItsOwn) {
  const std::string one = "{models: [{name: m, tokenizer: " + folder_.string() + "}], cacheMiB: 1}";
  Made<sched::Producer> producer("token-producer", one);
  const std::vector<model::PromptPart> parts = {{"abc", false}};
  sched::RequestContext context;
  context.request.api = model::Api::kCompletions;
  context.request.prompt = parts;
  context.request.target_model = "adapter";
  producer->Prepare(context, Time());
  EXPECT_FALSE(context.tokens.are_known);
  EXPECT_EQ(context.tokens.unknown_because, "there is no tokenizer for the model");
  context.request.target_model = "m";
  producer->Prepare(context, Time());
  EXPECT_TRUE(context.tokens.are_known);
  EXPECT_EQ(producer->MaxBytes(), 1u << 20);
  // The same files are held once.
  Made<sched::Producer> both("token-producer",
                             Models(", {name: x, tokenizer: " + folder_.string() + "}"));
  EXPECT_EQ(both->MaxBytes(), 64u << 20);
}

TEST_F(TokenProducerWithModels, AnthropicMessagesAreChatsToo) {
  Made<sched::Producer> producer("token-producer", Models());
  const std::vector<model::PromptPart> parts = {{"abcde", false}};
  sched::RequestContext context;
  context.request.api = model::Api::kMessages;
  context.request.prompt = parts;
  context.request.source.is_anthropic = true;
  context.request.source.system = R"("b")";
  context.request.source.messages =
      R"([{"role": "user", "content": [{"type": "text", "text": "ab"}]}])";
  producer->Prepare(context, Time());
  EXPECT_TRUE(context.tokens.are_known) << context.tokens.unknown_because;
  EXPECT_THAT(context.tokens.ids, ElementsAre(1, 3, 2));
  context.request.source.messages = R"([{"role": "tool", "content": "ab"}])";
  producer->Prepare(context, Time());
  EXPECT_FALSE(context.tokens.are_known);
  EXPECT_THAT(std::string(context.tokens.unknown_because), HasSubstr("would refuse"));
  EXPECT_EQ(context.input_tokens, 2u);
}

TEST(TokenProducer, SaysWhichBackEndsAreMissing) {
  EXPECT_THAT(ErrorsOf("tokenizer", "{udsTokenizerConfig: {socketFile: /tmp/s}}"),
              ElementsAre(HasSubstr("Unix socket")));
  EXPECT_THAT(Made<sched::Producer>("tokenizer", "{modelName: m}")->type(), "token-producer");
  EXPECT_THAT(ErrorsOf("token-producer", "{vllm: {url: 'https://render:8000'}}"),
              ElementsAre(HasSubstr("without TLS; write http://HOST:PORT")));
  EXPECT_THAT(ErrorsOf("token-producer", "{vllm: {url: 'render:8000'}}"),
              ElementsAre(HasSubstr("vllm: 'render:8000'")));
  EXPECT_THAT(ErrorsOf("token-producer", "{vllm: {timeout: 0s}}"),
              ElementsAre(HasSubstr("vllm: timeout must be 1ms at least")));
  EXPECT_THAT(ErrorsOf("token-producer", "{askTimeout: 0s}"),
              ElementsAre(HasSubstr("askTimeout: must be 1ms at least")));
}

// A chat whose tokens somebody may be asked for.
sched::RequestContext Chat(const std::vector<model::PromptPart>& parts) {
  sched::RequestContext context;
  context.request.api = model::Api::kChatCompletions;
  context.request.prompt = parts;
  context.request.source.messages = "[]";
  context.request.target_model = "llama";
  return context;
}

std::map<std::string, double> CountsOf(const sched::Plugin& plugin) {
  std::map<std::string, double> counts;
  for (const sched::PluginStat& stat : plugin.Stats()) {
    counts[std::string(stat.metric) + " " + std::string(stat.label)] = stat.value;
  }
  return counts;
}

TEST(TokenProducer, SettingsOfWhoIsAsked) {
  Made<sched::Producer> server("token-producer",
                               "{modelName: m, vllm: {timeout: 2s, mmTimeout: 10s}}");
  const auto& options = server->asks_for_tokens()->asked().options();
  EXPECT_EQ(options.host, "localhost");
  EXPECT_EQ(options.port, 8000);
  EXPECT_EQ(options.model_name, "m");
  EXPECT_EQ(options.timeout, seconds(2));
  EXPECT_EQ(options.media_timeout, seconds(10));
  Made<sched::Producer> engines("token-producer");
  EXPECT_EQ(engines->asks_for_tokens()->asked().options().host, "");
  EXPECT_EQ(engines->asks_for_tokens()->asked().options().timeout, milliseconds(250));
  Made<sched::Producer> nobody("token-producer", "{askEngines: false}");
  EXPECT_EQ(nobody->asks_for_tokens(), nullptr);
  Made<sched::Producer> both("token-producer", "{askEngines: false, vllm: {}}");
  EXPECT_NE(both->asks_for_tokens(), nullptr);
}

TEST(TokenProducer, LeavesNothingOpenWhereNobodyAsks) {
  Made<sched::Producer> producer("token-producer");
  const std::vector<model::PromptPart> parts = {{"abcdefgh", true}};
  auto context = Chat(parts);
  producer->Prepare(context, Time());
  EXPECT_FALSE(context.tokens.can_be_asked);
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total no_tokenizer"], 1);
  EXPECT_EQ(producer->MaxBytes(), 0u);
}

TEST(TokenProducer, LeavesOpenWhatOthersMayKnow) {
  Made<sched::Producer> producer("token-producer");
  sched::AsksForTokens& asks = *producer->asks_for_tokens();
  asks.asked().SetAsked();
  EXPECT_EQ(producer->MaxBytes(), (64u << 20) + tokens::AskedTokens::kMaxAnswerBytes);
  const std::vector<model::PromptPart> parts = {{"abcdefgh", true}};
  auto context = Chat(parts);
  producer->Prepare(context, Time());
  EXPECT_TRUE(context.tokens.can_be_asked);
  EXPECT_FALSE(context.tokens.are_known);
  EXPECT_EQ(context.input_tokens, 2u);
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total no_tokenizer"], 0) << "not settled yet";

  auto useless = context;
  asks.GiveUp(useless, tokens::AskResult::kNotOfUse);
  EXPECT_FALSE(useless.tokens.can_be_asked);
  EXPECT_EQ(useless.tokens.unknown_because, "there is no tokenizer for the model");
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total no_tokenizer"], 1);

  auto late = context;
  asks.GiveUp(late, tokens::AskResult::kTimeout);
  EXPECT_THAT(std::string(late.tokens.unknown_because), HasSubstr("in time"));
  EXPECT_EQ(late.input_tokens, 2u);
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total ask_timeout"], 1);

  const auto told =
      std::make_shared<const tokens::TokenAnswer>(tokens::TokenAnswer{{5, 6, 7, 8, 9}, {5}});
  context.tokens.told = told;
  producer->Prepare(context, Time());
  EXPECT_TRUE(context.tokens.are_known);
  EXPECT_FALSE(context.tokens.can_be_asked);
  EXPECT_EQ(context.tokens.ids, told->ids);
  EXPECT_THAT(context.tokens.sequence_ends, ElementsAre(5));
  EXPECT_EQ(context.input_tokens, 5u);
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total told"], 1);

  // Kept by whoever asked; the next one finds it.
  asks.asked().told().Store(tokens::KeyOf(context.request, asks.asked().options().secret), told,
                            Time());
  auto again = Chat(parts);
  producer->Prepare(again, Time());
  EXPECT_EQ(again.tokens.ids, told->ids);
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total told_before"], 1);
  auto other = Chat(parts);
  other.request.target_model = "adapter";
  producer->Prepare(other, Time());
  EXPECT_TRUE(other.tokens.can_be_asked);
}

TEST(TokenProducer, LeavesOpenWhatOtherApisAsk) {
  Made<sched::Producer> producer("token-producer");
  sched::AsksForTokens& asks = *producer->asks_for_tokens();
  asks.asked().SetAsked();
  const std::vector<model::PromptPart> parts = {{"abcdefgh", true}};
  auto messages = Chat(parts);
  messages.request.api = model::Api::kMessages;
  producer->Prepare(messages, Time());
  EXPECT_TRUE(messages.tokens.can_be_asked);
  asks.GiveUp(messages, tokens::AskResult::kNotOfUse);
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total no_tokenizer"], 1);

  sched::RequestContext response;
  response.request.api = model::Api::kResponses;
  response.request.prompt = parts;
  response.request.source.input = "\"abcdefgh\"";
  producer->Prepare(response, Time());
  EXPECT_TRUE(response.tokens.can_be_asked);
  auto stored = response;
  stored.request.source.previous_response_id = "\"r\"";
  producer->Prepare(stored, Time());
  EXPECT_FALSE(stored.tokens.can_be_asked);
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total other_api"], 1);
}

TEST(TokenProducer, AsksForMediaWhereThereIsARenderServer) {
  const std::vector<model::PromptPart> parts = {{"abcdefgh", true}};
  for (const char* parameters : {"", "{vllm: {}}"}) {
    Made<sched::Producer> producer("token-producer", parameters);
    producer->asks_for_tokens()->asked().SetAsked();
    auto context = Chat(parts);
    context.request.source.has_media = true;
    context.request.extra_tokens = 100;
    producer->Prepare(context, Time());
    const bool has_server = *parameters != '\0';
    EXPECT_EQ(context.tokens.can_be_asked, has_server);
    EXPECT_EQ(CountsOf(*producer)["token_prompts_total media"], has_server ? 0 : 1);
    if (!has_server) continue;
    context.tokens.told = std::make_shared<const tokens::TokenAnswer>(
        tokens::TokenAnswer{{5, 6, 7}, {3}, {{1, 1, "h"}}});
    producer->Prepare(context, Time());
    EXPECT_EQ(context.input_tokens, 3u);
    EXPECT_THAT(context.tokens.media, ElementsAre(model::MediaSpan{1, 1, "h"}));
  }
}

TEST(TokenProducer, TakesWhatItIsToldOfSeveralPrompts) {
  Made<sched::Producer> producer("token-producer");
  sched::AsksForTokens& asks = *producer->asks_for_tokens();
  asks.asked().SetAsked();
  const std::vector<model::PromptPart> parts = {{"abcdefgh", true}, {"ij", true}};
  sched::RequestContext context;
  context.request.api = model::Api::kCompletions;
  context.request.prompt = parts;
  producer->Prepare(context, Time());
  EXPECT_TRUE(context.tokens.can_be_asked);
  EXPECT_EQ(context.input_tokens, 3u);
  const auto told =
      std::make_shared<const tokens::TokenAnswer>(tokens::TokenAnswer{{5, 6, 7, 8, 9}, {3, 5}});
  context.tokens.told = told;
  producer->Prepare(context, Time());
  EXPECT_EQ(context.tokens.ids, told->ids);
  EXPECT_THAT(context.tokens.sequence_ends, ElementsAre(3, 5));
  EXPECT_EQ(context.input_tokens, 5u);

  asks.asked().told().Store(tokens::KeyOf(context.request, asks.asked().options().secret), told,
                            Time());
  sched::RequestContext again;
  again.request = context.request;
  producer->Prepare(again, Time());
  EXPECT_THAT(again.tokens.sequence_ends, ElementsAre(3, 5));
  EXPECT_EQ(CountsOf(*producer)["token_prompts_total told_before"], 1);
}

TEST(TokenProducer, EveryReasonHasAnOutcomeOfItsOwn) {
  using tokens::AskResult;
  Made<sched::Producer> producer("token-producer");
  const sched::AsksForTokens& asks = *producer->asks_for_tokens();
  std::set<std::string_view> reasons;
  const auto all = {AskResult::kBusy,    AskResult::kNobody,  AskResult::kResting,
                    AskResult::kNoRoute, AskResult::kTimeout, AskResult::kUnreached,
                    AskResult::kFailed,  AskResult::kRefused, AskResult::kBadAnswer,
                    AskResult::kTooLarge};
  for (const AskResult result : all) {
    sched::RequestContext context;
    context.tokens.can_be_asked = true;
    asks.GiveUp(context, result);
    reasons.insert(context.tokens.unknown_because);
  }
  EXPECT_EQ(reasons.size(), all.size());
  EXPECT_FALSE(reasons.contains(""));
}

}  // namespace
}  // namespace penstock::plugins
