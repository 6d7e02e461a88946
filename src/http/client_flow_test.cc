// Pausing, resuming, cancelling, and lifetimes.
#include <sys/socket.h>

#include <atomic>

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

constexpr std::string_view kChunkedHead = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

RawServer::Script Always(std::string answer) {
  return [answer = std::move(answer)](Peer& peer, int) {
    while (!peer.ReadRequest().empty()) {
      if (!peer.Write(answer)) return;
    }
  };
}

void PauseOnHead(Request& request) {
  request.on_head = [&request] { request.call->Pause(); };
}

TEST_F(ClientTest, NothingIsHeardBetweenPauseAndResume) {
  for (const std::string& answer :
       {Answer("ok"), std::string(kChunkedHead) + "1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        std::string("HTTP/1.1 204 No Content\r\n\r\n")}) {
    RawServer server(Always(answer));
    Request& request = Send(server.port(), Get(), {}, {}, PauseOnHead);
    request.WaitFor([](const Recorder::Heard& heard) { return heard.heads == 1; });
    // The whole answer has most likely come with its head; another exchange makes sure of turns
    // gone by.
    EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
    Recorder::Heard heard = request.heard();
    EXPECT_EQ(heard.pieces, 0);
    EXPECT_EQ(heard.ends, 0);
    On([&] {
      request.call->Resume();
      request.call->Resume();
      EXPECT_FALSE(request.heard().is_over()) << "a callback inside Resume";
      EXPECT_EQ(request.heard().pieces, 0);
    });
    heard = request.WaitForEnd();
    EXPECT_EQ(heard.ends, 1);
    EXPECT_EQ(heard.body, answer.find("204") == std::string::npos ? "ok" : "");
    EXPECT_EQ(client_->idle_connections(), 2u) << "both connections are in order";
    On([&] { client_->Forget("127.0.0.1", server.port()); });
  }
}

TEST_F(ClientTest, PauseAfterAPieceHoldsTheEndBack) {
  RawServer server(Always(Answer("ok")));
  Request& request =
      Send(server.port(), Get(), {}, {}, [](Request& r) { r.on_body = [&r] { r.call->Pause(); }; });
  request.WaitFor([](const Recorder::Heard& heard) { return heard.body == "ok"; });
  On([&] { EXPECT_FALSE(request.heard().is_over()); });
  On([&] { request.call->Resume(); });
  EXPECT_EQ(request.WaitForEnd().ends, 1);
}

TEST_F(ClientTest, PauseAndResumeInsideACallbackChangeNothing) {
  RawServer server(Always(std::string(kChunkedHead) + "2\r\nok\r\n0\r\n\r\n"));
  Request& request = Send(server.port(), Get(), {}, {}, [](Request& r) {
    r.on_head = r.on_body = [&r] {
      r.call->Pause();
      r.call->Resume();
    };
  });
  EXPECT_EQ(request.WaitForEnd().body, "ok");
}

TEST_F(ClientTest, PauseAgainBeforeTheTurnEndsHolds) {
  RawServer server(Always(Answer("ok")));
  Request& request = Send(server.port(), Get(), {}, {}, PauseOnHead);
  request.WaitFor([](const Recorder::Heard& heard) { return heard.heads == 1; });
  On([&] {
    request.call->Resume();
    request.call->Pause();
  });
  On([] {});
  On([&] { EXPECT_EQ(request.heard().pieces, 0); });
  On([&] { request.call->Resume(); });
  EXPECT_EQ(request.WaitForEnd().body, "ok");
}

TEST_F(ClientTest, PauseBeforeTheConnectionHoldsTheAnswerBack) {
  RawServer server(Always(Answer("ok")));
  Request& request = requests_.emplace_back();
  const CallOptions options{.connect_timeout = seconds(60), .first_byte_timeout = seconds(60)};
  On([&] {
    SendOnLoop(request, server.port(), Get(), {}, options);
    request.call->Pause();
  });
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
  EXPECT_EQ(request.heard().heads, 0);
  On([&] { request.call->Resume(); });
  EXPECT_EQ(request.WaitForEnd().body, "ok");
}

TEST_F(ClientTest, PausedEngineIsNotRead) {
  // More than the kernel's buffers of both sides take.
  constexpr size_t kPiece = 64 * 1024;
  constexpr int kPieces = 1024;
  std::atomic<int> written{0};
  RawServer server([&](Peer& peer, int number) {
    peer.ReadRequest();
    if (number > 0) {
      peer.Write(Answer(""));
      return;
    }
    peer.Write("HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(kPiece * kPieces) +
               "\r\n\r\n");
    const std::string piece(kPiece, 'x');
    for (int i = 0; i < kPieces && peer.Write(piece); ++i) ++written;
    peer.WaitForEnd();
  });
  Request& request = Send(server.port(), Get(), {}, {}, [](Request& r) {
    r.on_body = [&r, is_first = true]() mutable {
      if (std::exchange(is_first, false)) r.call->Pause();
    };
  });
  request.WaitFor([](const Recorder::Heard& heard) { return heard.pieces == 1; });
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
  EXPECT_EQ(request.heard().pieces, 1);
  EXPECT_LT(written, kPieces);
  On([&] { request.call->Resume(); });
  EXPECT_EQ(request.WaitForEnd().body.size(), kPiece * kPieces);
}

TEST_F(ClientTest, TimeoutsDoNotRunWhilePaused) {
  RawServer server([](Peer& peer, int) {
    if (peer.ReadRequest().starts_with("GET /head")) peer.Write(kChunkedHead);
    peer.WaitForEnd();
  });
  const CallOptions options{.first_byte_timeout = milliseconds(30),
                            .idle_timeout = milliseconds(30)};
  Request& in_body = Send(server.port(), Get("/head"), {}, options, PauseOnHead);
  in_body.WaitFor([](const Recorder::Heard& heard) { return heard.heads == 1; });
  Request& in_head = requests_.emplace_back();
  On([&] {
    SendOnLoop(in_head, server.port(), Get(), {}, options);
    in_head.call->Pause();
  });
  // Two others, one after the other, time out meanwhile.
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Send(server.port(), Get(), {}, options).WaitForEnd().failure, CallFailure::kTimeout);
  }
  EXPECT_FALSE(in_body.heard().is_over());
  EXPECT_FALSE(in_head.heard().is_over());
  On([&] {
    in_body.call->Resume();
    in_head.call->Resume();
  });
  EXPECT_EQ(in_body.WaitForEnd().failure, CallFailure::kTimeout);
  EXPECT_EQ(in_head.WaitForEnd().failure, CallFailure::kTimeout);
}

TEST_F(ClientTest, CallMayBeDestroyedInsideEachCallback) {
  struct {
    const char* where;
    std::function<void()> Recorder::*hook;
    std::string answer;
  } cases[] = {
      {"head", &Recorder::on_head, Answer("ok")},
      {"head of an empty answer", &Recorder::on_head, Answer("")},
      {"body", &Recorder::on_body, Answer("ok")},
      {"chunk", &Recorder::on_body, std::string(kChunkedHead) + "2\r\nok\r\n0\r\n\r\n"},
      {"chunk before garbage", &Recorder::on_body, std::string(kChunkedHead) + "2\r\nok\r\nxx"},
      {"body until the end", &Recorder::on_body, "HTTP/1.1 200 OK\r\n\r\nok"},
      {"end", &Recorder::on_end, Answer("ok")},
      {"end, connection closes", &Recorder::on_end,
       "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"},
      {"failure", &Recorder::on_failure, "garbage\r\n\r\n"},
  };
  for (const auto& c : cases) {
    RawServer server(Always(c.answer));
    Signal done;
    Request& request = Send(server.port(), Get(), {}, {}, [&](Request& r) {
      r.*c.hook = [&] {
        r.call.reset();
        done.Raise();
      };
    });
    done.Wait();
    On([] {});
    const Recorder::Heard heard = request.heard();
    const bool is_terminal = c.hook == &Recorder::on_end || c.hook == &Recorder::on_failure;
    EXPECT_EQ(heard.ends + heard.failures, is_terminal ? 1 : 0) << c.where;
    EXPECT_EQ(Stats().connections_open - Stats().connections_idle, 0u) << c.where;
  }
}

TEST_F(ClientTest, DestroyedCallClosesItsConnectionAtOnce) {
  Signal here[3], closed[3];
  RawServer server([&](Peer& peer, int number) {
    peer.ReadHead();
    if (number == 1) peer.Write(kChunkedHead);
    if (number == 2) peer.Write(std::string(kChunkedHead) + "5\r\nhello\r\n");
    here[number].Raise();
    peer.WaitForEnd();
    closed[number].Raise();
  });
  const std::string body(64 << 20, 'x');
  for (int i = 0; i < 3; ++i) {
    // The first one has a request that cannot be sent whole.
    Request& request =
        i == 0 ? Send(server.port(), Post(body.size()), {body}) : Send(server.port(), Get());
    here[i].Wait();
    On([&] { request.call.reset(); });
    closed[i].Wait();
    EXPECT_EQ(Stats().connections_open, 0u);
    EXPECT_FALSE(request.heard().is_over());
  }
  EXPECT_EQ(Stats().cancelled, 3u);
}

TEST_F(ClientTest, CallMayBeDestroyedBeforeItsConnectionIsThere) {
  RawServer server(Always(Answer("ok")));
  Request& request = requests_.emplace_back();
  On([&] {
    SendOnLoop(request, server.port(), Get());
    request.call.reset();
    SendOnLoop(request, 1, Get(), {}, {}, "localhost");
    request.call.reset();
  });
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().body, "ok");
  const Recorder::Heard heard = request.heard();
  EXPECT_EQ(heard.heads + heard.ends + heard.failures, 0);
}

TEST_F(ClientTest, CallsThatOutliveTheClientHearNothing) {
  Signal here;
  RawServer server([&](Peer& peer, int) {
    peer.ReadRequest();
    peer.Write(Answer("ok"));
    here.Raise();
    peer.WaitForEnd();
  });
  Request& paused = Send(server.port(), Get(), {}, {}, PauseOnHead);
  paused.WaitFor([](const Recorder::Heard& heard) { return heard.heads == 1; });
  Request& connecting = requests_.emplace_back();
  Request& resolving = requests_.emplace_back();
  On([&] {
    SendOnLoop(connecting, server.port(), Get());
    SendOnLoop(resolving, server.port(), Get(), {}, {}, "localhost");
    paused.call->Resume();
    client_.reset();
    paused.call->Pause();
    paused.call->Resume();
    connecting.call->Pause();
  });
  MakeClient({});
  EXPECT_EQ(Send(server.port(), Get()).WaitForEnd().ends, 1);
  EXPECT_FALSE(paused.heard().is_over());
  EXPECT_FALSE(connecting.heard().is_over());
  EXPECT_FALSE(resolving.heard().is_over());
}

TEST_F(ClientTest, ClientMayBeDestroyedInsideACallback) {
  RawServer server(Always(Answer("ok")));
  for (const auto hook : {&Recorder::on_body, &Recorder::on_end}) {
    Signal done;
    Send(server.port(), Get(), {}, {}, [&](Request& r) {
      r.*hook = [&] {
        client_.reset();
        done.Raise();
      };
    });
    done.Wait();
    MakeClient({});
  }
}

TEST_F(ClientTest, ManyCallsAtTheSameTimeKeepApart) {
  RawServer server([](Peer& peer, int) {
    while (true) {
      const std::string request = peer.ReadRequest();
      if (request.empty()) return;
      const std::string path = request.substr(4, request.find(' ', 4) - 4);
      // Some end their connection, some send in pieces.
      const size_t n = std::stoul(path.substr(1));
      if (n % 7 == 3) {
        peer.Write("HTTP/1.1 200 OK\r\n\r\n" + path);
        return;
      }
      for (const char c : std::string(kChunkedHead) + "1\r\n/\r\n") peer.Write({&c, 1});
      char size[16];
      std::snprintf(size, sizeof(size), "%zx\r\n", path.size() - 1);
      peer.Write(size + path.substr(1) + "\r\n0\r\n\r\n");
    }
  });
  constexpr int kLanes = 16, kEach = 40;
  std::atomic<int> right{0};
  Signal done;
  std::list<Request> lanes(kLanes);
  std::function<void(Request&, int)> next = [&](Request& lane, int number) {
    const std::string path = "/" + std::to_string(number);
    auto before = std::make_shared<size_t>(lane.heard().body.size());
    lane.on_end = [&, number, path, before] {
      if (lane.heard().body.substr(*before) == path) ++right;
      if (right == kLanes * kEach) done.Raise();
      if (number % kEach < kEach - 1) loop().Post([&, number] { next(lane, number + 1); });
    };
    SendOnLoop(lane, server.port(), Get(path));
  };
  On([&] {
    int lane_number = 0;
    for (Request& lane : lanes) next(lane, kEach * lane_number++);
  });
  done.Wait();
  On([&] { lanes.clear(); });
  EXPECT_EQ(right, kLanes * kEach);
}

}  // namespace
}  // namespace penstock::http
