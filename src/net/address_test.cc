#include "net/address.h"

#include <gtest/gtest.h>

namespace penstock::net {
namespace {

TEST(Address, DigitsAreParsedAndWrittenBack) {
  const auto v4 = ParseAddress("10.1.2.3", 80);
  ASSERT_TRUE(v4);
  EXPECT_FALSE(v4->is_ipv6());
  EXPECT_EQ(v4->host(), "10.1.2.3");
  EXPECT_EQ(v4->port(), 80);
  for (const char* text : {"::1", "[::1]"}) {
    const auto v6 = ParseAddress(text, 65535);
    ASSERT_TRUE(v6) << text;
    EXPECT_TRUE(v6->is_ipv6());
    EXPECT_EQ(v6->host(), "::1");
    EXPECT_EQ(v6->port(), 65535);
  }
}

TEST(Address, PortCanBeChanged) {
  for (const char* text : {"127.0.0.1", "::1"}) {
    auto address = ParseAddress(text, 1);
    address->set_port(4711);
    EXPECT_EQ(address->port(), 4711);
    EXPECT_EQ(address->host(), text);
  }
}

TEST(Address, NamesAndNonsenseAreNoDigits) {
  for (const char* text : {"", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "[::1", "::1]", "[]",
                           "1.2.3.4 ", ":::", "*", "127.1"}) {
    EXPECT_FALSE(ParseAddress(text, 80)) << text;
  }
}

TEST(ResolveNow, KnowsDigitsEveryInterfaceAndLocalhost) {
  EXPECT_EQ(ResolveNow("127.0.0.1", 7)->host(), "127.0.0.1");
  EXPECT_EQ(ResolveNow("", 7)->host(), "0.0.0.0");
  EXPECT_EQ(ResolveNow("*", 7)->host(), "0.0.0.0");
  const auto localhost = ResolveNow("localhost", 7);
  ASSERT_TRUE(localhost);
  EXPECT_TRUE(localhost->host() == "127.0.0.1" || localhost->host() == "::1");
  EXPECT_EQ(localhost->port(), 7);
}

// A label of more than 63 characters is in no name service.
const std::string kImpossible(300, 'a');

TEST(ResolveNow, FailureNamesTheHost) {
  const auto address = ResolveNow(kImpossible, 7);
  ASSERT_FALSE(address);
  EXPECT_EQ(address.error().code, Code::kUnavailable);
  EXPECT_TRUE(address.error().message.starts_with("host '" + kImpossible + "' cannot be resolved"))
      << address.error().message;
}

TEST(Resolver, AnswersLaterOnTheLoop) {
  Loop loop;
  Resolver resolver(loop);
  bool told = false;
  resolver.Resolve("localhost", 4711, [&](Result<std::vector<Address>> found) {
    told = true;
    EXPECT_TRUE(loop.IsCurrent());
    ASSERT_TRUE(found);
    ASSERT_FALSE(found->empty());
    EXPECT_EQ((*found)[0].port(), 4711);
    loop.Stop();
  });
  EXPECT_FALSE(told);
  loop.Run();
  EXPECT_TRUE(told);
}

TEST(Resolver, FailureNamesTheHost) {
  Loop loop;
  Resolver resolver(loop);
  resolver.Resolve(kImpossible, 1, [&](Result<std::vector<Address>> found) {
    ASSERT_FALSE(found);
    EXPECT_TRUE(found.error().message.find(kImpossible) != std::string::npos);
    loop.Stop();
  });
  loop.Run();
}

TEST(Resolver, CallbacksDoNotComeAfterItIsGone) {
  Loop loop;
  {
    Resolver resolver(loop);
    for (int i = 0; i < 10; ++i) {
      resolver.Resolve("localhost", 1, [](Result<std::vector<Address>>) {
        ADD_FAILURE() << "the resolver is gone";
      });
    }
  }
  Resolver other(loop);
  other.Resolve("localhost", 1, [&](Result<std::vector<Address>>) { loop.Stop(); });
  loop.Run();
}

TEST(Resolver, MayGoInsideItsCallback) {
  Loop loop;
  auto resolver = std::make_unique<Resolver>(loop);
  resolver->Resolve("localhost", 1, [&](Result<std::vector<Address>>) {
    resolver.reset();
    loop.Stop();
  });
  loop.Run();
}

TEST(Resolver, LoopMayEndWithLookupsUnderWay) {
  auto loop = std::make_unique<Loop>();
  auto resolver = std::make_unique<Resolver>(*loop);
  for (int i = 0; i < 10; ++i) resolver->Resolve("localhost", 1, [](auto) {});
  resolver.reset();
  loop.reset();
}

}  // namespace
}  // namespace penstock::net
