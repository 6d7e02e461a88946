#include "admin/admin_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <map>

#include "admin/plugin_states.h"
#include "admin/testing.h"

namespace penstock::admin {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;

// An exchange that keeps the answer.
class FakeExchange : public http::Exchange {
 public:
  FakeExchange(std::string method, std::string target)
      : method_(std::move(method)), target_(std::move(target)) {
    head_.method = method_;
    head_.target = target_;
    head_.path = std::string_view(target_).substr(0, target_.find('?'));
  }
  const http::RequestHead& head() const override { return head_; }
  std::string& body() override { return body_; }
  void ReleaseBody() override { body_.clear(); }
  net::Loop& loop() override { std::abort(); }  // the admin port needs none
  std::string_view client_address() const override { return "127.0.0.1"; }
  Time received() const override { return Time() + seconds(10); }
  void SetListener(std::unique_ptr<http::ExchangeListener>) override {}
  void Respond(int code, std::span<const http::Header> list, std::string_view body) override {
    ++responses;
    status = code;
    for (const http::Header& h : list) headers[std::string(h.name)] = h.value;
    answer = body;
  }
  void Start(int, std::span<const http::Header>, std::optional<uint64_t>) override {}
  void Write(std::string_view) override {}
  size_t unsent_bytes() const override { return 0; }
  bool above_high_watermark() const override { return false; }
  void Finish() override {}
  void Abort() override {}

  int responses = 0;
  int status = 0;
  std::map<std::string, std::string> headers;
  std::string answer;

 private:
  std::string method_, target_, body_;
  http::RequestHead head_;
};

struct FakePlugin : sched::Plugin {
  FakePlugin(std::string name, std::string type) { SetIdentity(std::move(name), std::move(type)); }
  std::vector<sched::PluginStat> Stats() const override { return stats; }
  std::vector<sched::PluginStat> stats;
};

struct AdminTest : testing::Test {
  FakeExchange Ask(std::string target, std::string method = "GET") {
    FakeExchange exchange(std::move(method), std::move(target));
    handler.Handle(exchange);
    EXPECT_EQ(exchange.responses, 1);
    return exchange;
  }
  json::value AskJson(std::string target, int status = 200) {
    FakeExchange exchange = Ask(std::move(target));
    EXPECT_EQ(exchange.status, status) << exchange.answer;
    EXPECT_EQ(exchange.headers["content-type"], "application/json");
    boost::system::error_code error;
    json::value value = json::parse(exchange.answer, error);
    EXPECT_FALSE(error) << exchange.answer;
    return value;
  }

  Rig rig{3};
  telemetry::Registry registry;
  LiveStats live{32};
  bool draining = false;
  AdminShared shared{
      *rig.director, registry, live, "1.2.3", "sticky", {"profile default: told"}, [this] {
        return draining;
      }};
  AdminHandler handler{shared};
};

std::string Text(const json::value& value) { return std::string(value.as_string()); }

TEST_F(AdminTest, ExposesTheRegistry) {
  registry.AddCounter("x_total", "X.").Add(3);
  FakeExchange exchange = Ask("/metrics");
  EXPECT_EQ(exchange.status, 200);
  EXPECT_THAT(exchange.headers["content-type"], HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(exchange.answer, HasSubstr("x_total 3\n"));
}

TEST_F(AdminTest, IsReadyWithAHealthyEngineAndNotWhileDraining) {
  EXPECT_EQ(Ask("/healthz").status, 200);
  EXPECT_EQ(Ask("/readyz").status, 200);
  draining = true;
  EXPECT_THAT(Ask("/readyz").answer, HasSubstr("draining"));
  EXPECT_EQ(Ask("/readyz").status, 503);
  EXPECT_EQ(Ask("/healthz").status, 200);
  draining = false;
  for (uint32_t slot = 0; slot < 3; ++slot) rig.fleet.ScrapeFailed(slot, "gone", Time());
  EXPECT_EQ(Ask("/readyz").status, 503);
  EXPECT_EQ(Ask("/healthz").status, 200);
}

TEST_F(AdminTest, SaysWhenNobodyListensToKvEvents) {
  EXPECT_THAT(Text(AskJson("/debug/kv", 404).at("error").at("message")),
              HasSubstr("precise-prefix-cache-producer"));
  EXPECT_EQ(Ask("/debug/kv/match", "POST").status, 404);
  EXPECT_EQ(Ask("/debug/kv/match").status, 405);
  EXPECT_THAT(Text(AskJson("/debug/kv/snapshot", 404).at("error").at("message")),
              HasSubstr("kvSnapshot"));
  EXPECT_TRUE(AskJson("/api/live").at("caches").is_null());
}

TEST_F(AdminTest, ListsDecisionsNewestFirst) {
  for (const char* id : {"a", "b", "c"}) rig.Complete(id);
  const json::value list = AskJson("/debug/decisions?limit=2");
  EXPECT_EQ(list.at("total").to_number<int>(), 3);
  ASSERT_EQ(list.at("decisions").as_array().size(), 2u);
  const json::value& newest = list.at("decisions").at(0);
  EXPECT_EQ(Text(newest.at("request_id")), "c");
  EXPECT_EQ(Text(newest.at("endpoint")), "e0");
  EXPECT_EQ(Text(newest.at("end")), "complete");
  EXPECT_EQ(newest.at("input_tokens").to_number<int>(), 5210);
  EXPECT_EQ(newest.at("estimated_input_tokens").to_number<int>(), 5200);
  EXPECT_DOUBLE_EQ(newest.at("ttft_s").to_number<double>(), 0.12);
  EXPECT_EQ(AskJson("/debug/decisions").at("decisions").as_array().size(), 3u);
}

TEST_F(AdminTest, RefusesLimitsThatAreNone) {
  for (const char* limit : {"0", "-1", "x", "", "1001", "99999999999999999999"}) {
    const json::value error = AskJson("/debug/decisions?a=1&limit=" + std::string(limit), 400);
    EXPECT_THAT(Text(error.at("error").at("message")), HasSubstr("from 1 to 1000"));
  }
  AskJson("/debug/decisions?limits=x&&=&limit=5&");
}

TEST_F(AdminTest, ExplainsOneDecision) {
  rig.scheduler->keep = {true, true, false};
  rig.scheduler->scores = {0.25F, 0.75F, 1};
  rig.scheduler->matched = {7, 80, 0};
  rig.scheduler->pick = 1;
  rig.Complete("a/b c");
  const json::value decision = AskJson("/debug/decisions/a%2fb%20c");
  EXPECT_EQ(Text(decision.at("request_id")), "a/b c");
  EXPECT_EQ(decision.at("output_tokens").to_number<int>(), 214);
  EXPECT_EQ(decision.at("cached_tokens").to_number<int>(), 5000);
  EXPECT_GE(decision.at("explanation").as_array().size(), 5u);
  const json::value& attempt = decision.at("attempts").at(0);
  ASSERT_EQ(attempt.at("candidates").as_array().size(), 3u);
  const json::value& picked = attempt.at("candidates").at(1);
  EXPECT_EQ(Text(picked.at("endpoint")), "e1");
  EXPECT_EQ(Text(picked.at("address")), "10.0.0.1:8000");
  EXPECT_TRUE(picked.at("picked").as_bool());
  EXPECT_FALSE(attempt.at("candidates").at(0).as_object().contains("picked"));
  EXPECT_EQ(picked.at("matched_blocks").to_number<int>(), 80);
  EXPECT_EQ(picked.at("waiting").to_number<int>(), 3);
  EXPECT_FALSE(picked.as_object().contains("running"));  // no plugin needed it
  const json::value& profile = attempt.at("profiles").at(0);
  EXPECT_EQ(json::serialize(profile.at("filters")),
            R"([{"plugin":"told-filter","kept":["e0","e1"],"dropped":["e2"]}])");
  EXPECT_DOUBLE_EQ(profile.at("scorers").at(0).at("scores").at("e1").to_number<double>(), 0.75);
  EXPECT_DOUBLE_EQ(profile.at("totals").at("e0").to_number<double>(), 0.5);
  EXPECT_FALSE(profile.at("totals").as_object().contains("e2"));
  EXPECT_EQ(Text(profile.at("picks").at(0)), "e1");
}

TEST_F(AdminTest, WhatIsNotKnownOfADecisionIsNull) {
  rig.scheduler->drain = true;
  rig.Arrive("full");
  const json::value decision = AskJson("/debug/decisions/full");
  for (const char* field :
       {"endpoint", "ttft_s", "input_tokens", "cached_tokens", "output_tokens"}) {
    EXPECT_TRUE(decision.at(field).is_null()) << field;
  }
  EXPECT_EQ(decision.at("status").to_number<int>(), 429);
  EXPECT_TRUE(decision.at("attempts").as_array().empty());
}

TEST_F(AdminTest, AnUnknownDecisionIsNotFound) {
  for (const char* id : {"none", "", "%", "%zz", "%0", "../../etc/passwd"}) {
    AskJson("/debug/decisions/" + std::string(id), 404);
  }
}

TEST_F(AdminTest, OddNamesStayValidJson) {
  model::EndpointSpec odd{"a\"\\\n<script>\xff", "10.0.0.9", 80, 0, {{"k\x01", "\xc3"}}};
  ASSERT_TRUE(rig.fleet.Replace({odd}).has_value());
  const auto slot = rig.fleet.snapshot().Get()->endpoints[0].slot;
  rig.fleet.Scraped(slot, {}, Time());
  rig.fleet.ModelsRead(slot, {"llama"}, R"({"id":"llama"})");
  rig.Complete("r");
  for (const char* target : {"/debug/endpoints", "/api/live", "/debug/decisions/r"})
    AskJson(target);
}

TEST_F(AdminTest, ShowsWhatIsKnownOfEachEndpoint) {
  rig.fleet.ScrapeFailed(2, "connection refused", Time());
  director::Arrival arrival = rig.Arrive("r");
  const json::value answer = AskJson("/debug/endpoints");
  ASSERT_EQ(answer.at("endpoints").as_array().size(), 3u);
  const json::value& first = answer.at("endpoints").at(0);
  EXPECT_EQ(Text(first.at("name")), "e0");
  EXPECT_EQ(Text(first.at("health")), "healthy");
  EXPECT_TRUE(first.at("reason").is_null());
  EXPECT_EQ(Text(first.at("role")), "decode");
  EXPECT_EQ(json::serialize(first.at("models")), R"(["llama"])");
  EXPECT_EQ(first.at("waiting").to_number<int>(), 4);
  EXPECT_DOUBLE_EQ(first.at("kv_usage").to_number<double>(), 0.25);
  EXPECT_DOUBLE_EQ(first.at("metrics_age_s").to_number<double>(), 9);
  EXPECT_EQ(first.at("in_flight_requests").to_number<int>(), 1);
  EXPECT_EQ(first.at("in_flight_tokens").to_number<int>(), 1000);
  EXPECT_TRUE(first.at("hit_rate").is_null());
  const json::value& failed = answer.at("endpoints").at(2);
  EXPECT_EQ(Text(failed.at("health")), "failed");
  EXPECT_EQ(Text(failed.at("reason")), "connection refused");
}

TEST_F(AdminTest, LiveHasCurvesOfEqualLength) {
  live.OnRequestEnded(*rig.Complete("r"), Time() + seconds(7));
  live.SampleQueues(*rig.fleet.snapshot().Get(), rig.fleet.live(), Time() + seconds(7));
  const json::value answer = AskJson("/api/live");
  EXPECT_EQ(Text(answer.at("policy")), "sticky");
  EXPECT_EQ(answer.at("endpoints_healthy").to_number<int>(), 3);
  EXPECT_EQ(answer.at("decisions").as_array().size(), 1u);
  const json::object& series = answer.at("series").as_object();
  EXPECT_EQ(series.size(), 12u);
  const size_t points = series.at("second").as_array().size();
  for (const auto& [name, values] : series) EXPECT_EQ(values.as_array().size(), points) << name;
  EXPECT_EQ(series.at("second").as_array().back().to_number<int>(), 0);
  EXPECT_DOUBLE_EQ(series.at("requests_per_s").as_array().back().to_number<double>(), 0.5);
  EXPECT_DOUBLE_EQ(series.at("waiting").as_array().back().to_number<double>(), 12);
  EXPECT_TRUE(series.at("waiting").as_array().front().is_null());
}

TEST_F(AdminTest, AnEmptyPoolIsShownToo) {
  ASSERT_TRUE(rig.fleet.Replace({}).has_value());
  EXPECT_TRUE(AskJson("/api/live").at("endpoints").as_array().empty());
  EXPECT_TRUE(AskJson("/debug/endpoints").at("endpoints").as_array().empty());
}

TEST_F(AdminTest, ServesThePageUnderAStrictPolicy) {
  for (const char* path : {"/", "/index.html"}) {
    FakeExchange page = Ask(path);
    EXPECT_EQ(page.status, 200);
    EXPECT_EQ(page.headers["content-type"], "text/html; charset=utf-8");
    EXPECT_THAT(page.headers["content-security-policy"], HasSubstr("default-src 'none'"));
    EXPECT_THAT(page.headers["content-security-policy"], Not(HasSubstr("unsafe")));
    EXPECT_EQ(page.headers["x-content-type-options"], "nosniff");
    EXPECT_THAT(page.answer, HasSubstr("<title>Penstock</title>"));
    // What the policy would forbid is not there.
    EXPECT_THAT(page.answer, Not(testing::ContainsRegex("style=|onclick=|(src|href)=.https?://")));
  }
  EXPECT_EQ(Ask("/app.js").headers["content-type"], "text/javascript; charset=utf-8");
  EXPECT_EQ(Ask("/style.css").headers["content-type"], "text/css; charset=utf-8");
  EXPECT_EQ(Ask("/icon.svg").headers["content-type"], "image/svg+xml");
}

TEST_F(AdminTest, RefusesTheRest) {
  for (const char* path : {"/nothing", "/debug", "/app.js/", "//app.js", "/../app.js", "*"}) {
    AskJson(path, 404);
  }
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "get"}) {
    FakeExchange exchange = Ask("/metrics", method);
    EXPECT_EQ(exchange.status, 405) << method;
    EXPECT_EQ(exchange.headers["allow"], "GET, HEAD");
  }
  EXPECT_EQ(Ask("/metrics", "HEAD").status, 200);
}

TEST_F(AdminTest, PluginStatesAreToldAsLlmdDoes) {
  FakePlugin silent("queue-scorer", "queue-scorer");
  FakePlugin ledger("load", "inflight-load-producer");
  FakePlugin index("index", "approx-prefix-cache-producer");
  index.stats = {{"prefix_indexer_size", 12}};
  rig.scheduler->plugins = {&silent, &ledger, &index};
  const director::Arrival arrival = rig.Arrive("r");
  const FakeExchange exchange = Ask("/debug/plugins/state");
  ASSERT_EQ(exchange.status, 200);
  const json::value page = json::parse(exchange.answer);
  const std::string stamp(page.at("timestamp").as_string());
  EXPECT_THAT(stamp, testing::MatchesRegex("20..-..-..T..:..:..(\\..*)?Z"));
  const json::object& plugins = page.at("plugins").as_object();
  ASSERT_EQ(plugins.size(), 3u);
  EXPECT_EQ(plugins.at("queue-scorer"),
            (json::value{{"name", "queue-scorer"},
                         {"type", "queue-scorer"},
                         {"message", "plugin does not support state collection"}}));
  const json::value& load = plugins.at("load").at("state");
  EXPECT_EQ(load.at("totalEndpoints"),
            static_cast<int64_t>(load.at("endpoints").as_array().size()));
  EXPECT_EQ(load.at("maxEndpoints"), 100);
  EXPECT_EQ(load.at("truncated"), false);
  EXPECT_EQ(load.at("endpoints").at(0).at("requests"), 1) << "the busiest first";
  EXPECT_EQ(load.at("endpoints").at(0).at("tokens"), 1000);
  EXPECT_EQ(plugins.at("index").at("state").at("prefix_indexer_size").to_number<double>(), 12);
  EXPECT_EQ(Ask("/debug/plugins/state", "POST").status, 405);
}

TEST(FormatRfc3339, HasNanosecondsWithoutZerosAtTheEnd) {
  using std::chrono::nanoseconds;
  EXPECT_EQ(FormatRfc3339(nanoseconds(0)), "1970-01-01T00:00:00Z");
  EXPECT_EQ(FormatRfc3339(nanoseconds(1'700'000'000'123'456'789)),
            "2023-11-14T22:13:20.123456789Z");
  EXPECT_EQ(FormatRfc3339(nanoseconds(1'700'000'000'120'000'000)), "2023-11-14T22:13:20.12Z");
}

}  // namespace
}  // namespace penstock::admin
