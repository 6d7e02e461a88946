#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Producer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Made;
using ::testing::Pair;
using testing::TestPool;

using Headers = std::vector<std::pair<std::string, std::string>>;

Headers HeadersOf(Producer& producer, const TestPool& pool, uint32_t column,
                  std::string id = "request") {
  sched::RequestContext context;
  context.request.id = std::move(id);
  producer.OnPicked(context, pool.columns, pool.Pick(column));
  return context.request_headers;
}

TEST(P2pSourceProducer, NamesThePeerThatHasMore) {
  TestPool pool(3);
  pool.SetPrefix(100, {10, 90, 40});
  const Made<Producer> producer("p2p-source-producer");
  EXPECT_THAT(HeadersOf(*producer, pool, 0),
              ElementsAre(Pair("x-kv-cache-source-host-port", "10.0.0.1:8001")));
  EXPECT_THAT(HeadersOf(*producer, pool, 2),
              ElementsAre(Pair("x-kv-cache-source-host-port", "10.0.0.1:8001")));
  EXPECT_THAT(HeadersOf(*producer, pool, 1), IsEmpty()) << "it has the most itself";
  EXPECT_EQ(producer->Stats()[0].value, 2);
}

TEST(P2pSourceProducer, ALittleMoreIsNotWorthIt) {
  TestPool pool(2);
  pool.SetPrefix(100, {10, 13}, 16);
  EXPECT_THAT(
      HeadersOf(*Made<Producer>("p2p-source-producer", "{minCachedTokenDelta: 49}"), pool, 0),
      IsEmpty());
  EXPECT_THAT(
      HeadersOf(*Made<Producer>("p2p-source-producer", "{minCachedTokenDelta: 48}"), pool, 0),
      ElementsAre(Pair("x-kv-cache-source-host-port", "10.0.0.1:8001")));
}

TEST(P2pSourceProducer, NobodyHasAnything) {
  TestPool pool(2);
  pool.SetPrefix(0, {0, 0});
  EXPECT_THAT(
      HeadersOf(*Made<Producer>("p2p-source-producer", "{minCachedTokenDelta: 0}"), pool, 0),
      IsEmpty());
}

TEST(P2pSourceProducer, OneThatCannotBeReachedIsNoSource) {
  TestPool pool(3);
  pool.pool.endpoints[1].health = model::Health::kFailed;
  pool.Index();
  pool.SetPrefix(100, {0, 90, 40});
  EXPECT_THAT(HeadersOf(*Made<Producer>("p2p-source-producer"), pool, 0),
              ElementsAre(Pair("x-kv-cache-source-host-port", "10.0.0.1:8002")));
}

// Of four endpoints of which the first is picked.
struct TierCase {
  std::string name;
  std::vector<float> matched, told, host;
  std::string source;  // its port; "": none
};

TEST(P2pSourceProducer, CountsWhatCanBeFetched) {
  constexpr float kNone = model::PrefixColumn::kNoTiers;
  const std::vector<TierCase> cases = {
      {"nobody asked for tiers", {10, 90, 40, 0}, {10, 90, 40, 0}, {}, "8001"},
      {"no engine tells of tiers",
       {10, 90, 40, 0},
       {10, 90, 40, 0},
       {kNone, kNone, kNone, kNone},
       "8001"},
      {"what lies in the GPU's memory alone cannot be fetched",
       {10, 90, 40, 0},
       {10, 90, 40, 0},
       {10, 0, 40, 0},
       "8002"},
      {"the most in the host's memory counts, not the most",
       {10, 90, 80, 85},
       {10, 90, 80, 85},
       {10, 30, 50, 40},
       "8002"},
      {"nobody has anything in the host's memory",
       {10, 90, 40, 0},
       {10, 90, 40, 0},
       {0, 0, 0, 0},
       ""},
      {"host memory is worth all of it, whatever a match makes of it",
       {10, 72, 80, 0},
       {10, 90, 80, 0},
       {10, 90, 80, 0},
       "8001"},
      {"what the picked one has in slower tiers is not fetched",
       {64, 70, 0, 0},
       {80, 80, 0, 0},
       {80, 80, 0, 0},
       ""},
      {"what requests bring to the picked one is not fetched",
       {80, 70, 0, 0},
       {10, 80, 0, 0},
       {10, 80, 0, 0},
       ""},
      {"an engine without tiers stands beside one with them",
       {10, 60, 90, 0},
       {10, 60, 90, 0},
       {10, kNone, 40, 0},
       "8001"},
      {"an estimate, too", {10, 90, 60, 0}, {10, 90, 0, 0}, {10, 40, kNone, 0}, "8002"},
  };
  for (const TierCase& c : cases) {
    TestPool pool(4);
    pool.SetPrefix(100, c.matched, 16);
    pool.columns.prefix[0].told_blocks = c.told;
    pool.columns.prefix[0].host_blocks = c.host;
    const Headers headers = HeadersOf(*Made<Producer>("p2p-source-producer"), pool, 0);
    if (c.source.empty()) {
      EXPECT_THAT(headers, IsEmpty()) << c.name;
    } else {
      EXPECT_THAT(headers, ElementsAre(Pair("x-kv-cache-source-host-port", "10.0.0.1:" + c.source)))
          << c.name;
    }
  }
}

TEST(P2pSourceProducer, PeersWithinABlockShareTheWorkByTheirQueues) {
  TestPool pool(4);
  pool.SetPrefix(100, {0, 90, 89, 88});
  pool.columns.waiting = {0, 0, 3, 0};
  const Made<Producer> producer("p2p-source-producer");
  std::map<std::string, int> counts;
  for (int i = 0; i < 5000; ++i) {
    const std::string id = "request-" + std::to_string(i);
    const Headers headers = HeadersOf(*producer, pool, 0, id);
    ASSERT_EQ(headers.size(), 1u);
    EXPECT_EQ(headers, HeadersOf(*producer, pool, 0, id)) << "the same request asks the same peer";
    ++counts[headers[0].second];
  }
  EXPECT_NEAR(counts["10.0.0.1:8001"], 4000, 200);
  EXPECT_NEAR(counts["10.0.0.1:8002"], 1000, 200);
  EXPECT_EQ(counts.size(), 2u) << "the third is more than a block behind";
}

}  // namespace
}  // namespace penstock::plugins
