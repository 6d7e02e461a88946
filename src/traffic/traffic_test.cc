#include "traffic/traffic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <boost/json.hpp>
#include <cmath>
#include <optional>
#include <vector>

#include "core/mutex.h"
#include "http/server.h"
#include "traffic/model_lookup.h"

namespace penstock::traffic {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr std::string_view kAnswer = "An answer with \"quotes\"";

// What the scripted gateway does with a request.
enum class Script : uint8_t { kAnswer, kRefuse, kBreak, kGarbage, kSilence };

// A gateway that follows a script and keeps what it was sent.
class ScriptedGateway {
 public:
  explicit ScriptedGateway(Script script) : script_(script), loops_(1) {
    http::ServerOptions options;
    options.render_error = [](int, std::string_view, std::string_view message) {
      return std::string(message);
    };
    auto server =
        http::Server::Create(loops_, "127.0.0.1", 0, std::move(options),
                             [this](net::Loop&) { return std::make_unique<Handler>(*this); });
    EXPECT_TRUE(server);
    server_ = std::move(*server);
    loops_.Start();
  }
  ~ScriptedGateway() { loops_.StopAndJoin(); }

  Target target() const { return {"127.0.0.1", server_->port()}; }
  std::vector<std::string> bodies() {
    MutexLock lock(mutex_);
    return bodies_;
  }

 private:
  struct Handler final : http::Handler {
    explicit Handler(ScriptedGateway& g) : gateway(g) {}
    void Handle(http::Exchange& exchange) override { gateway.Handle(exchange); }
    ScriptedGateway& gateway;
  };
  struct Silent final : http::ExchangeListener {};

  void Handle(http::Exchange& exchange) {
    {
      MutexLock lock(mutex_);
      bodies_.push_back(exchange.body());
    }
    if (exchange.head().path == "/v1/models") {
      return exchange.Respond(200, {}, R"({"object":"list","data":[{"id":"m"},{"id":"n"}]})");
    }
    switch (script_) {
      case Script::kAnswer:
        return Answer(exchange);
      case Script::kRefuse:
        return exchange.Respond(503, {}, R"({"error":{"message":"nobody home"}})");
      case Script::kBreak:
        exchange.Start(200, kStream, std::nullopt);
        exchange.Write("data: {\"choices\":[]}\n\n");
        return exchange.Abort();
      case Script::kGarbage:
        return exchange.Respond(200, kStream, "data: garbage\n\n");
      case Script::kSilence:
        return exchange.SetListener(std::make_unique<Silent>());
    }
  }

  static void Answer(http::Exchange& exchange) {
    const bool streams = exchange.body().find(R"("stream":true)") != std::string::npos;
    const std::string text = boost::json::serialize(boost::json::value(kAnswer));
    const std::string usage =
        R"("usage":{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":40}})";
    if (!streams) {
      return exchange.Respond(
          200, {}, R"({"choices":[{"message":{"content":)" + text + "}}]," + usage + "}");
    }
    exchange.Start(200, kStream, std::nullopt);
    exchange.Write(R"(data: {"choices":[{"delta":{"content":)" + text + "}}]}\n\n");
    exchange.Write("data: {\"choices\":[]," + usage + "}\n\ndata: [DONE]\n\n");
    exchange.Finish();
  }

  static constexpr std::array<http::Header, 1> kStream = {{{"content-type", "text/event-stream"}}};
  const Script script_;
  Mutex mutex_;  // the test reads what the server's loop writes
  std::vector<std::string> bodies_ GUARDED_BY(mutex_);
  net::LoopPool loops_;
  std::unique_ptr<http::Server> server_;
};

TrafficOptions FastTraffic(const Target& target) {
  TrafficOptions options;
  options.target = target;
  options.model = "m";
  options.chats_per_s = 2000;
  options.max_chats = 20;
  options.shape.agents = 4;
  options.shape.think_s = {.median = 0.001, .least = 0.0005, .most = 0.002};
  return options;
}

struct Outcome {
  Totals totals;
  ChatCounts counts;
};

Outcome RunToTheEnd(TrafficOptions options) {
  net::Loop loop;
  Traffic traffic(loop, std::move(options), [&loop] { loop.Stop(); });
  traffic.Start();
  loop.Run();
  return {traffic.totals(), traffic.counts()};
}

TEST(Traffic, SendsAsManyRequestsAsAskedForAndMeasuresThem) {
  ScriptedGateway gateway(Script::kAnswer);
  TrafficOptions options = FastTraffic(gateway.target());
  options.max_requests = 100;
  const Outcome outcome = RunToTheEnd(options);
  EXPECT_EQ(outcome.totals.answered, 100u);
  EXPECT_EQ(outcome.totals.failed, 0u);
  EXPECT_EQ(outcome.totals.cut_off, 0u);
  EXPECT_EQ(outcome.counts.open, 0u);
  EXPECT_EQ(gateway.bodies().size(), 100u);
  EXPECT_DOUBLE_EQ(outcome.totals.HitRate(), 0.4);
  EXPECT_GT(outcome.totals.first_token.count(), 50u);
  EXPECT_LT(outcome.totals.first_token.count(), 100u);  // some are not streamed
  EXPECT_EQ(outcome.totals.whole.count(), 100u);
}

TEST(Traffic, ATurnRepeatsWhatWasSaidAndAnsweredByteForByte) {
  ScriptedGateway gateway(Script::kAnswer);
  TrafficOptions options = FastTraffic(gateway.target());
  options.max_chats = 1;
  options.max_requests = 40;
  options.shape.mean_turns = 8;
  RunToTheEnd(options);
  std::string before;
  size_t continued = 0;
  for (const std::string& body : gateway.bodies()) {
    const boost::json::value value = boost::json::parse(body);
    EXPECT_EQ(value.at("model").as_string(), "m");
    const bool streams = value.at("stream").as_bool();
    EXPECT_EQ(value.as_object().contains("stream_options"), streams);
    const boost::json::array& messages = value.at("messages").as_array();
    EXPECT_EQ(messages.front().at("role").as_string(), "system");
    EXPECT_EQ(messages.back().at("role").as_string(), "user");
    const std::string said = body.substr(body.find("\"messages\":["));
    if (messages.size() > 2) {
      ++continued;
      EXPECT_EQ(messages[messages.size() - 2].at("content").as_string(), kAnswer);
      EXPECT_THAT(said, StartsWith(before.substr(0, before.size() - 2)));
    }
    before = said;
  }
  EXPECT_GT(continued, 10u);
}

TEST(Traffic, TheSameSeedSendsTheSame) {
  std::vector<std::string> sent[2];
  for (std::vector<std::string>& bodies : sent) {
    ScriptedGateway gateway(Script::kAnswer);
    TrafficOptions options = FastTraffic(gateway.target());
    options.max_chats = 1;
    options.max_requests = 25;
    RunToTheEnd(options);
    bodies = gateway.bodies();
  }
  EXPECT_EQ(sent[0], sent[1]);
}

TEST(Traffic, FailuresAreTold) {
  const struct {
    Script script;
    std::string_view kind;
    std::string_view first;
  } kCases[] = {
      {Script::kRefuse, "HTTP 503", "HTTP 503: nobody home"},
      {Script::kBreak, "truncated", "truncated: "},
      {Script::kGarbage, "bad answer", "bad answer: not a JSON object"},
  };
  for (const auto& c : kCases) {
    ScriptedGateway gateway(c.script);
    TrafficOptions options = FastTraffic(gateway.target());
    options.max_requests = 30;
    const Outcome outcome = RunToTheEnd(options);
    EXPECT_EQ(outcome.totals.answered, 0u) << c.kind;
    EXPECT_EQ(outcome.totals.failed, 30u) << c.kind;
    EXPECT_EQ(outcome.totals.errors.at(std::string(c.kind)), 30u);
    EXPECT_THAT(outcome.totals.first_error, StartsWith(std::string(c.first)));
    EXPECT_EQ(outcome.counts.begun, 30u) << "a chat ends with its first failure";
  }
}

TEST(Traffic, OpensNoMoreChatsThanItMayAndCutsOffWhatDoesNotEnd) {
  ScriptedGateway gateway(Script::kSilence);
  TrafficOptions options = FastTraffic(gateway.target());
  options.max_chats = 7;
  options.duration = milliseconds(200);
  options.end_limit = milliseconds(1);
  const Outcome outcome = RunToTheEnd(options);
  EXPECT_EQ(outcome.counts.begun, 7u);
  EXPECT_GT(outcome.counts.held_back, 0u);
  EXPECT_EQ(outcome.totals.cut_off, 7u);
  EXPECT_EQ(outcome.totals.answered + outcome.totals.failed, 0u);
}

TEST(Traffic, StopsBeforeItBegan) {
  net::Loop loop;
  TrafficOptions options = FastTraffic({"127.0.0.1", 1});
  options.chats_per_s = 1e-6;
  Traffic traffic(loop, options, [&loop] { loop.Stop(); });
  traffic.Start();
  loop.Post([&] { traffic.Stop(); });
  loop.Run();
  EXPECT_EQ(traffic.counts().begun, 0u);
}

TEST(Traffic, OptionsBeyondTheirBoundsAreRefusedByName) {
  const auto complaint = [](auto change) {
    TrafficOptions options = FastTraffic({"127.0.0.1", 1});
    change(options);
    const Result<> ok = Check(options);
    return ok ? std::string() : ok.error().message;
  };
  EXPECT_EQ(complaint([](TrafficOptions&) {}), "");
  EXPECT_THAT(complaint([](TrafficOptions& o) { o.chats_per_s = 0; }), HasSubstr("rate"));
  EXPECT_THAT(complaint([](TrafficOptions& o) { o.chats_per_s = NAN; }), HasSubstr("rate"));
  EXPECT_THAT(complaint([](TrafficOptions& o) { o.max_chats = 0; }), HasSubstr("chats"));
  EXPECT_THAT(complaint([](TrafficOptions& o) { o.max_chats = 1 << 30; }), HasSubstr("chats"));
  EXPECT_THAT(complaint([](TrafficOptions& o) { o.duration = -seconds(1); }),
              HasSubstr("duration"));
  EXPECT_THAT(complaint([](TrafficOptions& o) { o.shape.agents = 0; }), HasSubstr("agents"));
}

TEST(ModelLookup, FindsTheFirstModel) {
  ScriptedGateway gateway(Script::kAnswer);
  net::Loop loop;
  const auto client = http::Client::Create(loop);
  std::optional<Result<std::string>> found;
  ModelLookup lookup(*client, gateway.target(), [&](Result<std::string> model) {
    found = std::move(model);
    loop.Stop();
  });
  loop.Run();
  ASSERT_TRUE(found && *found);
  EXPECT_EQ(**found, "m");
}

TEST(ModelLookup, ReadsListsOnly) {
  EXPECT_EQ(FirstModel(R"({"data":[{"id":"a"}]})"), "a");
  EXPECT_EQ(FirstModel(R"({"data":[7,{"id":null},{"id":""},{"id":"b"}]})"), "b");
  for (std::string_view none : {"", "[]", "{}", R"({"data":{}})", R"({"data":[]})"}) {
    EXPECT_EQ(FirstModel(none), std::nullopt) << none;
  }
}

}  // namespace
}  // namespace penstock::traffic
