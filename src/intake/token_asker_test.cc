#include "intake/token_asker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <semaphore>

#include "http/server.h"
#include "kvcache/exact_caches.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "wire/msgpack.h"

namespace penstock::intake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr api::Route kChat = {.api = model::Api::kChatCompletions};
constexpr std::string_view kBody =
    R"({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3})";

// What a server was asked, and what it answers; an empty status holds the request.
struct Said {
  std::string path, body, authorization;
};
class Server {
 public:
  explicit Server(net::LoopPool& loops) {
    auto made = http::Server::Create(
        loops, "127.0.0.1", 0, {}, [this](net::Loop&) { return std::make_unique<Handler>(*this); });
    EXPECT_TRUE(made);
    server_ = std::move(*made);
  }
  uint16_t port() const { return server_->port(); }

  // By path; of the loop.
  std::map<std::string, std::pair<int, std::string>> answers;
  std::vector<Said> said;
  std::counting_semaphore<1000> held{0}, gone{0};

 private:
  class Holding final : public http::ExchangeListener {
   public:
    explicit Holding(Server& server) : server_(server) {}
    void OnClientGone() override { server_.gone.release(); }

   private:
    Server& server_;
  };
  class Handler final : public http::Handler {
   public:
    explicit Handler(Server& server) : server_(server) {}
    void Handle(http::Exchange& exchange) override {
      server_.said.push_back({std::string(exchange.head().path), exchange.body(),
                              std::string(exchange.head().headers.Find("authorization"))});
      const auto found = server_.answers.find(server_.said.back().path);
      if (found != server_.answers.end()) {
        return exchange.Respond(found->second.first, {}, found->second.second);
      }
      exchange.SetListener(std::make_unique<Holding>(server_));
      server_.held.release();
    }

   private:
    Server& server_;
  };
  std::unique_ptr<http::Server> server_;
};

class NoSink : public kvcache::EventSink {
  void Apply(const kvcache::KvEvent&) override {}
  void Clear() override {}
  void MarkGap(Time) override {}
  bool HasTurnedOver() const override { return false; }
};

// An engine that tells what it holds, and a loop that asks it.
class TokenAskerTest : public ::testing::Test {
 protected:
  static constexpr std::string_view kPatient = "{askTimeout: 60s}";

  ~TokenAskerTest() override {
    loops_.StopAndJoin();
    pending_.clear();
    asker_.reset();
  }

  void Start(std::string_view asking = kPatient) {
    const std::string text =
        "plugins:\n- type: token-producer\n  parameters: " + std::string(asking) +
        "\n- type: precise-prefix-cache-producer\n- type: prefix-cache-scorer\n"
        "  parameters: {prefixMatchInfoProducerName: "
        "precise-prefix-cache-producer}\n"
        "schedulingProfiles:\n- name: default\n  plugins: [{pluginRef: "
        "prefix-cache-scorer}]\n";
    config::Diagnostics diagnostics;
    sched::SchedulingSpec spec;
    const auto root = wire::ParseYaml(text, "test.yaml");
    ASSERT_TRUE(root);
    sched::LoadInlineScheduling(*root->Find("plugins"), *root->Find("schedulingProfiles"),
                                plugins::Builtins(), &spec, &diagnostics);
    ASSERT_THAT(diagnostics.errors, ElementsAre());
    ASSERT_TRUE(fleet_.Replace({{.name = "e", .host = "127.0.0.1", .port = server_.port()}}));
    slot_ = fleet_.snapshot().Get()->slots[0];
    fleet_.Scraped(slot_, {}, Time());
    director_ = std::make_unique<director::Director>(
        fleet_, sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics),
        director::DirectorOptions{});
    TellOfCache();
    asker_ = TokenAsker::Create(loops_.at(0), *director_, nullptr, 1);
    ASSERT_NE(asker_, nullptr);
    loops_.Start();
  }
  // The engine's publisher is EXACT.
  void TellOfCache() {
    auto publisher = std::make_shared<kvcache::Publisher>(kvcache::Publisher::Options(), sink_);
    publisher->OnConnected(Time());
    std::string payload;
    wire::MsgpackWriter out(&payload);
    out.Array(2);
    out.Float(1);
    out.Array(1);
    out.Array(1);
    out.String("AllBlocksCleared");
    publisher->OnBatch(0, payload, Time());
    ASSERT_EQ(publisher->state(), kvcache::PublisherState::kExact);
    auto table = std::make_shared<kvcache::SlotTable>();
    table->entries.resize(slot_ + 1);
    table->entries[slot_] = {true, {}, std::move(publisher)};
    director_->scheduler().knows_caches()->caches().SetTable(std::move(table));
  }

  std::shared_ptr<LongRequest> Request(std::string_view body = kBody,
                                       const api::Route& route = kChat) {
    auto request = std::make_shared<LongRequest>(
        std::string(body), std::vector<model::HeaderView>{{"authorization", "Bearer x"}});
    EXPECT_TRUE(request->Read(route, "id"));
    EXPECT_EQ(request->incoming().request.api, route.api);
    sched::RequestContext context;
    context.request = std::move(request->incoming().request);
    request->Begin(std::move(context));
    return request;
  }
  // Considers it on the loop; asks, if that is what comes out.
  bool Ask(std::shared_ptr<LongRequest> request) {
    bool is_asked = false;
    loops_.at(0).RunAndWait([&] {
      director_->scheduler().Prepare(request->context(), Time());
      auto question = asker_->Consider(request->context(), kChat);
      is_asked = question.has_value();
      if (!is_asked) return;
      pending_.push_back(
          asker_->Ask(*std::move(question), std::move(request), Time(), [this](LongRequest* told) {
            EXPECT_TRUE(loops_.at(0).IsCurrent());
            told_.push_back(told->context().tokens);
            done_.release();
          }));
    });
    return is_asked;
  }
  // What became of one that is asked for.
  const sched::PromptTokens& Told(std::string_view body = kBody, const api::Route& route = kChat) {
    const auto request = Request(body, route);
    EXPECT_TRUE(Ask(request));
    done_.acquire();
    EXPECT_EQ(request->body(), body);
    return told_.back();
  }
  void OnLoop(std::move_only_function<void()> task) { loops_.at(0).RunAndWait(std::move(task)); }
  tokens::AskedTokens& asked() { return director_->scheduler().asks_for_tokens()->asked(); }

  net::LoopPool loops_{1};
  Server server_{loops_};
  NoSink sink_;
  director::Fleet fleet_{4};
  uint32_t slot_ = 0;
  std::unique_ptr<director::Director> director_;
  std::unique_ptr<TokenAsker> asker_;
  std::vector<TokenAsker::Pending> pending_;
  std::vector<sched::PromptTokens> told_;
  std::counting_semaphore<1000> done_{0};
};

constexpr std::string_view kRenderPath = "/v1/chat/completions/render";

TEST_F(TokenAskerTest, ARequestGoesOnWithWhatItIsTold) {
  server_.answers[std::string(kRenderPath)] = {200, R"({"token_ids": [5, 6, 7]})"};
  Start();
  const sched::PromptTokens& tokens = Told();
  EXPECT_TRUE(tokens.are_known);
  EXPECT_THAT(tokens.ids, ElementsAre(5, 6, 7));
  EXPECT_THAT(tokens.sequence_ends, ElementsAre(3));
  OnLoop([&] {
    ASSERT_EQ(server_.said.size(), 1u);
    EXPECT_EQ(server_.said[0].body, kBody) << "as the engine will get it";
    EXPECT_EQ(server_.said[0].authorization, "Bearer x");
  });
  EXPECT_EQ(asked().asking(), 0u);
  EXPECT_EQ(asked().answers().used(), 0u);
  EXPECT_FALSE(Ask(Request())) << "it is known now";
  EXPECT_EQ(asked().told().stats().entries, 1u);
}

TEST_F(TokenAskerTest, WithoutRenderEndpointsTheSameQuestionGoesToTokenize) {
  server_.answers[std::string(kRenderPath)] = {404, R"({"detail":"Not Found"})"};
  server_.answers["/tokenize"] = {200, R"({"count": 2, "tokens": [8, 9]})"};
  Start();
  EXPECT_THAT(Told().ids, ElementsAre(8, 9));
  OnLoop([&] {
    ASSERT_EQ(server_.said.size(), 2u);
    EXPECT_EQ(server_.said[1].body,
              R"({"model":"m","messages":[{"role": "user", "content": "hello"}]})");
  });
  EXPECT_EQ(asked().counts().sent[0].load(), 1u);
  EXPECT_EQ(asked().counts().sent[1].load(), 1u);
  EXPECT_EQ(asked().servers().counts().tokenize, 1u);
}

TEST_F(TokenAskerTest, WithNeitherTheRequestGoesOnAndSaysWhy) {
  server_.answers[std::string(kRenderPath)] = {
      403, R"({"error":"the endpoint is turned off for model m"})"};
  server_.answers["/tokenize"] = {405, ""};
  Start();
  EXPECT_FALSE(Told().are_known);
  EXPECT_THAT(std::string(told_.back().unknown_because), HasSubstr("has no endpoint"));
  auto request = Request();
  EXPECT_FALSE(Ask(request)) << "for a minute";
  EXPECT_THAT(std::string(request->context().tokens.unknown_because), HasSubstr("has no endpoint"));
}

constexpr api::Route kText = {.api = model::Api::kCompletions};
constexpr api::Route kMessages = {.api = model::Api::kMessages};
constexpr api::Route kResponses = {.api = model::Api::kResponses};
constexpr std::string_view kMessagesBody =
    R"({"model": "m", "max_tokens": 3, "system": "s", "messages": [{"role": "user", "content": "hello"}]})";
constexpr std::string_view kResponsesBody = R"({"model": "m", "input": "hello"})";

TEST_F(TokenAskerTest, OtherApisHaveRenderEndpointsOfTheirOwn) {
  server_.answers["/v1/messages/render"] = {200, R"({"token_ids": [1, 2]})"};
  server_.answers["/v1/responses/render"] = {200, R"({"token_ids": [3]})"};
  Start();
  EXPECT_THAT(Told(kMessagesBody, kMessages).ids, ElementsAre(1, 2));
  EXPECT_THAT(Told(kResponsesBody, kResponses).ids, ElementsAre(3));
  OnLoop([&] {
    ASSERT_EQ(server_.said.size(), 2u);
    EXPECT_EQ(server_.said[0].body, kMessagesBody);
    EXPECT_EQ(server_.said[1].body, kResponsesBody);
  });
  EXPECT_FALSE(Ask(Request(kMessagesBody, kMessages))) << "it is known now";
  EXPECT_FALSE(Ask(Request(kResponsesBody, kResponses)));
}

// As vLLM was before it had these.
TEST_F(TokenAskerTest, AServerThatDoesNotRenderMessagesRendersChatsAllTheSame) {
  server_.answers["/v1/messages/render"] = {404, R"({"detail":"Not Found"})"};
  server_.answers[std::string(kRenderPath)] = {200, R"({"token_ids": [5]})"};
  Start();
  EXPECT_THAT(std::string(Told(kMessagesBody, kMessages).unknown_because),
              HasSubstr("has no endpoint"));
  EXPECT_THAT(Told().ids, ElementsAre(5));
  EXPECT_FALSE(Ask(Request(kMessagesBody, kMessages))) << "for a minute";
  EXPECT_EQ(asked().counts().sent[1].load(), 0u) << "/tokenize knows no such messages";
  EXPECT_EQ(asked().servers().counts().render, 1u);
}

TEST_F(TokenAskerTest, SeveralPromptsAreToldAtOnce) {
  server_.answers["/v1/completions/render"] = {200,
                                               R"([{"token_ids": [1, 2]}, {"token_ids": [3]}])"};
  Start();
  const sched::PromptTokens& tokens = Told(R"({"model": "m", "prompt": ["a b", "c"]})", kText);
  EXPECT_TRUE(tokens.are_known);
  EXPECT_THAT(tokens.ids, ElementsAre(1, 2, 3));
  EXPECT_THAT(tokens.sequence_ends, ElementsAre(2, 3));
  EXPECT_THAT(std::string(Told(R"({"model": "m", "prompt": ["a b"]})", kText).unknown_because),
              HasSubstr("answered something else"));
  EXPECT_THAT(
      std::string(Told(R"({"model": "m", "prompt": ["a", "b", "c"]})", kText).unknown_because),
      HasSubstr("answered something else"));
}

TEST_F(TokenAskerTest, SeveralPromptsAreNotTokenized) {
  server_.answers["/v1/completions/render"] = {404, R"({"detail":"Not Found"})"};
  server_.answers["/tokenize"] = {200, R"({"count": 1, "tokens": [8]})"};
  Start();
  EXPECT_THAT(std::string(Told(R"({"model": "m", "prompt": ["a b", "c"]})", kText).unknown_because),
              HasSubstr("has no endpoint"));
  EXPECT_THAT(Told(R"({"model": "m", "prompt": "a b"})", kText).ids, ElementsAre(8));
}

TEST_F(TokenAskerTest, AModelThatIsNotThereIsNoMissingEndpoint) {
  server_.answers[std::string(kRenderPath)] = {404, R"({"error":{"message":"The model `m` ..."}})"};
  Start();
  EXPECT_THAT(std::string(Told().unknown_because), HasSubstr("refused"));
  EXPECT_EQ(asked().servers().counts().render, 1u);
}

TEST_F(TokenAskerTest, NobodyWaitsForLongerThanItMay) {
  Start("{askTimeout: 20ms}");
  EXPECT_THAT(std::string(Told().unknown_because), HasSubstr("in time"));
  server_.gone.acquire();
  EXPECT_EQ(asked().asking(), 0u);
}

TEST_F(TokenAskerTest, WhoeverLeavesIsHeardNoMore) {
  Start("{askTimeout: 60s, maxAsking: 1}");
  EXPECT_TRUE(Ask(Request()));
  server_.held.acquire();
  auto second = Request();
  EXPECT_FALSE(Ask(second));
  EXPECT_THAT(std::string(second->context().tokens.unknown_because), HasSubstr("too many"));
  OnLoop([&] { pending_.clear(); });
  server_.gone.acquire();
  EXPECT_EQ(asked().asking(), 0u);
  EXPECT_EQ(asked().counts().abandoned.load(), 1u);
  EXPECT_TRUE(told_.empty());
  EXPECT_TRUE(Ask(Request())) << "there is room again";
}

TEST_F(TokenAskerTest, MayGoWithinTheAnswer) {
  server_.answers[std::string(kRenderPath)] = {200, R"({"token_ids": [5]})"};
  Start();
  OnLoop([&] {
    auto request = Request();
    director_->scheduler().Prepare(request->context(), Time());
    auto question = asker_->Consider(request->context(), kChat);
    ASSERT_TRUE(question);
    pending_.push_back(asker_->Ask(*std::move(question), request, Time(), [this](LongRequest*) {
      pending_.clear();
      done_.release();
    }));
  });
  done_.acquire();
  OnLoop([&] { EXPECT_TRUE(pending_.empty()); });
  EXPECT_EQ(asked().counts().abandoned.load(), 0u);
}

TEST_F(TokenAskerTest, NobodyIsAskedWhereNothingIsKnownOfCaches) {
  Start();
  director_->scheduler().knows_caches()->caches().SetTable(std::make_shared<kvcache::SlotTable>());
  auto request = Request();
  EXPECT_FALSE(Ask(request));
  EXPECT_THAT(std::string(request->context().tokens.unknown_because), HasSubstr("no tokenizer"));
}

TEST_F(TokenAskerTest, MessagesOfOtherFramingsAreNotForwarded) {
  Start();
  OnLoop([&] {
    auto request = Request();
    director_->scheduler().Prepare(request->context(), Time());
    EXPECT_FALSE(asker_->Consider(request->context(), {.api = model::Api::kChatCompletions,
                                                       .framing = api::Framing::kVertex}));
  });
}

TEST(TokenAsker, IsNotThereWhereNobodyListensToEngines) {
  director::Fleet fleet(2);
  config::Diagnostics diagnostics;
  director::Director director(fleet,
                              sched::Scheduler::Create(*sched::BuiltinPolicy("weighted"),
                                                       plugins::Builtins(), &diagnostics),
                              director::DirectorOptions{});
  net::Loop loop;
  EXPECT_EQ(TokenAsker::Create(loop, director, nullptr, 1), nullptr);
}

}  // namespace
}  // namespace penstock::intake
