// Which connections are kept, and what becomes of them.
#include <sys/socket.h>

#include "http/client.h"
#include "http/client_testing.h"

namespace penstock::http {
namespace {

using testing::Answer;
using testing::ClientTest;
using testing::Get;
using testing::Peer;
using testing::Post;
using testing::RawServer;
using testing::Recorder;
using testing::Request;
using testing::Signal;

// Answers each request with the number of its connection.
void SayNumber(Peer& peer, int number) {
  while (!peer.ReadRequest().empty()) {
    if (!peer.Write(Answer(std::to_string(number)))) return;
  }
}

TEST_F(ClientTest, ConnectionIsReused) {
  RawServer server(SayNumber);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "0");
  const ClientStats stats = Stats();
  EXPECT_EQ(stats.requests, 5u);
  EXPECT_EQ(stats.connections_opened, 1u);
  EXPECT_EQ(stats.connections_open, 1u);
  EXPECT_EQ(stats.connections_idle, 1u);
  EXPECT_EQ(stats.reused, 4u);
  EXPECT_EQ(stats.replaced_stale, 0u);
}

TEST_F(ClientTest, ConnectionUsedLastIsReusedFirst) {
  Signal go[2];
  RawServer server([&](Peer& peer, int number) {
    peer.ReadRequest();
    go[number].Wait();
    peer.Write(Answer(std::to_string(number)));
    SayNumber(peer, number);
  });
  Request& first = Send(server.port(), Get());
  Eventually([&] { return server.accepted() == 1; });
  Request& second = Send(server.port(), Get());
  go[1].Raise();
  EXPECT_EQ(second.WaitForEnd().body, "1");
  go[0].Raise();
  EXPECT_EQ(first.WaitForEnd().body, "0");
  EXPECT_EQ(client_->idle_connections(), 2u);
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "0");
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "0");
}

TEST_F(ClientTest, EachEndpointHasItsOwnConnections) {
  RawServer a(SayNumber), b(SayNumber);
  EXPECT_EQ(Send(a.port(), Get()).WaitForEnd().ends, 1);
  EXPECT_EQ(Send(b.port(), Get()).WaitForEnd().ends, 1);
  EXPECT_EQ(Send(a.port(), Get(), {}, {}, nullptr, "localhost").WaitForEnd().ends, 1);
  EXPECT_EQ(client_->idle_connections(), 3u);
  EXPECT_EQ(Stats().reused, 0u);
}

TEST_F(ClientTest, IdleConnectionsAreBounded) {
  MakeClient({.max_idle_per_endpoint = 2});
  Signal go;
  RawServer server([&](Peer& peer, int) {
    peer.ReadRequest();
    go.Wait();
    peer.Write(Answer(""));
    peer.WaitForEnd();
  });
  std::vector<Request*> sent;
  for (int i = 0; i < 5; ++i) sent.push_back(&Send(server.port(), Get()));
  go.Raise();
  for (Request* request : sent) EXPECT_EQ(request->WaitForEnd().ends, 1);
  EXPECT_EQ(client_->idle_connections(), 2u);
  EXPECT_EQ(Stats().connections_open, 2u);
}

TEST_F(ClientTest, IdleConnectionsCloseAfterAWhile) {
  MakeClient({.idle_connection_timeout = milliseconds(10)});
  Signal closed;
  RawServer server([&](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write(Answer(""));
    peer.WaitForEnd();
    closed.Raise();
  });
  Send(server.port(), Get()).WaitForEnd();
  closed.Wait();
  EXPECT_EQ(client_->idle_connections(), 0u);
  Eventually([&] { return Stats().connections_open == 0; });
  EXPECT_EQ(Stats().idle_closed, 1u);
}

TEST_F(ClientTest, IdleConnectionThatTheEngineEndsLeavesThePool) {
  for (const bool resets : {false, true}) {
    Signal go;
    RawServer server([&](Peer& peer, int) {
      peer.ReadRequest();
      peer.Write(Answer(""));
      go.Wait();
      if (resets) peer.Reset();
    });
    EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
    EXPECT_EQ(client_->idle_connections(), 1u);
    go.Raise();
    Eventually([&] { return client_->idle_connections() == 0; });
    EXPECT_EQ(Stats().connections_open, 0u);
  }
  EXPECT_EQ(Stats().idle_closed, 2u);
  EXPECT_EQ(Stats().garbage, 0u);
}

TEST_F(ClientTest, IdleConnectionThatSaysSomethingLeavesThePool) {
  Signal go;
  RawServer server([&](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write(Answer(""));
    go.Wait();
    peer.Write(Answer("unasked"));
    peer.WaitForEnd();
  });
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
  go.Raise();
  Eventually([&] { return client_->idle_connections() == 0; });
  EXPECT_EQ(Stats().garbage, 1u);
}

TEST_F(ClientTest, BytesBeyondTheAnswerEndTheConnection) {
  const std::string chunked =
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
  uint64_t count = 0;
  for (const std::string& answer :
       {Answer("ok"), chunked, std::string("HTTP/1.1 204 No Content\r\n\r\n")}) {
    RawServer server([&](Peer& peer, int number) {
      peer.ReadRequest();
      if (number == 0) {
        peer.Write(answer + Answer("evil"));
        peer.WaitForEnd();
      } else {
        peer.Write(Answer("good"));
      }
    });
    const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
    EXPECT_EQ(heard.ends, 1);
    EXPECT_EQ(heard.failures, 0);
    EXPECT_EQ(Stats().garbage, ++count);
    EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "good");
  }
}

TEST_F(ClientTest, ConnectionThatTheEngineWantsToCloseIsNotKept) {
  RawServer server([](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    peer.WaitForEnd();
  });
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "ok");
  EXPECT_EQ(Stats().connections_open, 0u);
}

// Ends a kept connection at its second request, `how` each time.
RawServer::Script EndAtSecond(const std::function<void(Peer&)>& how) {
  return [how](Peer& peer, int number) {
    peer.ReadRequest();
    peer.Write(Answer(std::to_string(number)));
    if (number > 0) return SayNumber(peer, number);
    peer.ReadRequest();
    how(peer);
  };
}

TEST_F(ClientTest, DeadKeptConnectionIsReplacedUnseen) {
  const std::string body(100'000, 'x');
  for (const bool resets : {false, true}) {
    RawServer server(EndAtSecond([resets](Peer& peer) {
      if (resets) peer.Reset();
    }));
    EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "0");
    const Recorder::Heard heard =
        Send(server.port(), Post(body.size() + 1), {body, "y"}).WaitForEnd();
    EXPECT_EQ(heard.body, "1") << heard.message;
    EXPECT_EQ(heard.heads, 1);
    EXPECT_EQ(server.accepted(), 2);
  }
  EXPECT_EQ(Stats().replaced_stale, 2u);
  EXPECT_EQ(Stats().failures[static_cast<size_t>(CallFailure::kReset)], 0u);
}

TEST_F(ClientTest, ConnectionThatDiesWhileALargeRequestIsSentIsReplaced) {
  const std::string body(32 << 20, 'x');
  std::string arrived;
  RawServer server([&](Peer& peer, int number) {
    peer.ReadRequest();
    peer.Write(Answer("0"));
    if (number == 0) {
      peer.ReadHead();
      peer.Reset();
    } else {
      arrived = "whole";
    }
  });
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
  EXPECT_EQ(Send(server.port(), Post(body.size()), {body}).WaitForEnd().body, "0");
  On([] {});
  EXPECT_EQ(Stats().replaced_stale, 1u);
}

TEST_F(ClientTest, DeadKeptConnectionIsReplacedOnceOnly) {
  RawServer server([](Peer& peer, int number) {
    peer.ReadRequest();
    if (number > 0) return;
    peer.Write(Answer(""));
    peer.ReadRequest();
  });
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kReset);
  EXPECT_EQ(heard.failures, 1);
  EXPECT_EQ(server.accepted(), 2);
  EXPECT_EQ(Stats().replaced_stale, 1u);
}

TEST_F(ClientTest, KeptConnectionThatDiesInsideAnAnswerIsNotReplaced) {
  RawServer server(EndAtSecond([](Peer& peer) { peer.Write("H"); }));
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kTruncated);
  EXPECT_EQ(heard.message, "the connection was closed after 1 bytes of the answer");
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(ClientTest, ReplacementThatIsRefusedIsAConnectFailure) {
  auto server = std::make_unique<RawServer>(SayNumber);
  const uint16_t port = server->port();
  Request& second = requests_.emplace_back();
  // The engine ends inside the callback, so the client finds out by its own request.
  Request& first = Send(port, Get(), {}, {}, [&](Request& request) {
    request.on_end = [&] {
      server.reset();
      SendOnLoop(second, port, Get());
    };
  });
  first.WaitForEnd();
  const Recorder::Heard heard = second.WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kConnect);
  EXPECT_EQ(heard.message, "connection refused");
  EXPECT_EQ(Stats().replaced_stale, 1u);
  EXPECT_EQ(Stats().connections_open, 0u);
}

TEST_F(ClientTest, ForgottenEndpointLosesItsIdleConnections) {
  Signal closed;
  RawServer server([&](Peer& peer, int number) {
    SayNumber(peer, number);
    closed.Raise();
  });
  RawServer other(SayNumber);
  Send(server.port(), Get()).WaitForEnd();
  Send(other.port(), Get()).WaitForEnd();
  On([&] {
    client_->Forget("127.0.0.1", server.port());
    client_->Forget("127.0.0.1", server.port());
    client_->Forget("unknown", 1);
  });
  closed.Wait();
  EXPECT_EQ(client_->idle_connections(), 1u);
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "1");
}

TEST_F(ClientTest, ConnectionInUseWhenItsEndpointIsForgottenIsNotKept) {
  Signal go;
  RawServer server([&](Peer& peer, int number) {
    peer.ReadRequest();
    if (number == 0) go.Wait();
    peer.Write(Answer(std::to_string(number)));
    SayNumber(peer, number);
  });
  Request& first = Send(server.port(), Get());
  Eventually([&] { return server.accepted() == 1; });
  On([&] { client_->Forget("127.0.0.1", server.port()); });
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "1");
  go.Raise();
  EXPECT_EQ(first.WaitForEnd().body, "0");
  EXPECT_EQ(client_->idle_connections(), 1u) << "the one that was opened after";
}

TEST_F(ClientTest, NextRequestInsideOnEndGoesOutOnTheSameConnection) {
  RawServer server(SayNumber);
  Request& second = requests_.emplace_back();
  Request& first = Send(server.port(), Get(), {}, {}, [&](Request& request) {
    request.on_end = [&] {
      request.call.reset();
      SendOnLoop(second, server.port(), Get());
    };
  });
  EXPECT_EQ(first.WaitForEnd().ends, 1);
  EXPECT_EQ(second.WaitForEnd().ends, 1);
  EXPECT_EQ(server.accepted(), 1);
  EXPECT_EQ(Stats().reused, 1u);
}

}  // namespace
}  // namespace penstock::http
