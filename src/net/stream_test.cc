#include "net/stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/listener.h"

namespace penstock::net {
namespace {

// Does in each event what a test says.
class Probe final : public Stream {
 public:
  explicit Probe(Loop& loop, int* alive = nullptr) : Stream(loop), alive_(alive) {
    if (alive_ != nullptr) ++*alive_;
  }
  ~Probe() override {
    if (alive_ != nullptr) --*alive_;
  }

  using Stream::Adopt;
  using Stream::ClearDeadline;
  using Stream::Close;
  using Stream::CloseWithReset;
  using Stream::Connect;
  using Stream::Defer;
  using Stream::is_reading;
  using Stream::ReadNow;
  using Stream::SetDeadline;
  using Stream::ShutdownWrite;
  using Stream::StartRead;
  using Stream::WaitReadable;
  using Stream::waits_readable;
  using Stream::waits_writable;
  using Stream::WaitWritable;
  using Stream::WriteNow;

  IoResult Write(std::string_view text) {
    const iovec piece{const_cast<char*>(text.data()), text.size()};
    return WriteNow({&piece, 1});
  }
  std::string ReadText() {
    char bytes[64];
    const IoResult got = ReadNow(bytes, sizeof(bytes));
    return got.error != 0 ? "error " + std::to_string(got.error) : std::string(bytes, got.bytes);
  }

  std::function<void(int)> on_connect = [](int) { ADD_FAILURE() << "OnConnect"; };
  std::function<void(IoResult)> on_read = [](IoResult) { ADD_FAILURE() << "OnRead"; };
  std::function<void()> on_readable = [] { ADD_FAILURE() << "OnReadable"; };
  std::function<void()> on_writable = [] { ADD_FAILURE() << "OnWritable"; };
  std::function<void()> on_turn_end = [] { ADD_FAILURE() << "OnTurnEnd"; };
  std::function<void()> on_deadline = [] { ADD_FAILURE() << "OnDeadline"; };

 private:
  void OnConnect(int error) override { on_connect(error); }
  void OnRead(IoResult result) override { on_read(result); }
  void OnReadable() override { on_readable(); }
  void OnWritable() override { on_writable(); }
  void OnTurnEnd() override { on_turn_end(); }
  void OnDeadline() override { on_deadline(); }

  int* alive_;
};

// A stream of the loop and the blocking socket at its other end.
class StreamTest : public ::testing::Test {
 protected:
  StreamTest() {
    const int listener = BindListeners(*ParseAddress("127.0.0.1", 0), 1)->front();
    listening_ = *ParseAddress("127.0.0.1", PortOf(listener));
    listener_ = listener;
    stream = new Probe(loop);
    Open(*stream, &peer);
  }
  ~StreamTest() override {
    ::close(listener_);
    if (peer >= 0) ::close(peer);
  }

  void Open(Probe& probe, int* other) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&listening_.storage), listening_.size), 0);
    *other = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    ASSERT_EQ(probe.Adopt(fd, false), 0);
  }
  void Say(std::string_view text) {
    ASSERT_EQ(::send(peer, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  std::string Hear() {
    char bytes[256];
    const ssize_t got = ::recv(peer, bytes, sizeof(bytes), 0);
    return got < 0 ? "error " + std::to_string(errno) : std::string(bytes, got);
  }
  // Lets everything happen that is due now: each task goes to the end of the queue.
  void Settle() {
    Timer stop(loop, [this] { loop.Stop(); });
    stop.Start(milliseconds(2));
    loop.Run();
  }

  Loop loop;
  Address listening_;
  int listener_ = -1;
  Ref<Probe> stream;
  int peer = -1;
};

TEST_F(StreamTest, ConnectsReadsAndWrites) {
  Ref<Probe> client(new Probe(loop));
  char bytes[16];
  int other = -1;
  client->on_connect = [&](int error) {
    EXPECT_EQ(error, 0);
    other = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    client->StartRead(bytes, sizeof(bytes));
    EXPECT_TRUE(client->is_reading());
    EXPECT_EQ(client->Write("ping").bytes, 4u);
    char got[8];
    EXPECT_EQ(::recv(other, got, sizeof(got), 0), 4);
    ::send(other, "pong", 4, 0);
  };
  client->on_read = [&](IoResult result) {
    EXPECT_FALSE(client->is_reading());
    EXPECT_EQ(std::string(bytes, result.bytes), "pong");
    loop.Stop();
  };
  EXPECT_FALSE(client->is_open());
  client->Connect(listening_);
  loop.Run();
  client->Close();
  ::close(other);
}

TEST_F(StreamTest, RefusedConnectionIsTold) {
  const int unused = BindListeners(*ParseAddress("127.0.0.1", 0), 1)->front();
  const Address address = *ParseAddress("127.0.0.1", PortOf(unused));
  ::close(unused);
  Ref<Probe> client(new Probe(loop));
  int told = 0;
  client->on_connect = [&](int error) {
    told = error;
    loop.Stop();
  };
  client->Connect(address);
  EXPECT_EQ(told, 0) << "never inside Connect";
  loop.Run();
  EXPECT_EQ(told, ECONNREFUSED);
}

TEST_F(StreamTest, MayConnectAgainAfterClose) {
  const int unused = BindListeners(*ParseAddress("127.0.0.1", 0), 1)->front();
  const Address address = *ParseAddress("127.0.0.1", PortOf(unused));
  ::close(unused);
  Ref<Probe> client(new Probe(loop));
  std::vector<int> told;
  client->on_connect = [&](int error) {
    told.push_back(error);
    loop.Stop();
  };
  client->Connect(address);
  client->Close();  // the event of this try does not come
  client->Connect(listening_);
  loop.Run();
  EXPECT_EQ(told, std::vector{0});
}

TEST_F(StreamTest, ClosedWhileConnectingTellsNothing) {
  Ref<Probe> client(new Probe(loop));
  client->Connect(listening_);
  client->Close();
  EXPECT_FALSE(client->is_open());
  Settle();
}

TEST_F(StreamTest, ReadTellsTheEndAndErrors) {
  char bytes[16];
  stream->on_read = [&](IoResult result) {
    EXPECT_EQ(result.bytes, 0u);
    EXPECT_EQ(result.error, 0);
    loop.Stop();
  };
  stream->StartRead(bytes, sizeof(bytes));
  ::shutdown(peer, SHUT_WR);
  loop.Run();
}

TEST_F(StreamTest, ReadTellsAReset) {
  char bytes[16];
  stream->on_read = [&](IoResult result) {
    EXPECT_EQ(result.error, ECONNRESET);
    loop.Stop();
  };
  stream->StartRead(bytes, sizeof(bytes));
  const linger at_once{1, 0};
  ::setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  ::close(std::exchange(peer, -1));
  loop.Run();
}

TEST_F(StreamTest, WaitReadableComesOncePerCall) {
  std::vector<std::string> got;
  stream->on_readable = [&] {
    EXPECT_FALSE(stream->waits_readable());
    got.push_back(stream->ReadText());
    if (got.size() == 1) {
      Say("two");
      stream->WaitReadable();
      stream->WaitReadable();
    } else if (got.size() == 2) {
      ::shutdown(peer, SHUT_WR);
      stream->WaitReadable();
    } else {
      loop.Stop();
    }
  };
  Say("one");
  stream->WaitReadable();
  EXPECT_TRUE(stream->waits_readable());
  loop.Run();
  EXPECT_EQ(got, (std::vector<std::string>{"one", "two", ""}));
  EXPECT_EQ(stream->ReadText(), "");
}

TEST_F(StreamTest, WaitReadableTellsOfBytesThatWereLeft) {
  int told = 0;
  stream->on_readable = [&] {
    char one;
    EXPECT_EQ(stream->ReadNow(&one, 1).bytes, 1u);
    if (++told == 3) return loop.Stop();
    stream->WaitReadable();
  };
  Say("abc");
  stream->WaitReadable();
  loop.Run();
  EXPECT_EQ(stream->ReadText(), "error " + std::to_string(EAGAIN));
}

TEST_F(StreamTest, BothWaysToReadMayAlternate) {
  char bytes[16];
  std::vector<std::string> got;
  stream->on_read = [&](IoResult result) {
    got.emplace_back(bytes, result.bytes);
    stream->WaitReadable();
    Say("two");
  };
  stream->on_readable = [&] {
    got.push_back(stream->ReadText());
    if (got.size() > 3) return loop.Stop();
    stream->StartRead(bytes, sizeof(bytes));
    Say("one");
  };
  stream->StartRead(bytes, sizeof(bytes));
  Say("one");
  loop.Run();
  EXPECT_EQ(got, (std::vector<std::string>{"one", "two", "one", "two"}));
}

TEST_F(StreamTest, WritableComesWhenThereIsRoomAgain) {
  const std::string piece(1 << 20, 'x');
  size_t sent = 0;
  IoResult result;
  while ((result = stream->Write(piece)).error == 0) sent += result.bytes;
  EXPECT_EQ(result.error, EAGAIN);
  int told = 0;
  stream->on_writable = [&] {
    EXPECT_FALSE(stream->waits_writable());
    ++told;
    EXPECT_GT(stream->Write("y").bytes, 0u);
    loop.Stop();
  };
  stream->WaitWritable();
  stream->WaitWritable();
  std::string bytes(1 << 20, '\0');
  for (size_t got = 0; got < sent;) got += ::recv(peer, bytes.data(), bytes.size(), 0);
  loop.Run();
  EXPECT_EQ(told, 1);
}

TEST_F(StreamTest, WriteToAClosedPeerIsAnErrorAndNoSignal) {
  ::close(std::exchange(peer, -1));
  IoResult result;
  while ((result = stream->Write("x")).error == 0) {
  }
  EXPECT_TRUE(result.error == EPIPE || result.error == ECONNRESET) << result.error;
}

TEST_F(StreamTest, NoEventFollowsClose) {
  char bytes[16];
  // Both are ready when it closes.
  Say("bytes");
  stream->StartRead(bytes, sizeof(bytes));
  stream->WaitWritable();
  stream->SetDeadline(loop.Now());
  stream->Close();
  stream->Close();
  EXPECT_FALSE(stream->is_reading());
  EXPECT_FALSE(stream->waits_writable());
  Settle();
}

TEST_F(StreamTest, CloseInsideAnEventKeepsTheOthersAway) {
  // One poll reports both; whichever comes first closes.
  Say("bytes");
  int told = 0;
  stream->on_readable = stream->on_writable = [&] {
    ++told;
    stream->Close();
  };
  stream->WaitReadable();
  stream->WaitWritable();
  Settle();
  EXPECT_EQ(told, 1);
}

TEST_F(StreamTest, PeerSeesCloseAsEndAndCloseWithResetAsReset) {
  stream->Close();
  EXPECT_EQ(Hear(), "");
  Ref<Probe> second(new Probe(loop));
  ::close(peer);
  Open(*second, &peer);
  second->CloseWithReset();
  EXPECT_EQ(Hear(), "error " + std::to_string(ECONNRESET));
}

TEST_F(StreamTest, ShutdownWriteLeavesReadingOpen) {
  EXPECT_EQ(stream->Write("last").bytes, 4u);
  stream->ShutdownWrite();
  EXPECT_EQ(Hear(), "last");
  EXPECT_EQ(Hear(), "");
  Say("still");
  EXPECT_EQ(stream->ReadText(), "still");
}

TEST_F(StreamTest, LastOwnerInsideAnEventIsTheEventItself) {
  int alive = 0;
  Ref<Probe> probe(new Probe(loop, &alive));
  int other = -1;
  Open(*probe, &other);
  probe->on_readable = [&] {
    Probe* raw = probe.get();
    probe.reset();
    EXPECT_EQ(alive, 1);
    raw->Close();
  };
  probe->WaitReadable();
  ::send(other, "x", 1, 0);
  Settle();
  EXPECT_EQ(alive, 0);
  ::close(other);
}

// --- turns

TEST_F(StreamTest, TurnEndComesOnceAfterTheRunningEvent) {
  std::vector<std::string> order;
  stream->on_turn_end = [&] { order.push_back("turn end"); };
  loop.Post([&] {
    stream->Defer();
    stream->Defer();
    order.push_back("first task");
  });
  loop.Post([&] { order.push_back("second task"); });
  loop.Post([&] { loop.Stop(); });
  loop.Run();
  // Tasks that are posted together are one turn, which ends even if one of them stops the loop.
  EXPECT_EQ(order, (std::vector<std::string>{"first task", "second task", "turn end"}));
}

TEST_F(StreamTest, EventsThatAreDueTogetherAreOneTurn) {
  Ref<Probe> second(new Probe(loop));
  int second_peer = -1;
  Open(*second, &second_peer);
  std::vector<std::string> order;
  size_t ended = 0;
  for (Probe* probe : {stream.get(), second.get()}) {
    probe->on_readable = [&, probe] {
      order.push_back("readable");
      probe->Defer();
    };
    probe->on_turn_end = [&] {
      order.push_back("end");
      if (++ended == 2) loop.Stop();
    };
    probe->WaitReadable();
  }
  ::close(second_peer);
  Say("x");
  loop.Run();
  EXPECT_EQ(order, (std::vector<std::string>{"readable", "readable", "end", "end"}));
}

TEST_F(StreamTest, DeferOutsideOfATurnComesToo) {
  int told = 0;
  stream->on_turn_end = [&] {
    ++told;
    loop.Stop();
  };
  stream->Defer();
  EXPECT_EQ(told, 0);
  loop.Run();
  EXPECT_EQ(told, 1);
}

TEST_F(StreamTest, DeferInsideTurnEndComesAgain) {
  int told = 0;
  stream->on_turn_end = [&] {
    if (++told < 5) return stream->Defer();
    loop.Stop();
  };
  loop.Post([&] { stream->Defer(); });
  loop.Run();
  EXPECT_EQ(told, 5);
}

TEST_F(StreamTest, TurnEndComesAfterCloseAndKeepsTheStream) {
  int alive = 0;
  bool told = false;
  loop.Post([&] {
    Ref<Probe> probe(new Probe(loop, &alive));
    probe->on_turn_end = [&, raw = probe.get()] {
      told = true;
      EXPECT_FALSE(raw->is_open());
      EXPECT_EQ(alive, 1);
      loop.Stop();
    };
    probe->Defer();
    probe->Close();
  });
  loop.Run();
  EXPECT_TRUE(told);
  EXPECT_EQ(alive, 0);
}

TEST_F(StreamTest, EveryKindOfEventHasATurn) {
  std::vector<std::string> order;
  const auto event = [&](const char* name) {
    order.push_back(name);
    stream->Defer();
    order.push_back("-");
  };
  stream->on_readable = [&] { event("readable"); };
  stream->on_writable = [&] { event("writable"); };
  stream->on_deadline = [&] { event("deadline"); };
  // The end of each turn asks for the next event.
  stream->on_turn_end = [&] {
    order.push_back("end");
    if (order.size() == 3) return stream->WaitWritable();
    if (order.size() == 6) return stream->SetDeadline(loop.Now());
    loop.Stop();
  };
  Say("x");
  stream->WaitReadable();
  loop.Run();
  EXPECT_EQ(order, (std::vector<std::string>{"readable", "-", "end", "writable", "-", "end",
                                             "deadline", "-", "end"}));
}

// --- deadlines

TEST_F(StreamTest, DeadlineComesOnceAndNotEarly) {
  const Time due = loop.Now() + milliseconds(3);
  int told = 0;
  stream->on_deadline = [&] {
    ++told;
    EXPECT_GE(loop.Now(), due);
  };
  stream->SetDeadline(due);
  Timer stop(loop, [&] { loop.Stop(); });
  stop.Start(milliseconds(10));
  loop.Run();
  EXPECT_EQ(told, 1);
}

TEST_F(StreamTest, DeadlineMovesLaterAndSooner) {
  Time due = loop.Now() + milliseconds(6);
  int told = 0;
  stream->on_deadline = [&] {
    EXPECT_GE(loop.Now(), due);
    if (++told == 2) return loop.Stop();
    stream->SetDeadline(loop.Now() + std::chrono::hours(1));
    stream->SetDeadline(due = loop.Now() + milliseconds(1));
  };
  stream->SetDeadline(loop.Now() + milliseconds(1));
  stream->SetDeadline(due);
  loop.Run();
  EXPECT_EQ(told, 2);
}

TEST_F(StreamTest, ClearedDeadlineDoesNotCome) {
  stream->SetDeadline(loop.Now());
  stream->ClearDeadline();
  stream->SetDeadline(loop.Now() + std::chrono::hours(1));
  Settle();
}

TEST_F(StreamTest, ClearedDeadlineMayBeSetAgain) {
  stream->on_deadline = [&] { loop.Stop(); };
  stream->SetDeadline(loop.Now() + milliseconds(1));
  stream->ClearDeadline();
  stream->SetDeadline(loop.Now() + milliseconds(2));
  loop.Run();
}

TEST_F(StreamTest, DeadlineNeedsNoSocketAndEndsWithClose) {
  Ref<Probe> probe(new Probe(loop));
  probe->on_deadline = [&] { loop.Stop(); };
  probe->SetDeadline(loop.Now());
  Ref<Probe> closed(new Probe(loop));
  closed->SetDeadline(loop.Now());
  closed->Close();
  loop.Run();
}

TEST_F(StreamTest, StreamMayGoInsideItsDeadline) {
  int alive = 0;
  Ref<Probe> probe(new Probe(loop, &alive));
  probe->on_deadline = [&] {
    probe.reset();
    EXPECT_EQ(alive, 1);
    loop.Stop();
  };
  probe->SetDeadline(loop.Now());
  loop.Run();
  EXPECT_EQ(alive, 0);
}

TEST(Stream, LoopThatGoesTakesTheStreamsThatWaitWithIt) {
  int alive = 0;
  char bytes[16];
  {
    Loop loop;
    const int listener = BindListeners(*ParseAddress("127.0.0.1", 0), 1)->front();
    const Address address = *ParseAddress("127.0.0.1", PortOf(listener));
    for (int i = 0; i < 6; ++i) {
      Ref<Probe> probe(new Probe(loop, &alive));
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size);
      if (i < 4) {
        EXPECT_EQ(probe->Adopt(fd, false), 0);
      } else {
        ::close(fd);
      }
      probe->SetDeadline(loop.Now() + std::chrono::hours(i));
      if (i == 0) probe->StartRead(bytes, sizeof(bytes));
      if (i == 1) probe->WaitReadable();
      if (i == 2) probe->WaitWritable();
      if (i == 3) loop.Post([probe] {});
      if (i == 4) probe->Connect(address);
      if (i == 5) probe->Defer();
    }
    EXPECT_EQ(alive, 6);
    ::close(listener);
  }
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace penstock::net
