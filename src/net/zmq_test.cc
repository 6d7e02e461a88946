#include "net/zmq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <functional>

namespace penstock::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Type = ZmqSocket::Type;
using Frames = std::vector<std::string_view>;

std::unique_ptr<ZmqSocket> Open(ZmqContext& context, Type type, ZmqSocket::Options options = {}) {
  auto socket = ZmqSocket::Open(context, type, options);
  EXPECT_TRUE(socket.has_value());
  return std::move(*socket);
}

// Until it is so, or patience ends.
bool Until(const std::function<bool()>& holds) {
  for (int i = 0; i < 3'000; ++i) {
    if (holds()) return true;
    ::poll(nullptr, 0, 10);
  }
  return false;
}

std::vector<std::string> Next(ZmqSocket& socket) {
  std::vector<std::string> frames;
  EXPECT_TRUE(Until([&] { return socket.Receive(&frames); }));
  return frames;
}

TEST(Zmq, SubscribersGetWhatBeginsAsTheyWish) {
  ZmqContext context;
  const auto publisher = Open(context, Type::kPublish);
  ASSERT_TRUE(publisher->Bind("tcp://127.0.0.1:*"));
  ZmqSocket::Options options;
  options.watches_peers = true;
  const auto subscriber = Open(context, Type::kSubscribe, options);
  subscriber->Subscribe("kv@");
  ASSERT_TRUE(subscriber->Connect(publisher->bound_endpoint()));
  ASSERT_TRUE(Until([&] { return subscriber->TakeConnected() == true; }));
  std::vector<std::string> frames;
  // A subscription takes effect some time after the connection.
  ASSERT_TRUE(Until([&] {
    publisher->Send(Frames{"other", "0"});
    publisher->Send(Frames{"kv@a", "1", ""});
    return subscriber->Receive(&frames);
  }));
  EXPECT_THAT(frames, ElementsAre("kv@a", "1", ""));
}

TEST(Zmq, TellsThatAPeerIsGoneAndBackAgain) {
  ZmqContext context;
  auto publisher = Open(context, Type::kPublish);
  ASSERT_TRUE(publisher->Bind("tcp://127.0.0.1:*"));
  const std::string endpoint = publisher->bound_endpoint();
  ZmqSocket::Options options;
  options.watches_peers = true;
  const auto subscriber = Open(context, Type::kSubscribe, options);
  ASSERT_TRUE(subscriber->Connect(endpoint));
  EXPECT_GE(subscriber->peers_descriptor(), 0);
  ASSERT_TRUE(Until([&] { return subscriber->TakeConnected() == true; }));
  publisher.reset();
  ASSERT_TRUE(Until([&] { return subscriber->TakeConnected() == false; }));
  publisher = Open(context, Type::kPublish);
  ASSERT_TRUE(Until([&] { return publisher->Bind(endpoint).has_value(); }));
  ASSERT_TRUE(Until([&] { return subscriber->TakeConnected() == true; }));
}

TEST(Zmq, DealersAskRouters) {
  ZmqContext context;
  const auto router = Open(context, Type::kRouter);
  ASSERT_TRUE(router->Bind("tcp://127.0.0.1:*"));
  const auto dealer = Open(context, Type::kDealer);
  ASSERT_TRUE(dealer->Connect(router->bound_endpoint()));
  ASSERT_TRUE(dealer->Send(Frames{"", "12345678"}));
  const std::vector<std::string> asked = Next(*router);
  ASSERT_EQ(asked.size(), 3u);
  EXPECT_EQ(asked[1], "");
  EXPECT_EQ(asked[2], "12345678");
  ASSERT_TRUE(router->Send(Frames{asked[0], "", "answer"}));
  EXPECT_THAT(Next(*dealer), ElementsAre("", "answer"));
  EXPECT_FALSE(router->Receive(std::make_unique<std::vector<std::string>>().get()));
}

TEST(Zmq, AMessageOfTooManyFramesIsDropped) {
  ZmqContext context;
  const auto router = Open(context, Type::kRouter);
  ASSERT_TRUE(router->Bind("tcp://127.0.0.1:*"));
  const auto dealer = Open(context, Type::kDealer);
  ASSERT_TRUE(dealer->Connect(router->bound_endpoint()));
  ASSERT_TRUE(dealer->Send(Frames(ZmqSocket::kMaxFrames, "x")));
  ASSERT_TRUE(dealer->Send(Frames{"y"}));
  EXPECT_THAT(Next(*router), IsEmpty());
  EXPECT_EQ(Next(*router).back(), "y");
}

TEST(Zmq, ErrorsNameTheEndpoint) {
  ZmqContext context;
  const auto socket = Open(context, Type::kPublish);
  EXPECT_THAT(socket->Bind("tcp://nowhere").error().message, HasSubstr("tcp://nowhere"));
  EXPECT_THAT(socket->Connect("udp//x").error().message, HasSubstr("udp//x"));
  EXPECT_GE(socket->descriptor(), 0);
  EXPECT_EQ(socket->peers_descriptor(), -1);
}

}  // namespace
}  // namespace penstock::net
