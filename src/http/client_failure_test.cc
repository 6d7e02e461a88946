// Engines that refuse, break off, send garbage or say nothing.
#include <sys/resource.h>
#include <sys/socket.h>

#include "http/client.h"
#include "http/client_testing.h"

namespace penstock::http {
namespace {

using testing::Answer;
using testing::BlackHole;
using testing::ClientTest;
using testing::Get;
using testing::Peer;
using testing::Post;
using testing::RawServer;
using testing::Recorder;
using testing::Request;
using testing::UnusedPort;

RawServer::Script Once(std::string answer) {
  return [answer = std::move(answer)](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write(answer);
  };
}

RawServer::Script Silent(std::string beginning) {
  return [beginning = std::move(beginning)](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write(beginning);
    peer.WaitForEnd();
  };
}

net::Address Numeric(const char* host) { return *net::ParseAddress(host, 0); }

uint64_t FailuresOf(const ClientStats& stats, CallFailure failure) {
  return stats.failures[static_cast<size_t>(failure)];
}

TEST_F(ClientTest, RefusedConnectionSaysSo) {
  const Recorder::Heard heard = Send(UnusedPort(), Get()).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kConnect);
  EXPECT_EQ(heard.message, "connection refused");
  EXPECT_EQ(heard.failures, 1);
  EXPECT_EQ(FailuresOf(Stats(), CallFailure::kConnect), 1u);
  EXPECT_EQ(Stats().connections_open, 0u);
}

TEST_F(ClientTest, UnansweredConnectionTimesOut) {
  const BlackHole hole;
  const CallOptions options{.connect_timeout = milliseconds(30)};
  const Recorder::Heard heard = Send(hole.port(), Get(), {}, options).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kConnect);
  EXPECT_EQ(heard.message, "no connection within 30 ms");
}

TEST_F(ClientTest, SilentEngineTimesOut) {
  RawServer server(Silent(""));
  const CallOptions options{.first_byte_timeout = milliseconds(20)};
  const Recorder::Heard heard = Send(server.port(), Get(), {}, options).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kTimeout);
  EXPECT_EQ(heard.message, "no answer within 20 ms");
  EXPECT_EQ(heard.heads, 0);
  EXPECT_EQ(FailuresOf(Stats(), CallFailure::kTimeout), 1u);
}

TEST_F(ClientTest, InterimAnswersDoNotHoldTheFirstByteTimeoutUp) {
  RawServer server(Silent("HTTP/1.1 100 Continue\r\n\r\n"));
  const CallOptions options{.first_byte_timeout = milliseconds(20)};
  const Recorder::Heard heard = Send(server.port(), Get(), {}, options).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kTimeout);
  EXPECT_EQ(heard.message, "no answer within 20 ms");
}

TEST_F(ClientTest, EngineThatTakesNoRequestTimesOut) {
  const std::string body(64 << 20, 'x');
  testing::Signal over;
  RawServer server([&](Peer&, int) { over.Wait(); });
  const CallOptions options{.first_byte_timeout = milliseconds(20)};
  const Recorder::Heard heard =
      Send(server.port(), Post(body.size()), {body}, options).WaitForEnd();
  over.Raise();
  EXPECT_EQ(heard.failure, CallFailure::kTimeout);
}

TEST_F(ClientTest, SilenceInsideTheAnswerTimesOut) {
  const CallOptions options{.idle_timeout = milliseconds(20)};
  const std::string head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  for (const std::string& beginning : {std::string("HTTP/1.1 200 O"), head, head + "2\r\nok"}) {
    RawServer server(Silent(beginning));
    const Recorder::Heard heard = Send(server.port(), Get(), {}, options).WaitForEnd();
    EXPECT_EQ(heard.failure, CallFailure::kTimeout) << beginning;
    EXPECT_EQ(heard.message, "nothing came for 20 ms after " + std::to_string(beginning.size()) +
                                 " bytes of the answer");
    EXPECT_EQ(heard.ends, 0);
  }
}

TEST_F(ClientTest, ConnectionThatEndsBeforeTheAnswerIsAReset) {
  RawServer closing([](Peer& peer, int) { peer.ReadRequest(); });
  Recorder::Heard heard = Send(closing.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kReset);
  EXPECT_EQ(heard.message, "the connection was closed before the answer");
  EXPECT_EQ(closing.accepted(), 1) << "a fresh connection is not replaced";

  RawServer resetting([](Peer& peer, int) {
    peer.ReadRequest();
    peer.Reset();
  });
  heard = Send(resetting.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kReset);
  EXPECT_EQ(heard.message, "the connection was reset before the answer");
  EXPECT_EQ(FailuresOf(Stats(), CallFailure::kReset), 2u);
}

TEST_F(ClientTest, ConnectionThatEndsInsideTheAnswerIsTruncated) {
  const std::string length = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
  const std::string chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  for (const std::string& answer :
       {std::string("HTTP/1.1 200 OK\r\nx: "), length, length + "half", chunked,
        chunked + "5\r\nha", chunked + "4\r\nhalf\r\n", chunked + "4\r\nhalf\r\n0\r\n"}) {
    RawServer server(Once(answer));
    const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
    EXPECT_EQ(heard.failure, CallFailure::kTruncated) << answer;
    EXPECT_EQ(heard.message, "the connection was closed after " + std::to_string(answer.size()) +
                                 " bytes of the answer");
    EXPECT_EQ(heard.ends, 0);
    EXPECT_EQ(heard.failures, 1);
  }
}

TEST_F(ClientTest, ResetInsideABodyWithoutFramingIsTruncated) {
  testing::Signal heard_it;
  RawServer server([&](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\n\r\nsome");
    heard_it.Wait();
    peer.Reset();
  });
  Request& request = Send(server.port(), Get());
  request.WaitFor([](const Recorder::Heard& heard) { return heard.body == "some"; });
  heard_it.Raise();
  const Recorder::Heard heard = request.WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kTruncated);
  EXPECT_EQ(heard.message, "the connection was reset after 23 bytes of the answer");
}

TEST_F(ClientTest, GarbageIsRefusedAndNamed) {
  const struct {
    std::string answer;
    std::string message;
  } cases[] = {
      {"ERROR engine core died\n\n", "the answer is not HTTP: the first line is not HTTP"},
      {std::string("\0\1\2 what is this\r\n\r\n", 20),
       "the answer is not HTTP: the first line is not HTTP"},
      {"HTTP/1.1 abc OK\r\n\r\n",
       "the answer is not HTTP: the status is not a number of three digits"},
      {"HTTP/2.0 200 OK\r\n\r\n", "the answer is not HTTP: only HTTP/1.0 and HTTP/1.1 are served"},
      {"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
       "the answer is not HTTP: there is more than one Content-Length header"},
      {"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
       "the answer is not HTTP: there are both a Content-Length and a Transfer-Encoding header"},
      {"HTTP/1.1 200 OK\nx: y\n\n", "the answer is not HTTP: a line ends in a line feed alone"},
      {"HTTP/1.1 200 OK\r\nx: " + std::string(300'000, 'a'),
       "the answer is not HTTP: the headers are larger than the limit"},
      {"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
       "the answer switches to a protocol that was not asked for"},
  };
  uint64_t count = 0;
  for (const auto& [answer, message] : cases) {
    RawServer server(Silent(answer));
    const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
    EXPECT_EQ(heard.failure, CallFailure::kBadResponse) << answer.substr(0, 100);
    EXPECT_EQ(heard.message, message);
    EXPECT_EQ(heard.heads, 0);
    EXPECT_EQ(FailuresOf(Stats(), CallFailure::kBadResponse), ++count);
    EXPECT_EQ(Stats().connections_open, 0u);
  }
}

TEST_F(ClientTest, GarbageInsideAChunkedBodyIsRefusedAfterWhatWasGood) {
  RawServer server(
      Silent("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\nno size\r\n"));
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.body, "fine");
  EXPECT_EQ(heard.failure, CallFailure::kBadResponse);
  EXPECT_EQ(heard.message,
            "the answer's body is not HTTP: a chunk's size is not a hexadecimal number");
}

TEST_F(ClientTest, HeadOfExactlyTheLimitIsTaken) {
  MakeClient({.max_response_header_bytes = 1000, .read_buffer_bytes = 512});
  const std::string begin = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: ";
  const std::string fits = begin + std::string(1000 - begin.size() - 4, 'a') + "\r\n\r\nok";
  RawServer server(Silent(fits));
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "ok");
  RawServer larger(Silent(begin + std::string(1000 - begin.size() - 3, 'a') + "\r\n\r\nok"));
  EXPECT_EQ(Send(larger.port(), Get()).WaitForEnd().failure, CallFailure::kBadResponse);
}

// --- names

TEST_F(ClientTest, NamesAreResolvedAndRemembered) {
  int lookups = 0;
  MakeClient({}, [&](const std::string& host, net::Resolver::Done done) {
    EXPECT_EQ(host, "engine.test");
    ++lookups;
    loop().Post([done = std::move(done)]() mutable { done(std::vector{Numeric("127.0.0.1")}); });
  });
  RawServer server(Once("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Send(server.port(), Get(), {}, {}, nullptr, "engine.test").WaitForEnd().ends, 1);
  }
  EXPECT_EQ(lookups, 1);
  EXPECT_EQ(server.accepted(), 3);
}

TEST_F(ClientTest, LocalhostIsResolvedByTheSystem) {
  RawServer server(Once(Answer("ok")));
  EXPECT_EQ(Send(server.port(), Get(), {}, {}, nullptr, "localhost").WaitForEnd().body, "ok");
}

TEST_F(ClientTest, UnknownNameIsAConnectFailureEachTime) {
  int lookups = 0;
  MakeClient({}, [&](const std::string&, net::Resolver::Done done) {
    ++lookups;
    loop().Post([done = std::move(done)]() mutable {
      done(Fail(Code::kUnavailable, "host 'engine.test' cannot be resolved: not found"));
    });
  });
  for (int i = 0; i < 2; ++i) {
    const Recorder::Heard heard = Send(1, Get(), {}, {}, nullptr, "engine.test").WaitForEnd();
    EXPECT_EQ(heard.failure, CallFailure::kConnect);
    EXPECT_EQ(heard.message, "host 'engine.test' cannot be resolved: not found");
  }
}

TEST_F(ClientTest, NameThatIsNotResolvedInTimeIsAConnectFailure) {
  std::vector<net::Resolver::Done> held;
  MakeClient(
      {}, [&](const std::string&, net::Resolver::Done done) { held.push_back(std::move(done)); });
  const CallOptions options{.connect_timeout = milliseconds(10)};
  const Recorder::Heard heard = Send(1, Get(), {}, options, nullptr, "engine.test").WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kConnect);
  EXPECT_EQ(heard.message, "no connection within 10 ms");
  On([&] { held[0](std::vector{Numeric("127.0.0.1")}); });  // too late, and harmless
  EXPECT_EQ(Stats().connections_open, 0u);
}

TEST_F(ClientTest, AddressesAreTriedInOrder) {
  MakeClient({}, [&](const std::string&, net::Resolver::Done done) {
    loop().Post([done = std::move(done)]() mutable {
      done(std::vector{Numeric("127.0.0.2"), Numeric("127.0.0.3"), Numeric("127.0.0.1")});
    });
  });
  RawServer server(Once(Answer("third")));
  const BlackHole hole("127.0.0.3", server.port());
  // The second address never answers: it gets half of what is left.
  const CallOptions options{.connect_timeout = seconds(2)};
  Request& request = Send(server.port(), Get(), {}, options, nullptr, "engine.test");
  EXPECT_EQ(request.WaitForEnd().body, "third") << request.heard().message;
}

TEST_F(ClientTest, LastAddressSaysWhyNoneWasGood) {
  MakeClient({}, [&](const std::string&, net::Resolver::Done done) {
    loop().Post([done = std::move(done)]() mutable {
      done(std::vector{Numeric("127.0.0.2"), Numeric("127.0.0.3")});
    });
  });
  const Recorder::Heard heard =
      Send(UnusedPort(), Get(), {}, {}, nullptr, "engine.test").WaitForEnd();
  EXPECT_EQ(heard.message, "connection refused (tried 2 of 2 addresses)");
}

TEST_F(ClientTest, WantOfDescriptorsIsNotTheEnginesFault) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's own checks need descriptors";
#endif
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  ::setrlimit(RLIMIT_NOFILE, &none);
  const Recorder::Heard heard = Send(1, Get()).WaitForEnd();
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(heard.failure, CallFailure::kLocal);
  EXPECT_EQ(heard.message, "too many open files");
  EXPECT_EQ(FailuresOf(Stats(), CallFailure::kLocal), 1u);
}

}  // namespace
}  // namespace penstock::http
