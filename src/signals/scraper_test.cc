#include "signals/scraper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <memory>

#include "signals/testing.h"

namespace penstock::signals {
namespace {

using model::Health;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class ScraperTest : public ::testing::Test {
 protected:
  ScraperTest() {
    options_.interval = milliseconds(2);
    options_.models_interval = milliseconds(20);
    options_.max_backoff = milliseconds(10);
    options_.seed = 1;
  }

  model::EndpointSpec Spec(const ScriptedEngine& engine, std::string name = "e") {
    model::EndpointSpec spec;
    spec.name = std::move(name);
    spec.host = "127.0.0.1";
    spec.port = engine.port();
    return spec;
  }
  void Start(std::vector<model::EndpointSpec> endpoints) {
    ASSERT_TRUE(fleet_.Replace(std::move(endpoints)));
    scraper_ = std::make_unique<Scraper>(fleet_, registry_, options_);
    scraper_->Start();
    ASSERT_TRUE(scraper_->WaitFirstRound(seconds(30)));
  }
  model::EndpointInfo Info(std::string_view name = "e") const {
    const auto pool = fleet_.snapshot().Get();
    for (const auto& endpoint : pool->endpoints) {
      if (endpoint.spec.name == name) return endpoint;
    }
    return {};
  }
  bool IsHealthy(std::string_view name = "e") const {
    return Info(name).health == Health::kHealthy;
  }
  // Waits until it failed for this reason.
  void ExpectFailure(std::string_view reason) {
    EXPECT_TRUE(Eventually([&] {
      const auto info = Info();
      return info.health == Health::kFailed && info.health_reason.find(reason) != std::string::npos;
    })) << reason
        << " / " << Info().health_reason;
  }
  uint64_t Scrapes(std::string_view result) {
    return registry_.AddCounterFamily("penstock_scrapes_total", "", {"result"})
        .With({result})
        .Value();
  }

  director::Fleet fleet_;
  telemetry::Registry registry_;
  ScraperOptions options_;
  std::unique_ptr<Scraper> scraper_;
};

TEST_F(ScraperTest, FirstRoundBringsSignalsAndModels) {
  ScriptedEngine a, b;
  b.Answer("/metrics", VllmAnswer(9));
  b.Answer("/v1/models", ModelsAnswer("other"));
  Start({Spec(a, "a"), Spec(b, "b")});
  for (const char* name : {"a", "b"}) {
    EXPECT_TRUE(IsHealthy(name));
    EXPECT_TRUE(Info(name).models_known);
  }
  EXPECT_THAT(Info("a").models, ElementsAre("m"));
  EXPECT_EQ(Info("b").models_json, R"({"id":"other","parent":null})");
  EXPECT_EQ(fleet_.live().waiting[Info("b").slot].load(), 9);
  EXPECT_EQ(fleet_.live().running[Info("b").slot].load(), 1);
  EXPECT_EQ(fleet_.live().kv_usage[Info("b").slot].load(), 0.5f);
  EXPECT_GT(fleet_.live().scraped_at_nanos[Info("b").slot].load(), 0);
  EXPECT_GE(Scrapes("ok"), 2u);
}

TEST_F(ScraperTest, AsksWhereAndForWhatTheConfigurationSays) {
  ScriptedEngine engine, metrics, models;
  metrics.Answer("/custom/metrics?a=b", HttpAnswer(200, "depth{kind=\"waiting\"} 4\nheat 0.5\n"));
  models.Answer("/list", ModelsAnswer("m2"));
  sched::ExtractorSettings settings;
  settings.engine_label_key = "engine";
  settings.engines = {{}};
  settings.engines[0].name = "mine";
  settings.engines[0].waiting = sched::ParseMetricSpec("depth{kind=waiting}");
  settings.engines[0].custom = {{"Heat", *sched::ParseMetricSpec("heat")}};
  const EngineTable engines(settings);
  options_.engines = &engines;
  options_.metrics_path = "/custom/metrics?a=b";
  options_.metrics_port = metrics.port();
  options_.models_path = "/list";
  options_.models_port = models.port();
  director::Fleet fleet(8, nullptr, engines.attributes());
  model::EndpointSpec spec = Spec(engine);
  spec.labels = {{"engine", "mine"}};
  ASSERT_TRUE(fleet.Replace({spec}));
  Scraper scraper(fleet, registry_, options_);
  scraper.Start();
  ASSERT_TRUE(scraper.WaitFirstRound(seconds(30)));
  const auto pool = fleet.snapshot().Get();
  EXPECT_EQ(pool->endpoints[0].health, Health::kHealthy) << pool->endpoints[0].health_reason;
  EXPECT_THAT(pool->endpoints[0].models, ElementsAre("m2"));
  const uint32_t slot = pool->endpoints[0].slot;
  EXPECT_EQ(fleet.live().waiting[slot].load(), 4);
  EXPECT_EQ(fleet.live().Attribute(slot, 0), 0.5f);
  EXPECT_EQ(engine.connections(), 0);
  metrics.Answer("/custom/metrics?a=b", HttpAnswer(200, "depth{kind=\"waiting\"} 4\n"));
  EXPECT_TRUE(Eventually([&] { return std::isnan(fleet.live().Attribute(slot, 0)); }));
}

TEST_F(ScraperTest, OwnMetricsPortWinsOverTheOneOfAll) {
  ScriptedEngine engine, own;
  options_.metrics_port = engine.port();
  own.Answer("/metrics", VllmAnswer(8));
  model::EndpointSpec spec = Spec(engine);
  spec.metrics_port = own.port();
  Start({spec});
  EXPECT_EQ(fleet_.live().waiting[Info().slot].load(), 8);
}

TEST_F(ScraperTest, CountsErrorsInLlmdsNames) {
  ScriptedEngine silent, wrong;
  silent.Answer("/metrics", HttpAnswer(500, ""));
  wrong.Answer("/metrics", HttpAnswer(200, "up 1\n"));
  Start({Spec(silent, "a"), Spec(wrong, "b")});
  const std::string page = registry_.Expose();
  EXPECT_THAT(page, Not(HasSubstr("poll_errors_total{source_type=\"metrics-data-source\"} 0")));
  EXPECT_THAT(page, HasSubstr("poll_errors_total{source_type=\"models-data-source\"} 0"));
  EXPECT_THAT(page, Not(HasSubstr("extract_errors_total{source_type=\"metrics-data-source\","
                                  "extractor_type=\"core-metrics-extractor\"} 0")));
}

TEST_F(ScraperTest, FirstRoundOfAnEmptyFleetIsOverAtOnce) { Start({}); }

TEST_F(ScraperTest, FirstRoundDoesNotWaitForTheDead) {
  ScriptedEngine engine;
  engine.Stop();
  Start({Spec(engine)});
  EXPECT_EQ(Info().health, Health::kFailed);
  EXPECT_THAT(Info().health_reason, HasSubstr("refused"));
}

TEST_F(ScraperTest, FollowsChangingValuesOverFewConnections) {
  ScriptedEngine engine;
  Start({Spec(engine)});
  const uint32_t slot = Info().slot;
  for (int i = 10; i < 20; ++i) {
    engine.Answer("/metrics", VllmAnswer(i));
    ASSERT_TRUE(Eventually([&] { return fleet_.live().waiting[slot].load() == i; }));
  }
  EXPECT_LE(engine.connections(), 2) << "one for each question";
}

TEST_F(ScraperTest, UnchangedPagesPublishNothing) {
  ScriptedEngine engine;
  Start({Spec(engine)});
  const uint64_t version = fleet_.snapshot().Get()->version;
  const int before = engine.requests("/metrics");
  ASSERT_TRUE(Eventually([&] { return engine.requests("/metrics") > before + 20; }));
  EXPECT_EQ(fleet_.snapshot().Get()->version, version);
}

TEST_F(ScraperTest, WantOfDescriptorsTakesNoEngineOut) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's own checks need descriptors";
#endif
  ScriptedEngine engine;
  ScriptedAnswer once = VllmAnswer(4);  // each read needs a connection of its own
  once.then = ScriptedAnswer::Then::kClose;
  engine.Answer("/metrics", once);
  options_.timeout = seconds(30);
  Start({Spec(engine)});
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const bool was_short = Eventually([&] { return Scrapes("local") >= 3; });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(was_short);
  EXPECT_TRUE(IsHealthy());
  engine.Answer("/metrics", VllmAnswer(5));
  EXPECT_TRUE(Eventually([&] { return fleet_.live().waiting[Info().slot].load() == 5; }));
  EXPECT_TRUE(IsHealthy());
}

TEST_F(ScraperTest, RefusedEngineComesBackByItself) {
  ScriptedEngine engine;
  Start({Spec(engine)});
  engine.Stop();
  ExpectFailure("refused");
  engine.Answer("/v1/models", ModelsAnswer("new"));
  engine.Listen();
  EXPECT_TRUE(Eventually([&] { return IsHealthy(); }));
  EXPECT_TRUE(Eventually([&] { return Info().models == std::vector<std::string>{"new"}; }));
}

struct BadAnswer {
  ScriptedAnswer answer;
  std::string_view reason;
  std::string_view result;
};

TEST_F(ScraperTest, FailedScrapesTakeTheEngineOutWithAReason) {
  options_.max_metrics_bytes = 10'000;
  const BadAnswer kTable[] = {
      {HttpAnswer(500, "broken"), "GET /metrics answered 500", "status"},
      {HttpAnswer(404, ""), "answered 404: the engine serves no metrics there", "status"},
      {HttpAnswer(401, ""), "without credentials", "status"},
      {HttpAnswer(302, ""), "answered 302", "status"},
      {HttpAnswer(200, ""), "/metrics is empty", "unusable"},
      {HttpAnswer(200, "up 1\n"), "no queue or cache metrics", "unusable"},
      {HttpAnswer(200, std::string(20'000, 'x')), "larger than 10000 bytes", "too_large"},
      {{"garbage\r\n\r\n"}, "GET /metrics: ", "bad_response"},
      {{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", ScriptedAnswer::Then::kClose},
       "GET /metrics: ",
       "truncated"},
  };
  ScriptedEngine engine;
  Start({Spec(engine)});
  for (const BadAnswer& bad : kTable) {
    engine.Answer("/metrics", bad.answer);
    ExpectFailure(bad.reason);
    EXPECT_GE(Scrapes(bad.result), 1u) << bad.result;
    engine.Answer("/metrics", VllmAnswer(1));
    ASSERT_TRUE(Eventually([&] { return IsHealthy(); })) << bad.reason;
  }
}

TEST_F(ScraperTest, HangingEngineLeavesAndComesBack) {
  options_.timeout = milliseconds(50);
  ScriptedEngine engine;
  Start({Spec(engine)});
  engine.Answer("/metrics", {});
  const uint64_t before = Scrapes("timeout");
  EXPECT_TRUE(Eventually([&] { return Scrapes("timeout") > before + 2; }));
  ExpectFailure("GET /metrics");
  engine.Answer("/metrics", VllmAnswer(1));
  EXPECT_TRUE(Eventually([&] { return IsHealthy(); }));
}

TEST_F(ScraperTest, NeverAsksTheSameTwiceAtOnce) {
  ScriptedEngine engine;
  options_.timeout = seconds(30);
  Start({Spec(engine)});
  engine.Answer("/metrics", {});
  const int before = engine.requests("/v1/models");
  // The models are read on while the metrics hang.
  ASSERT_TRUE(Eventually([&] { return engine.requests("/v1/models") > before + 5; }));
  EXPECT_EQ(engine.overlaps(), 0);
}

TEST_F(ScraperTest, EngineWithoutAListServesAnyModel) {
  ScriptedEngine engine;
  engine.Answer("/v1/models", HttpAnswer(404, "{}"));
  Start({Spec(engine)});
  EXPECT_TRUE(IsHealthy());
  EXPECT_FALSE(Info().models_known);
  engine.Answer("/v1/models", ModelsAnswer("m"));
  EXPECT_TRUE(Eventually([&] { return Info().models_known; }));
}

TEST_F(ScraperTest, BrokenListKeepsTheLastOne) {
  ScriptedEngine engine;
  Start({Spec(engine)});
  auto& failures =
      registry_.AddCounterFamily("penstock_models_reads_total", "", {"result"}).With({"unusable"});
  engine.Answer("/v1/models", HttpAnswer(200, "{\"data\": [{\"id\": "));
  ASSERT_TRUE(Eventually([&] { return failures.Value() > 1; }));
  engine.Answer("/v1/models", HttpAnswer(500, ""));
  auto& statuses =
      registry_.AddCounterFamily("penstock_models_reads_total", "", {"result"}).With({"status"});
  ASSERT_TRUE(Eventually([&] { return statuses.Value() > 1; }));
  EXPECT_TRUE(IsHealthy());
  EXPECT_THAT(Info().models, ElementsAre("m"));
  engine.Answer("/v1/models", ModelsAnswer("n"));
  EXPECT_TRUE(Eventually([&] { return Info().models == std::vector<std::string>{"n"}; }));
}

TEST_F(ScraperTest, ListTooLargeIsNoList) {
  options_.max_models_bytes = 1000;
  ScriptedEngine engine;
  engine.Answer("/v1/models", ModelsAnswer(std::string(2000, 'x')));
  Start({Spec(engine)});
  EXPECT_TRUE(IsHealthy());
  EXPECT_FALSE(Info().models_known);
}

TEST_F(ScraperTest, MetricsPortIsHonoured) {
  ScriptedEngine engine, side;
  engine.Answer("/metrics", HttpAnswer(404, ""));
  side.Answer("/metrics", VllmAnswer(42));
  model::EndpointSpec spec = Spec(engine);
  spec.metrics_port = side.port();
  Start({spec});
  EXPECT_TRUE(IsHealthy());
  EXPECT_EQ(fleet_.live().waiting[Info().slot].load(), 42);
  EXPECT_EQ(engine.requests("/metrics"), 0);
  EXPECT_EQ(side.requests("/v1/models"), 0);
  EXPECT_THAT(side.last_head(), HasSubstr("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:" +
                                          std::to_string(side.port()) + "\r\n"));
  // Now on the engine's own port, under the same name and address.
  engine.Answer("/metrics", VllmAnswer(43));
  ASSERT_TRUE(fleet_.Replace({Spec(engine)}));
  EXPECT_TRUE(Eventually([&] { return fleet_.live().waiting[Info().slot].load() == 43; }));
}

TEST_F(ScraperTest, EngineTypeOfTheLabelIsExpected) {
  ScriptedEngine engine;
  model::EndpointSpec spec = Spec(engine);
  spec.labels = {{std::string(model::kEngineTypeLabel), "sglang"}};
  Start({spec});
  EXPECT_THAT(Info().health_reason, HasSubstr("sglang:num_queue_reqs"));
  engine.Answer("/metrics", HttpAnswer(200, "sglang:num_queue_reqs 5\n"));
  EXPECT_TRUE(Eventually([&] { return IsHealthy(); }));
}

TEST_F(ScraperTest, FollowsTheFleet) {
  ScriptedEngine a, b;
  Start({Spec(a, "a")});
  ASSERT_TRUE(fleet_.Replace({Spec(b, "b")}));
  EXPECT_TRUE(Eventually([&] { return IsHealthy("b") && Info("b").models_known; }));
  const int after = a.requests("/metrics");
  const int before = b.requests("/metrics");
  ASSERT_TRUE(Eventually([&] { return b.requests("/metrics") > before + 10; }));
  EXPECT_LE(a.requests("/metrics"), after + 1) << "one may have been on its way";
  ASSERT_TRUE(fleet_.Replace({Spec(a, "a"), Spec(b, "b")}));
  EXPECT_TRUE(Eventually([&] { return IsHealthy("a") && IsHealthy("b"); }));
}

TEST_F(ScraperTest, EngineThatOthersCouldNotReachIsAskedSoon) {
  options_.interval = std::chrono::hours(1);
  options_.models_interval = std::chrono::hours(1);
  ScriptedEngine engine;
  Start({Spec(engine)});
  engine.Answer("/v1/models", ModelsAnswer("after"));
  fleet_.ConnectFailed(Info().slot, "reset by peer", Time());
  EXPECT_TRUE(Eventually([&] { return IsHealthy(); }));
  EXPECT_TRUE(Eventually([&] { return Info().models == std::vector<std::string>{"after"}; }));
}

TEST_F(ScraperTest, FailedEngineIsAskedAgainSoonWhateverTheInterval) {
  options_.interval = std::chrono::hours(1);
  ScriptedEngine engine;
  engine.Stop();
  Start({Spec(engine)});
  engine.Listen();
  EXPECT_TRUE(Eventually([&] { return IsHealthy(); }));
}

TEST_F(ScraperTest, BadValuesAreCounted) {
  ScriptedEngine engine;
  engine.Answer("/metrics", HttpAnswer(200,
                                       "vllm:num_requests_waiting NaN\n"
                                       "vllm:num_requests_running 4\n"));
  Start({Spec(engine)});
  EXPECT_TRUE(IsHealthy());
  EXPECT_GE(registry_.AddCounter("penstock_scrape_bad_values_total", "").Value(), 1u);
}

TEST_F(ScraperTest, StopsWhileReadsHang) {
  ScriptedEngine engine;
  Start({Spec(engine)});
  engine.Answer("/metrics", {});
  engine.Answer("/v1/models", {});
  const int before = engine.requests("/metrics");
  ASSERT_TRUE(Eventually([&] { return engine.requests("/metrics") > before; }));
  scraper_.reset();
}

TEST_F(ScraperTest, ManyEnginesAreAllRead) {
  std::vector<std::unique_ptr<ScriptedEngine>> engines;
  std::vector<model::EndpointSpec> specs;
  for (int i = 0; i < 20; ++i) {
    engines.push_back(std::make_unique<ScriptedEngine>());
    specs.push_back(Spec(*engines.back(), "e" + std::to_string(i)));
  }
  Start(specs);
  const auto pool = fleet_.snapshot().Get();
  for (const auto& endpoint : pool->endpoints) {
    EXPECT_EQ(endpoint.health, Health::kHealthy) << endpoint.health_reason;
  }
  for (const auto& engine : engines) {
    EXPECT_TRUE(Eventually([&] { return engine->requests("/metrics") > 5; }));
    EXPECT_EQ(engine->overlaps(), 0);
  }
}

}  // namespace
}  // namespace penstock::signals
