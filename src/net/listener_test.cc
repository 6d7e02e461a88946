#include "net/listener.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

namespace penstock::net {
namespace {

class ListenerTest : public ::testing::Test {
 protected:
  ListenerTest() {
    fd = BindListeners(*ParseAddress("127.0.0.1", 0), 1)->front();
    address = *ParseAddress("127.0.0.1", PortOf(fd));
  }
  ~ListenerTest() override {
    for (const int c : clients) ::close(c);
  }
  // Whether the connection came to be.
  bool Connect() {
    clients.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return ::connect(clients.back(), reinterpret_cast<const sockaddr*>(&address.storage),
                     address.size) == 0;
  }

  Loop loop;
  int fd = -1;
  Address address;
  std::vector<int> clients;
};

TEST_F(ListenerTest, HandsOverConnectionsWithTheirPeer) {
  std::vector<uint16_t> ports;
  Listener listener(loop, fd, [&](int accepted, const Address& peer) {
    EXPECT_EQ(peer.host(), "127.0.0.1");
    EXPECT_NE(::fcntl(accepted, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(accepted, F_GETFD) & FD_CLOEXEC, 0);
    ports.push_back(peer.port());
    ::close(accepted);
    if (ports.size() == 3) loop.Stop();
  });
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Connect());
  loop.Run();
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(ports[i], PortOf(clients[i]));
}

TEST_F(ListenerTest, CloseHandsOverTheConnectionsThatWaitAndRefusesOthers) {
  int accepted_count = 0;
  Listener listener(loop, fd, [&](int accepted, const Address&) {
    ++accepted_count;
    ::close(accepted);
  });
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Connect());
  listener.Close();
  EXPECT_EQ(accepted_count, 5);
  EXPECT_FALSE(Connect());
  EXPECT_EQ(errno, ECONNREFUSED);
  listener.Close();
}

TEST_F(ListenerTest, DestructionRefusesThoseThatWait) {
  {
    Listener listener(loop, fd, [](int, const Address&) { ADD_FAILURE() << "accepted"; });
    ASSERT_TRUE(Connect());
  }
  EXPECT_FALSE(Connect());
  loop.Post([&] { loop.Stop(); });
  loop.Run();
}

TEST_F(ListenerTest, MayGoInsideItsCallback) {
  std::unique_ptr<Listener> listener;
  int accepted_count = 0;
  listener = std::make_unique<Listener>(loop, fd, [&](int accepted, const Address&) {
    ++accepted_count;
    ::close(accepted);
    listener.reset();
    loop.Stop();
  });
  ASSERT_TRUE(Connect());
  ASSERT_TRUE(Connect());
  loop.Run();
  EXPECT_EQ(accepted_count, 1);
}

TEST_F(ListenerTest, MayGoInsideTheCallbackThatCloseMakes) {
  std::unique_ptr<Listener> listener;
  listener = std::make_unique<Listener>(loop, fd, [&](int accepted, const Address&) {
    ::close(accepted);
    listener.reset();
  });
  ASSERT_TRUE(Connect());
  listener->Close();
  EXPECT_EQ(listener, nullptr);
}

TEST_F(ListenerTest, TriesAgainWhenDescriptorsRanOut) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's own checks need descriptors";
#endif
  int accepted_count = 0;
  std::unique_ptr<Listener> listener;
  listener = std::make_unique<Listener>(loop, fd, [&](int accepted, const Address&) {
    ++accepted_count;
    ::close(accepted);
    listener.reset();  // inside the second try
    loop.Stop();
  });
  ASSERT_TRUE(Connect());
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  ::setrlimit(RLIMIT_NOFILE, &none);
  Timer restore(loop, [&] { ::setrlimit(RLIMIT_NOFILE, &before); });
  restore.Start(milliseconds(5));
  loop.Run();
  EXPECT_EQ(accepted_count, 1);
}

TEST_F(ListenerTest, LoopMayEndBeforeTheListenerIsUsed) {
  auto other = std::make_unique<Loop>();
  auto listener = std::make_unique<Listener>(*other, fd, [](int, const Address&) {});
  listener.reset();
  other.reset();
}

TEST_F(ListenerTest, PortThatSomebodyListensOnIsRefused) {
  const auto rival = BindListeners(address, 2);
  ASSERT_FALSE(rival);
  EXPECT_TRUE(rival.error().message.ends_with(": Address already in use")) << rival.error().message;
  ::close(fd);
}

TEST(BindListeners, SeveralLoopsShareAPort) {
  const auto all = BindListeners(*ParseAddress("127.0.0.1", 0), 3);
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 3u);
  for (const int one : *all) EXPECT_EQ(PortOf(one), PortOf(all->front()));
  for (const int one : *all) ::close(one);
}

TEST(BindListeners, SaysWhyNot) {
  const auto bound = BindListeners(*ParseAddress("192.0.2.1", 80), 1);  // not an address of ours
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code, Code::kUnavailable);
  EXPECT_TRUE(bound.error().message.starts_with("cannot listen on 192.0.2.1 port 80: "))
      << bound.error().message;
}

}  // namespace
}  // namespace penstock::net
