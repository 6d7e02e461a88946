#include "config/serve_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/document.h"
#include "config/parse.h"

namespace penstock::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::string ErrorOf(std::string_view text) {
  std::vector<std::string> warnings;
  const Result<ServeConfig> config = LoadServeConfig(text, "p.yaml", &warnings);
  return config ? "no error" : config.error().message;
}

TEST(ServeConfig, EmptyFileGivesTheDefaults) {
  std::vector<std::string> warnings;
  const Result<ServeConfig> config = LoadServeConfig("", "p.yaml", &warnings);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->listen, "127.0.0.1:8080");
  EXPECT_EQ(config->limits.max_body_bytes, 64u << 20);
  EXPECT_EQ(config->retry.max_tries, 2u);
  EXPECT_EQ(config->scheduling.policy, "least-cost");
}

TEST(ServeConfig, ReadsAWholeFile) {
  std::vector<std::string> warnings;
  const Result<ServeConfig> config = LoadServeConfig(R"(
listen: 0.0.0.0:80
engines:
  - url: http://10.0.0.1:8000
    name: a
    role: decode
    labels: {zone: east}
  - {url: "http://[fd00::1]:8000", ranks: 2, engineType: vllm}
scheduling: {policy: random}
limits: {maxBodyBytes: 16MiB, decisionLogBytes: 1000000}
timeouts: {drain: 1m}
)",
                                                     "p.yaml", &warnings);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->limits.max_body_bytes, 16u << 20);
  EXPECT_EQ(config->timeouts.drain, seconds(60));
  ASSERT_EQ(config->engines.size(), 2u);
  const auto first = ToEndpoints(config->engines[0]);
  ASSERT_TRUE(first);
  ASSERT_EQ(first->size(), 1u);
  EXPECT_EQ((*first)[0].name, "a");
  EXPECT_THAT((*first)[0].labels,
              ElementsAre(Pair("llm-d.ai/role", "decode"), Pair("zone", "east")));
  const auto second = ToEndpoints(config->engines[1]);
  ASSERT_TRUE(second);
  ASSERT_EQ(second->size(), 2u);
  EXPECT_EQ((*second)[1].name, "[fd00::1]:8001");
  EXPECT_EQ((*second)[1].host, "fd00::1");
  EXPECT_EQ((*second)[1].port, 8001);
}

TEST(ServeConfig, SaysWhatNoSingleFieldCanJudge) {
  EXPECT_THAT(ErrorOf("listen: 8080\n"), HasSubstr("p.yaml:1:9: listen: must be a text"));
  EXPECT_THAT(ErrorOf("listen: localhost\n"),
              HasSubstr("p.yaml:1:9: listen: 'localhost': a port is missing"));
  EXPECT_THAT(ErrorOf("engines:\n  - url: https://e:0\n"),
              HasSubstr("p.yaml:2:5: engines[0]: 'https://e:0': port 0 cannot be connected to"));
  EXPECT_THAT(ErrorOf("engineTls: {keyFile: /k}\n"),
              HasSubstr("p.yaml:1:12: engineTls: certificateFile and keyFile go together"));
  EXPECT_THAT(ErrorOf("engines:\n- {url: http://e:1, name: a}\n- {url: http://f:1, name: a}\n"),
              HasSubstr("p.yaml:3:3: engines[1]: name 'a' is used twice"));
  EXPECT_THAT(ErrorOf("engines:\n- {url: http://e:1, name: a}\n- {url: http://e:1, name: b}\n"),
              HasSubstr("address e:1 is used twice"));
  EXPECT_THAT(
      ErrorOf("limits: {maxEndpoints: 1}\nengines:\n- url: http://e:1\n- url: http://e:2\n"),
      HasSubstr("p.yaml:3:1: engines: 2 endpoints, more than limits.maxEndpoints 1"));
  EXPECT_THAT(ErrorOf("scheduling: {policy: random, file: x.yaml}\n"),
              HasSubstr("give one of policy, file, or plugins"));
  EXPECT_THAT(ErrorOf("engines:\n- {url: http://e:1, role: decoder}\n"),
              HasSubstr("did you mean 'decode'?"));
  EXPECT_THAT(ErrorOf("limits: {maxBodyBytes: 5GiB}\n"), HasSubstr("above the maximum"));
  EXPECT_THAT(ErrorOf("limits: {maxBodyBytes: 5XB}\n"), HasSubstr("must be a size"));
  EXPECT_THAT(ErrorOf("limts: {}\n"), HasSubstr("did you mean 'limits'?"));
}

TEST(EngineUrl, IsAHostAndAPort) {
  const std::pair<std::string_view, HostPort> good[] = {
      {"http://10.0.0.1:8000", {"10.0.0.1", 8000}},
      {"http://[fd00::1]:8000/", {"fd00::1", 8000}},
      {"HTTP://vllm-0.svc", {"vllm-0.svc", 80}},
      {"http://[::1]", {"::1", 80}}};
  for (const auto& [url, expected] : good) {
    const Result<EngineUrl> parsed = ParseEngineUrl(url);
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->scheme, model::Scheme::kHttp);
    EXPECT_EQ(parsed->host, expected.host);
    EXPECT_EQ(parsed->port, expected.port);
  }
  for (std::string_view url :
       {"", "http://", "10.0.0.1:8000", "ftp://a:1", "http://a:1/v1", "http://a:0",
        "http://a:65536", "http://a:", "http://a:x", "http://:8000", "http://::1:8000",
        "http://[::1", "http://[a]:1", "http://u:p@a:1", "http://a b:1", "http://10.0.0.300:1",
        "http://a?x", "http://a..b:1"}) {
    EXPECT_FALSE(ParseEngineUrl(url)) << url;
  }
}

TEST(EngineUrl, HttpsHasAPortOfItsOwn) {
  Result<EngineUrl> parsed = ParseEngineUrl("HTTPS://engine.example/");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->scheme, model::Scheme::kHttps);
  EXPECT_EQ(parsed->host, "engine.example");
  EXPECT_EQ(parsed->port, 443);
  EXPECT_EQ(ParseEngineUrl("https://[::1]:8443")->port, 8443);
  const auto endpoints = ToEndpoints({.url = "https://a:1", .ranks = 2});
  ASSERT_TRUE(endpoints);
  for (const model::EndpointSpec& spec : *endpoints) {
    EXPECT_EQ(spec.scheme, model::Scheme::kHttps);
  }
}

TEST(EngineUrl, ErrorsDoNotRepeatCredentials) {
  const Result<EngineUrl> parsed = ParseEngineUrl("http://user:secret@host:1");
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().message, ::testing::Not(HasSubstr("secret")));
}

TEST(ToEndpoints, RanksMustFitTheirPorts) {
  EngineConfig engine;
  engine.url = "http://a:65530";
  engine.ranks = 7;
  ASSERT_FALSE(ToEndpoints(engine));
  engine.ranks = 6;
  engine.name = "e";
  engine.metrics_port = 9000;
  const auto specs = ToEndpoints(engine);
  ASSERT_TRUE(specs);
  EXPECT_EQ(specs->back().name, "e-rank-5");
  EXPECT_EQ(specs->back().port, 65535);
  EXPECT_EQ(specs->back().metrics_port, 9005);
  EXPECT_EQ(specs->back().rank, 5);
  EXPECT_EQ(specs->back().kv_events_port, std::nullopt);
  engine.kv_events_port = 0;
  EXPECT_EQ(ToEndpoints(engine)->at(2).kv_events_port, 0);
  engine.kv_events_port = 5557;
  EXPECT_EQ(ToEndpoints(engine)->at(2).kv_events_port, 5559);
  EXPECT_EQ(ToEndpoints(engine)->at(2).kv_replay_port, std::nullopt);
  engine.kv_replay_port = 65531;
  EXPECT_FALSE(ToEndpoints(engine));
}

TEST(ToEndpoints, ShortFormsMayNotContradictLabels) {
  EngineConfig engine;
  engine.url = "http://a:1";
  engine.role = "decode";
  engine.labels = {{"llm-d.ai/role", "prefill"}};
  const auto specs = ToEndpoints(engine);
  ASSERT_FALSE(specs);
  EXPECT_EQ(specs.error().message, "role 'decode' contradicts label llm-d.ai/role=prefill");
}

TEST(EngineFlag, ReadsItsSettings) {
  const auto engine = ParseEngineFlag(
      "http://a:8000,name=7,role=prefill,label.zone=1,metricsPort=9,ranks=2,"
      "kvEventsPort=5557,kvReplayPort=5657");
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ(engine->name, "7");
  EXPECT_EQ(engine->role, "prefill");
  EXPECT_EQ(engine->metrics_port, 9u);
  EXPECT_EQ(engine->ranks, 2u);
  EXPECT_EQ(engine->kv_events_port, 5557u);
  EXPECT_EQ(engine->kv_replay_port, 5657u);
  EXPECT_THAT(engine->labels, ElementsAre(Pair("zone", "1")));
  const std::pair<std::string_view, std::string_view> bad[] = {
      {"", "no engine address"},
      {"http://a:1,", "not of the form KEY=VALUE"},
      {"http://a:1,nam=x", "did you mean 'name'?"},
      {"http://a:1,name=x,name=y", "'name' is given twice"},
      {"http://a:1,ranks=0", "below the minimum 1"},
      {"http://a:1,labels=x", "must be a map of texts"},
      {"ftp://a:1", "no engine address"},
  };
  for (const auto& [flag, expected] : bad) {
    const auto parsed = ParseEngineFlag(flag);
    ASSERT_FALSE(parsed) << flag;
    EXPECT_THAT(parsed.error().message, HasSubstr(std::string(expected)));
  }
}

}  // namespace
}  // namespace penstock::config
