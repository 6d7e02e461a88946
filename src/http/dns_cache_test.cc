#include "http/dns_cache.h"

#include <gtest/gtest.h>

namespace penstock::http {
namespace {

class DnsCacheTest : public ::testing::Test {
 protected:
  // What the cache says now, or "" when the answer comes later.
  std::string Ask(std::string_view host) {
    const DnsCache::Answer* answer =
        cache_.Find(host, [this](const DnsCache::Answer& later) { told_.push_back(Say(later)); });
    return answer == nullptr ? "" : Say(*answer);
  }
  static std::string Say(const DnsCache::Answer& answer) {
    return answer ? (**answer)[0].host() : answer.error().message;
  }
  void Found(size_t lookup, const char* address) {
    lookups_[lookup].second(std::vector{*net::ParseAddress(address, 0)});
  }
  void NotFound(size_t lookup) { lookups_[lookup].second(Fail(Code::kUnavailable, "no such")); }

  Time now_{};
  std::vector<std::pair<std::string, net::Resolver::Done>> lookups_;
  std::vector<std::string> told_;
  DnsCache cache_{[this](std::string host, net::Resolver::Done done) {
                    lookups_.emplace_back(std::move(host), std::move(done));
                  },
                  [this] { return now_; }};
};

TEST_F(DnsCacheTest, OneLookupServesAllWhoWait) {
  EXPECT_EQ(Ask("a"), "");
  EXPECT_EQ(Ask("a"), "");
  EXPECT_EQ(Ask("b"), "");
  ASSERT_EQ(lookups_.size(), 2u);
  EXPECT_EQ(lookups_[0].first, "a");
  Found(0, "10.0.0.1");
  EXPECT_EQ(told_, (std::vector<std::string>{"10.0.0.1", "10.0.0.1"}));
  EXPECT_EQ(Ask("a"), "10.0.0.1");
  EXPECT_EQ(told_.size(), 2u);
}

TEST_F(DnsCacheTest, AddressesAreKeptForHalfAMinute) {
  Ask("a");
  Found(0, "10.0.0.1");
  now_ += seconds(30) - Duration(1);
  EXPECT_EQ(Ask("a"), "10.0.0.1");
  now_ += Duration(1);
  EXPECT_EQ(Ask("a"), "");
  Found(1, "10.0.0.2");
  EXPECT_EQ(Ask("a"), "10.0.0.2");
}

TEST_F(DnsCacheTest, FailuresAreKeptForASecond) {
  Ask("a");
  NotFound(0);
  EXPECT_EQ(told_, std::vector<std::string>{"no such"});
  now_ += seconds(1) - Duration(1);
  EXPECT_EQ(Ask("a"), "no such");
  now_ += Duration(1);
  EXPECT_EQ(Ask("a"), "");
}

TEST_F(DnsCacheTest, NamesAreBounded) {
  for (size_t i = 0; i < DnsCache::kMaxNames; ++i) {
    EXPECT_EQ(Ask(std::to_string(i)), "");
    now_ += Duration(1);
    Found(i, "10.0.0.1");
  }
  EXPECT_EQ(Ask("one more"), "");
  EXPECT_EQ(cache_.size(), DnsCache::kMaxNames);
  EXPECT_EQ(Ask("1"), "10.0.0.1");
  EXPECT_EQ(Ask("0"), "") << "the oldest made room";
}

TEST_F(DnsCacheTest, LookupsAtTheSameTimeAreBounded) {
  for (size_t i = 0; i < DnsCache::kMaxNames; ++i) Ask(std::to_string(i));
  EXPECT_EQ(Ask("one more"), "too many host names are being resolved at the same time");
  EXPECT_EQ(lookups_.size(), DnsCache::kMaxNames);
  NotFound(0);
  EXPECT_EQ(Ask("one more"), "");
}

TEST_F(DnsCacheTest, WhoeverIsToldMayAskForMore) {
  cache_.Find("a", [this](const DnsCache::Answer&) {
    for (int i = 0; i < 100; ++i) Ask("more " + std::to_string(i));
  });
  Ask("a");
  Found(0, "10.0.0.1");
  EXPECT_EQ(told_, std::vector<std::string>{"10.0.0.1"});
  EXPECT_EQ(lookups_.size(), 101u);
}

}  // namespace
}  // namespace penstock::http
