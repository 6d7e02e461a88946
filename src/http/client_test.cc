// What an answer says, and how the listener hears it.
#include "http/client.h"

#include <future>

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

// Answers every request of every connection with the same bytes.
RawServer::Script Always(std::string answer) {
  return [answer = std::move(answer)](Peer& peer, int) {
    while (!peer.ReadRequest().empty()) {
      if (!peer.Write(answer)) return;
    }
  };
}

// Answers one request, then closes.
RawServer::Script Once(std::string answer) {
  return [answer = std::move(answer)](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write(answer);
  };
}

TEST_F(ClientTest, RequestArrivesAsGiven) {
  std::string arrived;
  RawServer server([&](Peer& peer, int) {
    arrived = peer.ReadRequest();
    peer.Write(Answer(""));
    peer.WaitForEnd();
  });
  const std::vector<std::string_view> body = {"one", "", " two ", "three"};
  Request& request = Send(server.port(), Post(13), body);
  EXPECT_EQ(request.WaitForEnd().ends, 1);
  EXPECT_EQ(arrived, Post(13) + "one two three");
}

TEST_F(ClientTest, HeadSaysEverything) {
  RawServer server(Always(
      "HTTP/1.1 418 I'm a teapot\r\nX-One: a\r\nx-two:\t b \r\nContent-Length: 2\r\n\r\nok"));
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.status, 418);
  EXPECT_EQ(heard.reason, "I'm a teapot");
  ASSERT_EQ(heard.headers.size(), 3u);
  EXPECT_EQ(heard.headers[0], (std::pair<std::string, std::string>("X-One", "a")));
  EXPECT_EQ(heard.headers[1], (std::pair<std::string, std::string>("x-two", "b")));
  EXPECT_TRUE(heard.has_length);
  EXPECT_EQ(heard.content_length, 2u);
  EXPECT_EQ(heard.body, "ok");
  EXPECT_EQ(heard.heads, 1);
  EXPECT_EQ(heard.ends, 1);
}

TEST_F(ClientTest, EmptyBodyEndsAtOnce) {
  RawServer server(Always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.ends, 1);
  EXPECT_EQ(heard.pieces, 0);
}

TEST_F(ClientTest, ChunksThatArriveTogetherAreOnePiece) {
  RawServer server(
      Always("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
             "3\r\none\r\n4;x=y\r\n two\r\n6\r\n three\r\n0\r\nx-trailer: z\r\n\r\n"));
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.body, "one two three");
  EXPECT_EQ(heard.ends, 1);
  EXPECT_FALSE(heard.has_length);
  EXPECT_EQ(Stats().connections_idle, 1u);
}

TEST_F(ClientTest, AnswerMayComeInAnyPieces) {
  const std::string answer =
      "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
      "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n"
      "b\r\nhello world\r\n1\r\n!\r\n0\r\n\r\n";
  RawServer server([&](Peer& peer, int) {
    for (size_t cut = 1; cut < answer.size(); ++cut) {
      peer.ReadHead();
      peer.Write(answer.substr(0, cut));
      // The other half follows when the first is likely to have been read.
      std::this_thread::yield();
      if (!peer.Write(answer.substr(cut))) return;
    }
    peer.ReadHead();
    for (const char c : answer) peer.Write({&c, 1});
    peer.WaitForEnd();
  });
  for (size_t i = 0; i < answer.size(); ++i) {
    const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
    ASSERT_EQ(heard.body, "hello world!") << heard.message;
    ASSERT_EQ(heard.headers.size(), 2u);
    ASSERT_EQ(heard.heads, 1);
  }
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(ClientTest, BodyWithoutFramingEndsWithTheConnection) {
  RawServer server(Once("HTTP/1.1 200 OK\r\n\r\nall there is"));
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.body, "all there is");
  EXPECT_EQ(heard.ends, 1);
  EXPECT_FALSE(heard.has_length);
  EXPECT_EQ(client_->idle_connections(), 0u);
}

TEST_F(ClientTest, Http10AnswerIsUnderstoodAndItsConnectionNotKept) {
  RawServer server(Once("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"));
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "ok");
  EXPECT_EQ(client_->idle_connections(), 0u);
}

TEST_F(ClientTest, SomeAnswersHaveNoBody) {
  RawServer server([](Peer& peer, int) {
    peer.ReadHead();
    peer.Write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");  // to HEAD
    peer.ReadHead();
    peer.Write("HTTP/1.1 204 No Content\r\n\r\n");
    peer.ReadHead();
    peer.Write("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n");
    peer.ReadHead();
    peer.Write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");  // to HEAD
    peer.ReadHead();
    peer.Write(Answer("last"));
    peer.WaitForEnd();
  });
  const std::string head = "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n";
  const Recorder::Heard heard = Send(server.port(), head).WaitForEnd();
  EXPECT_EQ(heard.ends, 1);
  EXPECT_EQ(heard.content_length, 1000u);
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().status, 204);
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().status, 304);
  EXPECT_EQ(Send(server.port(), head).WaitForEnd().ends, 1);
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "last");
  EXPECT_EQ(server.accepted(), 1) << "each of them leaves the connection in order";
}

TEST_F(ClientTest, InterimAnswersAreSkipped) {
  RawServer server(
      Always("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" +
             Answer("{}")));
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.status, 200);
  EXPECT_EQ(heard.body, "{}");
  EXPECT_EQ(heard.heads, 1);
}

TEST_F(ClientTest, InterimAnswersWithoutEndAreRefused) {
  std::string many;
  for (int i = 0; i < 17; ++i) many += "HTTP/1.1 102 Processing\r\n\r\n";
  RawServer server(Always(many + Answer("")));
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_EQ(heard.failure, CallFailure::kBadResponse);
  EXPECT_EQ(heard.message, "there are more than 16 interim answers");
}

TEST_F(ClientTest, LargeBodiesArriveWholeInBoundedPieces) {
  std::string large;
  for (int i = 0; large.size() < (8u << 20); ++i) large += std::to_string(i) + ",";
  RawServer server([&](Peer& peer, int) {
    peer.ReadHead();
    peer.Write(Answer(large));
    peer.ReadHead();
    peer.Write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    char size[32];
    for (size_t at = 0, step = 1; at < large.size(); at += step, step = step * 3 % 200'001 + 1) {
      const std::string piece = large.substr(at, step);
      std::snprintf(size, sizeof(size), "%zx\r\n", piece.size());
      peer.Write(size + piece + "\r\n");
    }
    peer.Write("0\r\n\r\n");
    peer.WaitForEnd();
  });
  EXPECT_TRUE(Send(server.port(), Get()).WaitForEnd().body == large);
  const Recorder::Heard heard = Send(server.port(), Get()).WaitForEnd();
  EXPECT_TRUE(heard.body == large);
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(ClientTest, LargeRequestArrivesWhole) {
  const std::string part(5 << 20, 'x'), tail(3 << 20, 'y');
  std::string arrived;
  RawServer server([&](Peer& peer, int) {
    arrived = peer.ReadRequest();
    peer.Write(Answer(""));
    peer.WaitForEnd();
  });
  std::vector<std::string_view> body(200, "small");  // more pieces than one system call takes
  body.push_back(part);
  body.push_back(tail);
  const size_t bytes = 1000 + part.size() + tail.size();
  EXPECT_EQ(Send(server.port(), Post(bytes), body).WaitForEnd().ends, 1);
  std::string expected = Post(bytes);
  for (const std::string_view piece : body) expected += piece;
  EXPECT_TRUE(arrived == expected);
  EXPECT_EQ(client_->idle_connections(), 1u);
}

TEST_F(ClientTest, AnswerBeforeTheRequestIsSentIsHeardAndEndsTheConnection) {
  const std::string body(64 << 20, 'x');
  std::promise<void> is_heard;
  RawServer server([&](Peer& peer, int) {
    peer.ReadHead();
    peer.Write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig");
    // Reading on could take the whole request before the client looks at the answer.
    is_heard.get_future().wait();
    peer.WaitForEnd();
  });
  const Recorder::Heard heard = Send(server.port(), Post(body.size()), {body}).WaitForEnd();
  is_heard.set_value();
  EXPECT_EQ(heard.status, 413);
  EXPECT_EQ(heard.body, "big");
  EXPECT_EQ(heard.ends, 1);
  EXPECT_EQ(client_->idle_connections(), 0u);
  EXPECT_EQ(Stats().connections_open, 0u);
}

TEST_F(ClientTest, AnswerOfAnEngineThatThenClosesOverTheRequestIsHeard) {
  const std::string body(16 << 20, 'x');
  RawServer server([&](Peer& peer, int) {
    peer.ReadHead();
    peer.Write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig");
    ::shutdown(peer.fd(), SHUT_WR);
    peer.WaitForEnd();
  });
  const Recorder::Heard heard = Send(server.port(), Post(body.size()), {body}).WaitForEnd();
  EXPECT_EQ(heard.status, 413) << heard.message;
  EXPECT_EQ(heard.ends, 1);
}

}  // namespace
}  // namespace penstock::http
