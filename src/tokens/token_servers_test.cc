#include "tokens/token_servers.h"

#include <gtest/gtest.h>

namespace penstock::tokens {
namespace {

using WhyNot = TokenServers::WhyNot;
using enum TokenEndpoint;
constexpr Time kNow = Time(seconds(1000));
constexpr std::string_view kA = "10.0.0.1:8000";
constexpr std::string_view kB = "10.0.0.2:8000";

void Fail(TokenServers& servers, std::string_view address, uint32_t times, Time now) {
  for (uint32_t i = 0; i < times; ++i) servers.OnFailure(address, now);
}

TEST(TokenServers, AreAskedToRenderFirst) {
  TokenServers servers;
  EXPECT_EQ(servers.Choose(kA, kRender, false, kNow), TokenRoute::kRender);
  EXPECT_EQ(servers.counts().render, 1u);
}

TEST(TokenServers, WithoutAnEndpointAreNotAskedThereForAMinute) {
  TokenServers servers;
  EXPECT_TRUE(servers.OnNoRoute(kA, kRender, kNow));
  EXPECT_FALSE(servers.OnNoRoute(kA, kRender, kNow));
  EXPECT_EQ(servers.Choose(kA, kRender, true, kNow), TokenRoute::kTokenize);
  EXPECT_EQ(servers.Choose(kA, kRender, false, kNow).error(), WhyNot::kNoRoute);
  EXPECT_EQ(servers.Choose(kB, kRender, true, kNow), TokenRoute::kRender);
  EXPECT_EQ(servers.counts().tokenize, 1u);
  EXPECT_TRUE(servers.OnNoRoute(kA, kTokenize, kNow));
  EXPECT_EQ(servers.Choose(kA, kRender, true, kNow).error(), WhyNot::kNoRoute);
  EXPECT_EQ(servers.counts().none, 1u);
  const Time later = kNow + TokenServers::kNoRouteFor;
  EXPECT_EQ(servers.Choose(kA, kRender, true, later), TokenRoute::kRender);
  EXPECT_FALSE(servers.OnNoRoute(kA, kRender, later)) << "no news";
  // It is there again, and then it is not: that is.
  servers.OnAnswer(kA, kRender, later);
  EXPECT_TRUE(servers.OnNoRoute(kA, kRender, later));
}

TEST(TokenServers, RenderChatsAndTextsWhateverElseTheyLack) {
  TokenServers servers;
  EXPECT_TRUE(servers.OnNoRoute(kA, kRenderMessages, kNow));
  EXPECT_EQ(servers.Choose(kA, kRenderMessages, false, kNow).error(), WhyNot::kNoRoute);
  EXPECT_EQ(servers.Choose(kA, kRenderResponses, false, kNow), TokenRoute::kRender);
  EXPECT_EQ(servers.Choose(kA, kRender, true, kNow), TokenRoute::kRender);
  EXPECT_EQ(servers.counts().render, 1u);
  // Without these there are no others either.
  EXPECT_TRUE(servers.OnNoRoute(kB, kRender, kNow));
  EXPECT_EQ(servers.Choose(kB, kRenderMessages, false, kNow).error(), WhyNot::kNoRoute);
  EXPECT_EQ(servers.counts().tokenize, 1u);
  EXPECT_EQ(servers.Choose(kA, kRenderMessages, false, kNow + TokenServers::kNoRouteFor),
            TokenRoute::kRender);
}

TEST(TokenServers, ThatFailRestLongerAndLonger) {
  TokenServers servers;
  Fail(servers, kA, TokenServers::kFailures - 1, kNow);
  EXPECT_TRUE(servers.Choose(kA, kRender, true, kNow));
  EXPECT_TRUE(servers.OnFailure(kA, kNow)) << "that is news";
  EXPECT_FALSE(servers.OnFailure(kA, kNow)) << "a question that was on its way";
  EXPECT_EQ(servers.Choose(kA, kRender, true, kNow).error(), WhyNot::kResting);
  EXPECT_TRUE(servers.Choose(kB, kRender, true, kNow));
  EXPECT_EQ(servers.counts().resting, 1u);
  Time at = kNow;
  for (const Duration rest :
       {seconds(1), seconds(2), seconds(4), seconds(8), seconds(16), seconds(32), seconds(32)}) {
    EXPECT_EQ(servers.Choose(kA, kRender, true, at + rest - milliseconds(1)).error(),
              WhyNot::kResting);
    at += rest;
    EXPECT_TRUE(servers.Choose(kA, kRender, true, at)) << "one question tries it";
    EXPECT_EQ(servers.Choose(kA, kRender, true, at).error(), WhyNot::kResting) << "and only one";
    EXPECT_FALSE(servers.OnFailure(kA, at));
  }
  at += seconds(32);
  EXPECT_TRUE(servers.Choose(kA, kRender, true, at));
  servers.OnAnswer(kA, kRender, at);
  EXPECT_TRUE(servers.Choose(kA, kRender, true, at));
  EXPECT_TRUE(servers.Choose(kA, kRender, true, at));
}

TEST(TokenServers, AllRestWhenManyFailInARow) {
  TokenServers servers;
  for (uint32_t i = 0; i < TokenServers::kFailuresOfAll; ++i) {
    EXPECT_TRUE(servers.Choose(kA, kRender, true, kNow));
    servers.OnFailure("10.0.0." + std::to_string(i) + ":1", kNow);
  }
  EXPECT_EQ(servers.Choose(kA, kRender, true, kNow).error(), WhyNot::kResting);
  EXPECT_TRUE(servers.Choose(kA, kRender, true, kNow + seconds(1)));
  servers.OnAnswer(kA, kRender, kNow + seconds(1));
  EXPECT_TRUE(servers.Choose(kB, kRender, true, kNow + seconds(1)));
}

TEST(TokenServers, AreForgottenAndBounded) {
  TokenServers servers;
  for (size_t i = 0; i < TokenServers::kMaxServers + 10; ++i) {
    EXPECT_TRUE(servers.Choose("e" + std::to_string(i), kRender, true, kNow));
  }
  EXPECT_EQ(servers.counts().render, TokenServers::kMaxServers);
  servers.OnTick(kNow + TokenServers::kForget);
  EXPECT_EQ(servers.counts().render, TokenServers::kMaxServers);
  servers.OnTick(kNow + TokenServers::kForget + seconds(1));
  EXPECT_EQ(servers.counts().render, 0u);
}

}  // namespace
}  // namespace penstock::tokens
