#include "app/kv_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "admin/caches_testing.h"

namespace penstock::app {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

model::PoolSnapshot PoolOf(std::vector<model::EndpointSpec> specs) {
  model::PoolSnapshot pool;
  for (model::EndpointSpec& spec : specs) {
    model::EndpointInfo info;
    info.slot = 10 + static_cast<uint32_t>(pool.endpoints.size());
    info.address = spec.host + ":" + std::to_string(spec.port);
    info.gpu_blocks = 100;
    info.spec = std::move(spec);
    pool.endpoints.push_back(std::move(info));
  }
  return pool;
}

model::EndpointSpec SpecOf(std::string name, std::string host, uint16_t rank = 0) {
  model::EndpointSpec spec;
  spec.name = std::move(name);
  spec.host = std::move(host);
  spec.port = static_cast<uint16_t>(8000 + rank);
  spec.rank = rank;
  return spec;
}

TEST(KvSources, AreAtThePluginsPortsAndTheirRanks) {
  const KvSources sources =
      KvSourcesOf(PoolOf({SpecOf("a", "10.0.0.1"), SpecOf("b-rank-3", "fd00::1", 3)}),
                  {.port = 5557, .replay_port = 5600}, {});
  EXPECT_THAT(sources.unheard, IsEmpty());
  ASSERT_EQ(sources.heard.size(), 2u);
  EXPECT_EQ(sources.heard[0].name, "a");
  EXPECT_EQ(sources.heard[0].address, "10.0.0.1:8000");
  EXPECT_EQ(sources.heard[0].slot, 10u);
  EXPECT_EQ(sources.heard[0].gpu_blocks, 100u);
  EXPECT_EQ(sources.heard[0].events, "tcp://10.0.0.1:5557");
  EXPECT_EQ(sources.heard[0].replay, "tcp://10.0.0.1:5600");
  EXPECT_EQ(sources.heard[1].events, "tcp://[fd00::1]:5560");
  EXPECT_EQ(sources.heard[1].replay, "tcp://[fd00::1]:5603");
}

TEST(KvSources, AnEndpointsOwnPortsWin) {
  model::EndpointSpec spec = SpecOf("a", "h", 1);
  spec.kv_events_port = 7001;
  const KvSources sources = KvSourcesOf(PoolOf({spec}), {.port = 5557}, {});
  ASSERT_EQ(sources.heard.size(), 1u);
  EXPECT_EQ(sources.heard[0].events, "tcp://h:7001");
  EXPECT_EQ(sources.heard[0].replay, "");
}

TEST(KvSources, WhoConnectsToTheRouterIsNotDialled) {
  const KvSources sources = KvSourcesOf(PoolOf({SpecOf("a", "h"), SpecOf("b", "h", 1)}),
                                        {.bind = "tcp://*:5557", .dials = false, .port = 5557}, {});
  ASSERT_EQ(sources.heard.size(), 2u);
  EXPECT_EQ(sources.heard[0].events, "");
  EXPECT_EQ(sources.heard[1].events, "");
}

TEST(KvSources, TwoAtOnePlaceAreBothLeftOut) {
  const KvSources sources = KvSourcesOf(
      PoolOf({SpecOf("b", "h"), SpecOf("c", "other"), SpecOf("a", "h")}), {.port = 5557}, {});
  ASSERT_EQ(sources.heard.size(), 1u);
  EXPECT_EQ(sources.heard[0].name, "c");
  ASSERT_EQ(sources.unheard.size(), 2u);
  EXPECT_EQ(sources.unheard[0].name, "a");
  EXPECT_THAT(sources.unheard[0].reason, HasSubstr("2 endpoints would be heard at tcp://h:5557"));
  EXPECT_EQ(sources.unheard[1].name, "b");
}

TEST(KvSources, UsualPortsAreTriedWhereOneEndpointIsOnTheHost) {
  const sched::KvEventSettings settings{.port = 5557, .replay_port = 5558, .only_sole = true};
  model::EndpointSpec told = SpecOf("told", "h", 2), history = SpecOf("history", "g"),
                      off = SpecOf("off", "f"), forgetful = SpecOf("forgetful", "e");
  told.kv_events_port = 7001;
  history.kv_replay_port = 7100;
  off.kv_events_port = 0;
  forgetful.kv_replay_port = 0;
  const KvSources sources =
      KvSourcesOf(PoolOf({SpecOf("alone", "i"), SpecOf("a", "h"), SpecOf("b", "h", 1), told,
                          history, off, forgetful}),
                  settings, {});
  std::map<std::string, std::vector<std::string>> heard;
  for (const events::EventSource& source : sources.heard) {
    heard[source.name] = {source.events, source.replay, source.is_guess ? "guess" : "told"};
  }
  const std::map<std::string, std::vector<std::string>> expected = {
      {"alone", {"tcp://i:5557", "tcp://i:5558", "guess"}},
      {"told", {"tcp://h:7001", "", "told"}},  // 5558 would be another's history
      {"history", {"tcp://g:5557", "tcp://g:7100", "guess"}},
      {"forgetful", {"tcp://e:5557", "", "guess"}}};
  EXPECT_EQ(heard, expected);
  ASSERT_EQ(sources.unheard.size(), 3u);
  EXPECT_EQ(sources.unheard[0].name, "a");
  EXPECT_THAT(sources.unheard[0].reason, HasSubstr("3 endpoints share its host"));
  EXPECT_EQ(sources.unheard[1].name, "b");
  EXPECT_EQ(sources.unheard[2].name, "off");
  EXPECT_EQ(sources.unheard[2].reason, "its kvEventsPort is 0");
}

TEST(KvSources, SayWhyAnEndpointIsLeftOut) {
  model::EndpointSpec labelled = SpecOf("a", "h");
  labelled.labels = {{"serving", "true"}};
  const auto pool = PoolOf({labelled, SpecOf("b", "g"), SpecOf("c", "f", 40)});
  const auto selector = plugins::ParseLabelSelector("serving=true");
  KvSources sources =
      KvSourcesOf(pool, {.label_selector = "serving=true", .port = 5557}, *selector);
  ASSERT_EQ(sources.heard.size(), 1u);
  EXPECT_EQ(sources.heard[0].name, "a");
  EXPECT_THAT(sources.unheard[0].reason, HasSubstr("podLabelSelector serving=true"));
  sources = KvSourcesOf(pool, {.port = 65500}, {});
  ASSERT_EQ(sources.unheard.size(), 1u);
  EXPECT_EQ(sources.unheard[0].reason, "port 65540 of its rank 40 is above 65535");
  sources = KvSourcesOf(pool, {}, {});
  EXPECT_EQ(sources.unheard.size(), 3u);
  EXPECT_THAT(sources.unheard[0].reason, HasSubstr("kvEventsPort"));
}

TEST(KvEvents, FollowTheFleet) {
  admin::ToldCaches knows;
  knows.settings = {.label_selector = "!quiet", .port = 1};
  director::Fleet fleet(8);
  auto started = KvEvents::Start(knows, fleet);
  ASSERT_TRUE(started) << started.error().message;
  model::EndpointSpec quiet = SpecOf("q", "127.0.0.1", 1);
  quiet.labels = {{"quiet", ""}};
  ASSERT_TRUE(fleet.Replace({SpecOf("a", "127.0.0.1"), quiet}));
  (*started)->Follow();
  const admin::HeardCaches heard = (*started)->heard();
  EXPECT_EQ(heard.unheard()->size(), 1u);
  while (heard.ingest->Views()->empty()) std::this_thread::yield();
  EXPECT_EQ(heard.ingest->Views()->front().source.events, "tcp://127.0.0.1:1");
  ASSERT_TRUE(fleet.Replace({}));
  (*started)->Follow();
  EXPECT_TRUE(heard.unheard()->empty());
  while (!heard.ingest->Views()->empty()) std::this_thread::yield();
}

TEST(KvEvents, ASelectorThatIsNoneIsNamed) {
  admin::ToldCaches knows;
  director::Fleet fleet(8);
  knows.settings.label_selector = "a b";
  EXPECT_THAT(KvEvents::Start(knows, fleet).error().message,
              HasSubstr("podLabelSelector: 'a b' is no condition"));
}

}  // namespace
}  // namespace penstock::app
